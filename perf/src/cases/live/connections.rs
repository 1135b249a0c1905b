//! New sessions a second, from end to end: whole TCP connections, and datagrams of clients never seen before.

use super::{Line, Offer, Subject, families, found, outside, packets, search, share};
use crate::Outcome;
use crate::bench::Bench;
use crate::cases::Case;
use crate::generator::{Families, Habits, Side, Stream, Tally, Trial};
use crate::mlrsearch::Bounds;
use crate::report::{Chapter, Table};
use crate::traffic::{Draw, Order, Size};

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Lifecycle;

/// Connections the generator has ports for; each rests a second after its close.
const CONNECTIONS: u32 = 1 << 20;
/// Clients of UDP; at the highest rate each comes back after longer than the appliance remembers it.
const CLIENTS: u32 = 1 << 22;
/// Room for sessions: what is opened in the time they take to be forgotten.
const CAPACITY: u32 = 1 << 22;
/// Bytes of the request's payload.
const REQUEST: u16 = 64;
/// The highest rates tried: connections, and datagrams, a second.
const MOST: [f64; 2] = [1.5e6, 6e6];
/// The share that may fail.
const FAILED_MAX: f64 = 0.005;

/// Connections that did not go through at first try.
fn failed(tally: &Tally) -> (u64, u64) {
    let counts = tally.connections;
    let failed = counts.opened.saturating_sub(counts.closed) + counts.repeated;
    (counts.opened, failed.min(counts.opened))
}

/// Whole TCP connections.
fn connections(bench: &Bench) -> Offer {
    let clients = outside(CONNECTIONS, families(bench, Families::V4), 0, 80);
    let habits = Habits { exchanges: Some(1), request: REQUEST, time_wait_ms: 1_000 };
    Offer {
        streams: vec![Stream::connections(Side::Outside, 0.0, clients, habits)],
        shares: vec![1.0],
        trial: Trial { number: 0, seconds: 0.0, hertz: 0.0, answered: true, responses: Size::Bytes(128) },
        read: failed,
    }
}

/// A datagram each of many clients.
fn first_datagrams(bench: &Bench) -> Offer {
    let clients = outside(CLIENTS, families(bench, Families::V4), 0, 53);
    let order = Order::new(Draw::Uniform, CLIENTS, CLIENTS).collect();
    Offer {
        streams: vec![Stream::datagrams(Side::Outside, 0.0, clients, order, Size::Bytes(64))],
        shares: vec![1.0],
        trial: Trial { number: 0, seconds: 0.0, hertz: 0.0, answered: false, responses: Size::Bytes(64) },
        read: packets,
    }
}

impl Case for Lifecycle {
    fn name(&self) -> &'static str {
        "lifecycle"
    }

    fn sentence(&self) -> &'static str {
        "Sessions a second from end to end: TCP connections that open, ask once and close, and first datagrams without close."
    }

    fn method(&self) -> &'static str {
        "Between two memif devices with our own generator. A TCP connection is SYN, SYN+ACK, ACK, a request of 64 bytes, its \
         answer, FIN, FIN+ACK, ACK: eight packets, five of them the client's; it counts when both ends have closed and nothing \
         had to be sent again. UDP: one datagram of 64 bytes from each of four million clients in random order, not answered, \
         forgotten by the appliance after a second. MLRsearch for the highest rate at which half a percent fails; through \
         testpmd io the same traffic shows what the generator and the devices can do."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut line = Line::new(bench)?;
        let mut found_all: Vec<Vec<Bounds>> = Vec::new();
        for subject in Subject::BOTH {
            let bar = bench.progress(&format!("lifecycle, {}", subject.name()), 2);
            let kinds: [fn(&Bench) -> Offer; 2] = [connections, first_datagrams];
            let bounds = line.with(subject, CAPACITY, |generator| {
                let mut bounds = Vec::new();
                for (kind, most) in kinds.into_iter().zip(MOST) {
                    let mut offer = kind(bench);
                    offer.warm_up(generator, 10_000.0, bench.settings.run / 5)?;
                    bounds.extend(offer.search(generator, &search(bench, most, vec![FAILED_MAX]))?);
                    bar.inc(1);
                }
                Ok(bounds)
            })?;
            bar.finish_and_clear();
            found_all.push(bounds);
        }
        let rows =
            ["TCP, opened, asked, closed", "UDP, first datagram"].into_iter().enumerate().map(|(place, name)| {
                let of = |subject: usize| found_all.get(subject).and_then(|bounds| bounds.get(place));
                let mut row = vec![name.to_owned()];
                if let (Some(base), Some(ours)) = (of(0), of(1)) {
                    row.extend([found(base, 1.0), found(ours, 1.0), share(base, ours)]);
                }
                row
            });
        chapter.tables.push(Table {
            title: "Sessions, millions a second".to_owned(),
            columns: ["kind", "testpmd io", "millrace", "of testpmd"].map(str::to_owned).into(),
            rows: rows.collect(),
        });
        Ok(())
    }
}
