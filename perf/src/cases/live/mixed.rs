//! Everything at once, as a day brings it.

use super::{Line, Offer, Subject, families, found, inside, millions, outside, packets, search, share};
use crate::Outcome;
use crate::bench::Bench;
use crate::cases::Case;
use crate::generator::{Families, Habits, Side, Stream, Trial};
use crate::report::{Chapter, Table};
use crate::statistics::precise;
use crate::traffic::{Draw, Order, Size};

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Mixed;

/// Clients that ask by datagram, servers that ask outside, connections that open and close, connections that stay.
const COUNTS: [u32; 4] = [100_000, 10_000, 1 << 18, 10_000];
/// Their shares of the rate, in datagrams, opened connections and requests.
const SHARES: [f64; 4] = [0.70, 0.10, 0.05, 0.15];
/// The highest rate tried.
const MOST: f64 = 4e6;
const PARTIAL: f64 = 0.005;

fn offer(bench: &Bench) -> Offer {
    let size = bench.settings.sizes.first().copied().unwrap_or(Size::Imix);
    let draw = bench.settings.draws.first().copied().unwrap_or(Draw::Zipf);
    let families = families(bench, Families::Both);
    let [asking, outbound, opening, staying] = COUNTS;
    let order = |count| Order::new(draw, count, count).collect();
    let habits = |exchanges| Habits { exchanges, request: 200, time_wait_ms: 1_000 };
    Offer {
        streams: vec![
            Stream::datagrams(Side::Outside, 0.0, outside(asking, families, 0, 53), order(asking), size),
            Stream::datagrams(Side::Inside, 0.0, inside(outbound, families), order(outbound), size),
            Stream::connections(Side::Outside, 0.0, outside(opening, families, 1, 80), habits(Some(2))),
            Stream::connections(Side::Outside, 0.0, outside(staying, families, 2, 80), habits(None)),
        ],
        shares: SHARES.to_vec(),
        trial: Trial { number: 0, seconds: 0.0, hertz: 0.0, answered: true, responses: size },
        read: packets,
    }
}

impl Case for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }

    fn sentence(&self) -> &'static str {
        "Established, new and closing sessions at once, IPv4 and IPv6, all packet sizes, through firewall, balancer and source NAT."
    }

    fn method(&self) -> &'static str {
        "As ndr, with four kinds of traffic, half IPv4 and half IPv6: 70 % datagrams of 100,000 clients (zipf) to a balanced \
         service, 10 % datagrams of 10,000 servers that ask outside (IPv4 through source NAT), 5 % new TCP connections with two \
         exchanges and a close, 15 % requests over 10,000 TCP connections that stay; sizes of datagrams and answers in the simple \
         Internet mix. The rate at which half a percent of all packets is lost."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let mut line = Line::new(bench)?;
        let mut rows = Vec::new();
        let mut all = Vec::new();
        for subject in Subject::BOTH {
            let bar = bench.progress(&format!("mixed, {}", subject.name()), 1);
            let (bounds, tally) = line.with(subject, 1 << 20, |generator| {
                let mut offer = offer(bench);
                offer.warm_up(generator, 100_000.0, bench.settings.run / 2)?;
                let found = offer.search(generator, &search(bench, MOST, vec![PARTIAL]))?;
                let bounds = found.first().copied().filter(|bounds| bounds.offered > 0.0).ok_or("no rate was found")?;
                // What that rate is made of, at nine tenths of it.
                let tally = offer.run(generator, bounds.lower * 0.9, bench.settings.run / 5)?;
                Ok((bounds, tally))
            })?;
            bar.finish_and_clear();
            let counts = tally.connections;
            // Packets that follow from one datagram, opened connection or request.
            let each = precise(tally.arrived()) / precise(tally.done.max(1));
            let a_second = |count: u64| millions(precise(count) / tally.seconds);
            let bits: u64 = tally.received_bytes.iter().sum::<u64>() * 8;
            rows.push(vec![
                subject.name().to_owned(),
                found(&bounds, each),
                format!("{:.2}", precise(bits) / tally.seconds / 1e9),
                a_second(counts.closed),
                a_second(counts.answered),
                format!("{} of {}", tally.lost(), tally.offered()),
            ]);
            all.push(bounds);
        }
        if let [base, ours] = all.as_slice() {
            chapter.notes.push(format!("The appliance reaches {} of testpmd io.", share(base, ours)));
        }
        chapter.tables.push(Table {
            title: "The mix at its highest rate, and what it holds at nine tenths of it".to_owned(),
            columns: [
                "subject",
                "Mpps",
                "Gbit/s",
                "connections closed, M/s",
                "requests answered, M/s",
                "lost at nine tenths",
            ]
            .map(str::to_owned)
            .into(),
            rows,
        });
        Ok(())
    }
}
