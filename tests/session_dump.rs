//! API-05: all sessions are copied while packets of them and of new ones pass: each once, no packet lost, and a slow reader holds a
//! bounded number of copies and nobody up. `MILLRACE_DUMPED` says how many; a release build takes a million.

use std::collections::HashSet;
use std::net::IpAddr;

use crossbeam::channel::TryRecvError;
use millrace_tests::net::number_from_environment;
use millrace_tests::packet::{Packet, end, udp};
use millrace_tests::{INSIDE, Layout, OUTSIDE, Rig, TWO_PORTS};
use units::Nanos;
use worker::SessionRecord;

/// Packets put in at once.
const BURST: u64 = 512;
/// Batches that may wait for the reader.
const BATCHES: usize = 2;

/// A client, one of as many as there are ports and addresses; in both versions in turn.
fn client(number: u64) -> (IpAddr, u16) {
    let (host, port) = (number / 2 / 60_000, 1_024 + number / 2 % 60_000);
    let host = if number % 2 == 1 { format!("2001:db8:51::{host:x}:7") } else { format!("198.51.100.{}", 10 + host) };
    (host.parse().expect("an address"), u16::try_from(port).expect("a port"))
}

fn datagram(number: u64) -> Packet {
    let (host, port) = client(number);
    let server = if host.is_ipv6() { "[2001:db8:10::11]:53" } else { "10.0.0.11:53" };
    udp(&end(&host.to_string(), port), server)
}

/// Has these clients' packets pass; all of them come out.
fn pass(rig: &mut Rig, numbers: impl Iterator<Item = u64>) {
    let mut sent = 0;
    for number in numbers {
        rig.put(OUTSIDE, &datagram(number));
        sent += 1;
    }
    rig.settle();
    let out = rig.take();
    assert!(
        out.len() == sent && out.iter().all(|(side, _)| *side == INSIDE),
        "{} of {sent}: {:?}",
        out.len(),
        rig.drops()
    );
}

#[test]
fn a_dump_under_traffic_has_every_session_once_and_loses_no_packet() {
    let usual = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let count = number_from_environment("MILLRACE_DUMPED", usual).next_multiple_of(BURST);
    for workers in [1_u16, 2] {
        let capacity = format!("capacity = {}", count * 2);
        let text = format!("{TWO_PORTS}[firewall]\ndefault = \"allow\"\n").replace("capacity = 4_096", &capacity);
        let mut rig = Rig::laid_out(&text, Layout { workers, queues: usize::from(workers), buffers: 4_096 });
        // Every worker knows the next hops before there are many packets that wait for them.
        pass(&mut rig, 0..32);
        for first in (0..count / BURST).map(|burst| burst * BURST) {
            pass(&mut rig, first..first + BURST);
        }
        assert_eq!(rig.session_count() as u64, count);
        let mut seen = HashSet::new();
        let mut take = |records: Vec<SessionRecord>| {
            for record in records {
                assert!(seen.insert((record.original.source, record.original.source_port)), "twice: {record:?}");
            }
        };
        let batches = rig.walk(BATCHES);
        let (mut turn, mut new) = (0, count);
        let over = loop {
            // Some that are known, and some that are new, for as long as it takes.
            pass(&mut rig, (0..BURST / 2).map(|number| (turn * BURST + number * 7) % count));
            pass(&mut rig, new..new + 4);
            new += 4;
            turn += 1;
            assert!(batches.len() <= BATCHES);
            match batches.try_recv() {
                Ok(records) if records.is_empty() => break true,
                Ok(records) => take(records),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        assert!(over, "the walk came to its end");
        let missing = (0..count).filter(|&number| !seen.contains(&client(number))).count();
        assert!(missing == 0 && seen.len() as u64 <= new, "{missing} are missing, {} were seen", seen.len());
        assert_eq!(rig.drops().len(), 0);
    }
}

/// Whoever takes nothing keeps nobody else from looking for long, and is told that it was not all.
#[test]
fn a_reader_that_takes_nothing_is_cut_off_and_the_next_has_its_turn() {
    let mut rig = Rig::new("[firewall]\ndefault = \"allow\"\n");
    pass(&mut rig, 0..2);
    pass(&mut rig, 2..200);
    let idle = rig.walk(0);
    let next = rig.walk(BATCHES);
    rig.settle();
    assert_eq!(next.try_recv().unwrap_err(), TryRecvError::Empty, "one at a time");
    rig.leap(Nanos::from_secs(11));
    assert_eq!(idle.try_recv().unwrap_err(), TryRecvError::Disconnected);
    assert_eq!(next.try_recv().unwrap().len(), 200);
    assert!(next.try_recv().unwrap().is_empty(), "that was all");
}
