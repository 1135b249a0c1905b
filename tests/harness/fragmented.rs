//! Datagrams in fragments, as they are put in and as they are looked at when they have come out.

use std::collections::{BTreeMap, HashSet};

use crate::packet::{Packet, ping, pong};
use crate::rig::{INSIDE, Layout, OUTSIDE, Rig, Side, TWO_PORTS};

/// What a rig of fragments has beside its two ports.
pub const FRAGMENTS: &str = include_str!("../fixtures/fragments.toml");

/// So many bytes, no two neighbors alike.
#[must_use]
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 13 % 251).expect("below 251")).collect()
}

/// A rig that knows every station's MAC, so that what should pass does at once.
#[must_use]
pub fn knowing(text: &str, layout: Layout) -> Rig {
    let mut rig = Rig::laid_out(&format!("{TWO_PORTS}{text}"), layout);
    for (client, server) in [("198.51.100.7", "10.0.0.11"), ("2001:db8:51::7", "2001:db8:10::11")] {
        rig.put(OUTSIDE, &ping(client, server, 9));
        rig.settle();
        rig.put(INSIDE, &pong(server, client, 9));
        rig.settle();
        assert_eq!(rig.take().len(), 2);
    }
    rig
}

/// These packets, at one side.
#[must_use]
pub fn at(side: Side, packets: &[Packet]) -> Vec<(Side, Packet)> {
    packets.iter().map(|packet| (side, packet.clone())).collect()
}

/// The same as they leave, one hop further.
#[must_use]
pub fn routed(side: Side, packets: &[Packet]) -> Vec<(Side, Packet)> {
    packets.iter().map(|packet| (side, packet.clone().routed())).collect()
}

/// The IP identification of a frame, its fragment offset in bytes, and what it carries.
fn parts(frame: &[u8]) -> (u32, usize, Vec<u8>) {
    if frame[12] == 0x08 {
        let header = usize::from(frame[14] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let offset = usize::from(u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff) * 8;
        (u32::from(u16::from_be_bytes([frame[18], frame[19]])), offset, frame[14 + header..14 + total].to_vec())
    } else {
        let id = u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]]);
        let offset = usize::from(u16::from_be_bytes([frame[56], frame[57]]) & 0xfff8);
        (id, offset, frame[62..].to_vec())
    }
}

/// Puts what came out together again; all of it must be of one datagram.
#[must_use]
pub fn together(came: &[(Side, Vec<u8>)]) -> (u32, Vec<u8>) {
    let mut pieces: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut ids = HashSet::new();
    for (_, frame) in came {
        let (id, offset, bytes) = parts(frame);
        ids.insert(id);
        assert!(pieces.insert(offset, bytes).is_none(), "one piece at {offset}");
    }
    assert_eq!(ids.len(), 1, "one identification: {ids:?}");
    let mut whole = Vec::new();
    for (offset, bytes) in pieces {
        assert_eq!(offset, whole.len(), "no hole");
        whole.extend(bytes);
    }
    (ids.into_iter().next().expect("one"), whole)
}

/// What a packet carries, checksum and all.
#[must_use]
pub fn segment(packet: &Packet) -> Vec<u8> {
    let bytes = packet.bytes_of_ip();
    bytes[if bytes[0] >> 4 == 4 { 20 } else { 40 }..].to_vec()
}

/// As [`knowing`], with [`FRAGMENTS`].
#[must_use]
pub fn rig() -> Rig {
    knowing(FRAGMENTS, Layout::default())
}
