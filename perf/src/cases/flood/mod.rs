//! A SYN flood beside honest traffic: what an established connection keeps of its throughput, and whether new clients of the
//! flooded service are served.

mod visits;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use self::visits::{Server, Visits, visit};
use super::Case;
use super::iperf::lab::{self, Lab, SERVICE};
use crate::Outcome;
use crate::bench::{BUFFERS_SPARE, Bench};
use crate::blueprint::Blueprint;
use crate::report::{Chapter, Table};
use crate::statistics::Figures;
use crate::subject::Millrace;

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Flood;

/// The configuration that is measured.
const CONFIGURATION: &str = include_str!("flood.toml");
/// The share of the throughput beside harmless packets that is aimed at.
const TARGET: f64 = 0.80;
/// Seconds of the stream that do not count: the load begins in the middle of them.
const LEAD: u64 = 3;
/// When the load begins, after the stream.
const LOAD_AFTER: Duration = Duration::from_millis(1_500);
/// Between two visits.
const PAUSE: Duration = Duration::from_millis(50);

/// What goes on beside the stream, as arguments of `hping3`.
const LOADS: [(&str, &[&str]); 3] = [
    ("nothing", &[]),
    (
        "harmless: UDP of one session, forwarded",
        &["--udp", "--destport", "9", "--baseport", "7000", "--keep", "--data", "12"],
    ),
    ("SYN flood, forged sources", &["--syn", "--destport", "80", "--rand-source"]),
];

impl Case for Flood {
    fn name(&self) -> &'static str {
        "flood"
    }

    fn sentence(&self) -> &'static str {
        "An established TCP connection and new clients of a service, beside nothing, beside harmless packets, and beside a SYN flood."
    }

    fn method(&self) -> &'static str {
        "Two network namespaces on veth pairs, the appliance (net_af_packet, one worker) between them as a balancer (nat) with adaptive \
         SYN cookies. iperf3 sends one connection through the service; 1.5 s after its start hping3 --flood begins in the client's \
         namespace, as fast as it can: nothing, UDP of one session to a service that nobody answers, SYNs from random sources to the \
         same service. What iperf3 receives counts from 3 s on, for --seconds. Meanwhile a new client every 50 ms connects to the \
         flooded service and waits for its server's word. In turn, as many rounds as asked for; figures are the middle ones."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        if let Some(why) = lab::missing(&[("hping3", "hping3")]) {
            chapter.notes.push(format!("skipped: {why}"));
            return Ok(());
        }
        let lab = Lab::new()?;
        let bar = bench.progress("flood", bench.settings.rounds * LOADS.len());
        let mut seen = LOADS.map(|_| Vec::new());
        for _ in 0..bench.settings.rounds {
            for ((_, load), seen) in LOADS.iter().zip(&mut seen) {
                seen.push(beside(bench, &lab, load)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let rows: Vec<Row> = seen.iter().map(|seen| Row::of(seen)).collect();
        chapter.tables.push(table(&rows));
        if let [_, harmless, flood] = &*rows {
            let kept = flood.bits / harmless.bits;
            let notes = &mut chapter.notes;
            notes.push(format!(
                "beside the flood the stream keeps {kept:.2} of what it has beside harmless packets; target {TARGET}"
            ));
            if kept < TARGET {
                notes.push("the target is missed".to_owned());
            }
            if flood.answered < flood.paid {
                notes.push(format!("{} new clients were not served", flood.paid - flood.answered));
            }
        }
        Ok(())
    }
}

/// What was seen beside one load, once.
struct Seen {
    /// Of the stream, a second.
    bits: f64,
    /// Packets the appliance received, a second.
    packets: f64,
    visits: Visits,
}

/// The middle of what was seen beside one load.
struct Row {
    bits: f64,
    packets: f64,
    paid: usize,
    answered: usize,
    took: Figures,
}

impl Row {
    fn of(seen: &[Seen]) -> Self {
        let middle = |of: fn(&Seen) -> f64| Figures::of(seen.iter().map(of).collect::<Vec<_>>()).median;
        Self {
            bits: middle(|seen| seen.bits),
            packets: middle(|seen| seen.packets),
            paid: seen.iter().map(|seen| seen.visits.paid).sum(),
            answered: seen.iter().map(|seen| seen.visits.took.len()).sum(),
            took: Figures::of(seen.iter().flat_map(|seen| seen.visits.took.iter().copied()).collect::<Vec<_>>()),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let cells = LOADS.iter().zip(rows).map(|((name, _), row)| {
        vec![
            (*name).to_owned(),
            format!("{:.3}", row.bits / 1e9),
            format!("{:.0}", row.packets),
            format!("{} of {}", row.answered, row.paid),
            format!("{:.2}", row.took.median),
        ]
    });
    Table {
        title: "One stream and new clients".to_owned(),
        columns: ["beside", "Gbit/s", "packets/s received in all", "new clients served", "ms, median"]
            .map(str::to_owned)
            .into(),
        rows: cells.collect(),
    }
}

/// One stream beside one load, and visits.
fn beside(bench: &Bench, lab: &Lab, load: &[&str]) -> Outcome<Seen> {
    let settings = &bench.settings;
    let [outside, inside] = &lab.interfaces;
    let devices = vec![format!("net_af_packet0,iface={outside}"), format!("net_af_packet1,iface={inside}")];
    let mut blueprint = Blueprint::parse(CONFIGURATION, "flood.toml".as_ref())?;
    let core = i64::try_from(settings.cores.first().copied().unwrap_or(1))?;
    blueprint
        .set("appliance", "control_socket", settings.folder.join("millrace.sock").display().to_string())?
        .set("cores", "control", i64::try_from(settings.control_core)?)?
        .set("cores", "workers", vec![toml::Value::from(core)])?
        .set_devices(&devices)?
        .set_buffers(BUFFERS_SPARE)?;
    let millrace = Millrace::start(&settings.millrace, &blueprint, &settings.folder)?;
    let _server = Server::start(&lab.server, SocketAddr::from(([10, 0, 0, 11], 80)))?;
    let seconds = settings.run.as_secs().max(1);
    let begun = Instant::now();
    let counted_from = begun + Duration::from_secs(LEAD);
    let until = counted_from + Duration::from_secs(seconds);
    thread::scope(|scope| {
        let stream = scope.spawn(|| lab.iperf(SERVICE, LEAD, seconds).map_err(|why| why.to_string()));
        thread::sleep(LOAD_AFTER);
        let words = [&["hping3", "-q", "-n", "--flood"], load, &[SERVICE]].concat();
        let running = if load.is_empty() { None } else { Some(lab.start_at_client(&words)?) };
        thread::sleep(counted_from.saturating_duration_since(Instant::now()));
        let before = (Instant::now(), millrace.read()?.received);
        let service: SocketAddr = format!("{SERVICE}:80").parse()?;
        let visits = visit(&lab.client, service, PAUSE, until)?;
        let packets = (millrace.read()?.received - before.1) as f64 / before.0.elapsed().as_secs_f64();
        let bits = stream.join().map_err(|_| "the thread with the stream ended by a fault")?;
        drop(running);
        let bits = bits.map_err(|why| format!("{why}; dropped by the appliance: {:?}", millrace.drops()))?;
        Ok(Seen { bits, packets, visits })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_valid() {
        let mut blueprint = Blueprint::parse(CONFIGURATION, "flood.toml".as_ref()).unwrap();
        let devices = ["net_af_packet0,iface=a", "net_af_packet1,iface=b"].map(String::from);
        let policy = blueprint.set_devices(&devices).unwrap().policy().unwrap();
        assert!(policy.services.iter().all(|service| service.spec.address.to_string() == SERVICE));
    }
}
