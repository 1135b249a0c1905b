//! Any fragments into the whole pipeline, beside a plain model of reassembly: exactly the datagrams that the model makes come
//! out, byte for byte, and nothing of the others.
//!
//! The input is a row of records of four bytes: which datagram and family; offset and length in units of 8; whether others
//! follow and what it is filled with; time that passes.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use config::Policy;
use libfuzzer_sys::fuzz_target;
use millrace_tests::packet::ip;
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use units::Nanos;

/// Sessions that end soon: an input is over when the last has.
const POLICY: &str = "[firewall]\ndefault = \"allow\"\n[fragments]\nper_datagram = 8\ntimeout = \"2s\"\n\
    [[neighbor]]\nport = \"inside\"\naddress = \"10.0.0.11\"\nmac = \"02:04:0a:00:00:0b\"\n\
    [[neighbor]]\nport = \"inside\"\naddress = \"2001:db8:10::11\"\nmac = \"06:0d:00:00:00:11\"\n";

static TABLES: LazyLock<(Policy, Arc<millrace_tests::rig::Snapshot>)> = LazyLock::new(|| {
    let sessions = "capacity = 32\ntimeouts = { tcp_established = \"25s\", tcp_closing = \"20s\", udp_two_way = \"20s\", other = \"20s\" }";
    Rig::tables(&format!("{TWO_PORTS}{POLICY}").replace("capacity = 4_096", sessions))
});

/// Fragments one datagram may come in, as the policy says.
const PER_DATAGRAM: usize = 8;
/// How long a datagram is waited for, in milliseconds, as the policy says.
const TIMEOUT: u64 = 2_000;
/// A protocol without ports and checksum, so that any bytes are a datagram.
const PROTOCOL: u8 = 253;

/// One fragment: where it begins and ends, whether others follow, what it is filled with.
type Piece = (usize, usize, bool, u8);

/// A datagram as the model knows it.
#[derive(Default)]
struct Modelled {
    born: u64,
    pieces: Vec<Piece>,
    condemned: bool,
}

/// Takes one more fragment into the model; returns the bytes of the datagram if that completes it.
fn take(datagrams: &mut BTreeMap<(bool, u16), Modelled>, key: (bool, u16), now: u64, new: Piece) -> Option<Vec<u8>> {
    let datagram = datagrams.entry(key).or_insert_with(|| Modelled { born: now, ..Modelled::default() });
    if now - datagram.born >= TIMEOUT {
        *datagram = Modelled { born: now, ..Modelled::default() };
    }
    if datagram.condemned || datagram.pieces.contains(&new) {
        return None;
    }
    datagram.pieces.push(new);
    let mut pieces = datagram.pieces.clone();
    pieces.sort_unstable();
    let overlap = pieces.windows(2).any(|pair| pair[0].1 > pair[1].0);
    let last: Vec<_> = pieces.iter().filter(|piece| !piece.2).collect();
    let beyond = last.first().is_some_and(|end| pieces.iter().any(|piece| piece.2 && piece.1 >= end.1));
    if overlap || beyond || last.len() > 1 || pieces.len() > PER_DATAGRAM {
        datagram.condemned = true;
        return None;
    }
    let joined = pieces[0].0 == 0 && pieces.windows(2).all(|pair| pair[0].1 == pair[1].0);
    if last.is_empty() || !joined {
        return None;
    }
    datagrams.remove(&key);
    Some(pieces.iter().flat_map(|piece| vec![piece.3; piece.1 - piece.0]).collect())
}

/// Which datagram a frame that came out belongs to, where in it, and what it carries.
fn read(frame: &[u8]) -> ((bool, u16), usize, &[u8]) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if frame[12] == 0x08 {
        ((false, word(18)), usize::from(word(20) & 0x1fff) * 8, &frame[34..14 + usize::from(word(16))])
    } else {
        ((true, word(60)), usize::from(word(56) & 0xfff8), &frame[62..])
    }
}

fuzz_target!(|input: &[u8]| {
    let (policy, snapshot) = &*TABLES;
    let workers = 1 + u16::from(input.first().is_some_and(|byte| byte & 0x80 != 0));
    let layout = Layout { workers, queues: 1, buffers: 128 };
    let mut rig = Rig::over(policy.clone(), Arc::clone(snapshot), layout);
    let (mut datagrams, mut now) = (BTreeMap::new(), 0);
    for record in input.chunks_exact(4).take(100) {
        let (is_v6, number) = (record[0] & 0x10 != 0, u16::from(record[0] & 0x03));
        let (begin, len) = (usize::from(record[1] >> 4) * 8, (1 + usize::from(record[1] & 0x07)) * 8);
        let (more, fill) = (record[2] & 1 != 0, record[2] >> 6);
        let time = u64::from(record[3] >> 6) * 700;
        if time > 0 {
            rig.leap(Nanos::from_millis(time));
            now += time;
        }
        // A whole packet is no fragment.
        if begin == 0 && !more {
            continue;
        }
        let (source, destination) =
            if is_v6 { ("2001:db8:51::7", "2001:db8:10::11") } else { ("198.51.100.7", "10.0.0.11") };
        let packet = ip(source, destination, PROTOCOL, &vec![fill; len]).id(number);
        rig.put(OUTSIDE, &packet.fragment(u16::try_from(begin).expect("small"), more));
        rig.settle();
        let expected = take(&mut datagrams, (is_v6, number), now, (begin, begin + len, more, fill));
        let came = rig.take();
        let mut out = vec![0xff; expected.as_ref().map_or(0, Vec::len)];
        for (side, frame) in &came {
            let (key, offset, bytes) = read(frame);
            assert_eq!((*side, key), (INSIDE, (is_v6, number)), "nothing of another datagram");
            out.get_mut(offset..offset + bytes.len()).expect("inside the datagram").copy_from_slice(bytes);
        }
        assert_eq!(out, expected.unwrap_or_default(), "exactly the bytes the model makes");
    }
    rig.assert_accounted();
});
