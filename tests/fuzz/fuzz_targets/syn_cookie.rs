//! SYN cookies: what a client says in the options of its SYN goes into a cookie, and comes out of it again when the
//! client's ACK brings it back. Neither the client nor the backend is ever told of more than the other has offered, and
//! a cookie with any bit changed opens nothing.
//!
//! The first byte says which IP version and whether the client answers with timestamps, four are its sequence number,
//! one the time until its ACK, one the bit of the cookie that is changed first; the rest are the options of its SYN.
#![no_main]

use std::sync::{Arc, LazyLock};

use config::Policy;
use libfuzzer_sys::fuzz_target;
use millrace_tests::packet::{Packet, tcp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use units::Nanos;
use wire::tcp_options::{OPTIONS_MAX, Timestamps};
use wire::{Content, Facts, Tcp, TcpFlags, TcpOptions, Transport, Verify, dissect};

const RULES: &str = r#"
[firewall]
default = "allow"
[[virtual_service]]
name = "web"
address = "198.51.100.10"
protocol = "tcp"
ports = ["80"]
syn_cookies = { mode = "always" }
health = { kind = "none" }
[[virtual_service.backend]]
name = "a"
address = "10.0.0.11"
[[virtual_service]]
name = "web6"
address = "2001:db8:51::10"
protocol = "tcp"
ports = ["80"]
syn_cookies = { mode = "always" }
health = { kind = "none" }
[[virtual_service.backend]]
name = "a6"
address = "2001:db8:10::11"
"#;

/// Compiled once; each input has a worker of its own.
static TABLES: LazyLock<(Policy, Arc<millrace_tests::rig::Snapshot>)> = LazyLock::new(|| {
    let sessions = "capacity = 8\ntimeouts = { tcp_syn = \"5s\" }";
    Rig::tables(&format!("{TWO_PORTS}{RULES}").replace("capacity = 4_096", sessions))
});

/// A frame's segment and its options.
fn segment(bytes: &[u8]) -> Option<(Facts, Tcp, TcpOptions)> {
    let Content::Ip(facts) = dissect(bytes, Verify::All).ok()?.content else { return None };
    let Transport::Tcp(tcp) = facts.transport else { return None };
    Some((facts, tcp, TcpOptions::of(bytes, &facts)))
}

/// The one segment that came out.
fn one(rig: &mut Rig) -> Option<(millrace_tests::Side, Tcp, TcpOptions)> {
    let out = rig.take();
    assert!(out.len() < 2, "{}", out.len());
    out.first().map(|(side, bytes)| {
        let (_, tcp, options) = segment(bytes).expect("what leaves is right");
        (*side, tcp, options)
    })
}

fuzz_target!(|input: &[u8]| {
    let [how, s0, s1, s2, s3, later, bit, options @ ..] = input else { return };
    let (policy, snapshot) = &*TABLES;
    let mut rig = Rig::over(policy.clone(), Arc::clone(snapshot), Layout { workers: 1, queues: 1, buffers: 64 });
    let v6 = how & 1 != 0;
    let (client, asked) =
        if v6 { ("[2001:db8:51::7]:4000", "[2001:db8:51::10]:80") } else { ("198.51.100.7:4000", "198.51.100.10:80") };
    let first = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
    let said = &options[..options.len().min(OPTIONS_MAX) / 4 * 4];
    let syn = tcp(client, asked).syn().seq(first).tcp_options(said);
    let Some((_, _, offer)) = segment(&rig.inward(OUTSIDE, &syn)) else { return };
    rig.put(OUTSIDE, &syn);
    rig.settle();
    let Some((side, answer, answered)) = one(&mut rig) else { panic!("a SYN is answered: {:?}", rig.drops()) };
    assert_eq!((side, answer.acknowledgment.get()), (OUTSIDE, first.wrapping_add(1)));
    assert!(answer.flags.contains(TcpFlags::SYN) && answer.flags.contains(TcpFlags::ACK));
    assert!(!answered.sack_permitted || offer.sack_permitted);
    assert!(answered.window_scale.is_none() || offer.window_scale.is_some());
    assert!(answered.timestamps.is_none_or(|ours| offer.timestamps.is_some_and(|its| its.value == ours.echo)));
    assert_eq!(rig.session_count(), 0, "nothing is kept of it");

    rig.leap(Nanos::from_millis(u64::from(*later) * 250));
    let mut written = [0; OPTIONS_MAX];
    let echo = answered.timestamps.filter(|_| how & 2 != 0).map(|ours| ours.value);
    let stamps = echo.map(|echo| Timestamps { value: 1, echo });
    let len = TcpOptions { timestamps: stamps, ..TcpOptions::default() }.write(&mut written);
    let cookie = answer.sequence.get();
    let ack = |cookie: u32| -> Packet {
        tcp(client, asked).ack(cookie.wrapping_add(1)).seq(first.wrapping_add(1)).tcp_options(&written[..len])
    };
    rig.put(OUTSIDE, &ack(cookie ^ 1 << (bit & 31)));
    rig.settle();
    assert!(one(&mut rig).is_none() && rig.session_count() == 0, "a changed cookie proves nothing");
    rig.put(OUTSIDE, &ack(cookie));
    rig.settle();
    let Some((side, opener, told)) = one(&mut rig) else { panic!("a cookie proves its client: {:?}", rig.drops()) };
    assert_eq!((side, opener.sequence.get()), (INSIDE, first));
    assert!(opener.flags.contains(TcpFlags::SYN) && !opener.flags.contains(TcpFlags::ACK));
    let takes = offer.segment_size.unwrap_or(if v6 { 1_220 } else { 536 });
    assert!(told.segment_size.is_some_and(|size| size <= takes.max(216)), "{told:?} of {offer:?}");
    assert_eq!(
        (told.sack_permitted, told.window_scale.is_some()),
        (offer.sack_permitted, offer.window_scale.is_some())
    );
    assert!(told.window_scale <= offer.window_scale, "{told:?} of {offer:?}");
    rig.take();
    rig.assert_accounted();
});
