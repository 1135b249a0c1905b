//! The cases that need both ends of a conversation: the generator is clients and servers at once, the subject runs in a
//! process of its own between them, over two memif devices or two pairs of ports the user has wired. What they share is
//! here: the line between generator and subject, who the clients are, what is offered and what counts as lost.

mod connections;
mod latency;
mod mixed;
mod ndr;

use std::cell::RefMut;
use std::thread;
use std::time::Duration;

use wire::MacAddr;

use crate::Outcome;
use crate::bench::{BUFFERS_SPARE, Bench};
use crate::blueprint::Blueprint;
use crate::generator::running::{Device, Generator};
use crate::generator::{Clients, Families, Side, Stream, Tally, Trial};
use crate::machine;
use crate::mlrsearch::{Bounds, Measured, Search};
use crate::subject::{Millrace, Mode, Testpmd, TestpmdPlan};
use crate::traffic::{Draw, Order, Size};

pub use connections::Lifecycle;
pub use latency::Latency;
pub use mixed::Mixed;
pub use ndr::Ndr;

/// The configuration that is measured.
const CONFIGURATION: &str = include_str!("live.toml");
/// What passes before the first trial: both ends settle, the appliance's control thread tells next hops.
const SETTLE: Duration = Duration::from_millis(300);
/// Stations: the generator's outside and inside, the appliance's outside and inside.
const STATIONS: [MacAddr; 4] = [station(0xfe), station(0x11), station(1), station(2)];

const fn station(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last])
}

/// Who stands between the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// `dpdk-testpmd` in `io`: a wire.
    Testpmd,
    /// The appliance.
    Millrace,
}

impl Subject {
    pub(super) const BOTH: [Self; 2] = [Self::Testpmd, Self::Millrace];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Testpmd => "testpmd io",
            Self::Millrace => "millrace",
        }
    }
}

/// The generator, and the devices between it and a subject.
#[derive(Debug)]
pub(super) struct Line<'a> {
    bench: &'a Bench,
    pub(super) generator: RefMut<'a, Generator>,
}

impl<'a> Line<'a> {
    pub(super) fn new(bench: &'a Bench) -> Outcome<Self> {
        let settings = &bench.settings;
        machine::require(&settings.millrace, &settings.testpmd, MEMORY)?;
        Ok(Self { bench, generator: bench.generator()? })
    }

    /// Device strings: the generator's outside and inside, the subject's outside and inside.
    fn devices(&self) -> [String; 4] {
        if let Some(devices) = &self.bench.settings.wired {
            return devices.clone();
        }
        let memif = |number: u8, role: &str, side: &str| {
            let socket = self.bench.settings.folder.join(format!("{side}.sock"));
            format!("net_memif{number},role={role},id=0,socket-abstract=no,socket={}", socket.display())
        };
        [
            memif(0, "server", "outside"),
            memif(1, "server", "inside"),
            memif(0, "client", "outside"),
            memif(1, "client", "inside"),
        ]
    }

    /// Starts a subject between the ends, has `work` done, and stops it. The appliance runs with [`CONFIGURATION`] and this
    /// much room for sessions.
    pub(super) fn with<T>(
        &mut self,
        subject: Subject,
        capacity: u32,
        work: impl FnOnce(&mut Generator) -> Outcome<T>,
    ) -> Outcome<T> {
        let settings = &self.bench.settings;
        let [ours_outside, ours_inside, outside, inside] = self.devices();
        let [from_outside, from_inside, to_outside, to_inside] = STATIONS;
        self.generator.open([
            Device { device: ours_outside, ours: from_outside, theirs: to_outside },
            Device { device: ours_inside, ours: from_inside, theirs: to_inside },
        ])?;
        let devices = vec![outside, inside];
        let done = match subject {
            Subject::Testpmd => {
                let plan = TestpmdPlan {
                    program: settings.testpmd.clone(),
                    devices,
                    mode: Mode::Io,
                    main_core: settings.control_core,
                    cores: settings.cores.iter().take(1).copied().collect(),
                    buffers: BUFFERS_SPARE,
                    frame_bytes: 2_048,
                };
                let _running = Testpmd::start_idle(&plan, &settings.folder)?;
                self.generator.wait_for_link().and_then(|()| settled(&mut self.generator, work))
            }
            Subject::Millrace => {
                let mut blueprint = Blueprint::parse(CONFIGURATION, "live.toml".as_ref())?;
                let socket = settings.folder.join("millrace.sock").display().to_string();
                let core = i64::try_from(settings.cores.first().copied().unwrap_or(1))?;
                blueprint
                    .set("appliance", "control_socket", socket)?
                    .set("cores", "control", i64::try_from(settings.control_core)?)?
                    .set("cores", "workers", vec![toml::Value::from(core)])?
                    .set("sessions", "capacity", i64::from(capacity))?
                    .set_devices(&devices)?
                    .set_buffers(BUFFERS_SPARE)?;
                let running = Millrace::start(&settings.millrace, &blueprint, &settings.folder)?;
                self.generator.wait_for_link().and_then(|()| settled(&mut self.generator, work)).map_err(|why| {
                    format!("{why}; dropped by the appliance: {:?}", running.drops().unwrap_or_default()).into()
                })
            }
        };
        self.generator.close()?;
        done
    }
}

/// Hugepages the generator and a subject take, in bytes.
const MEMORY: u64 = 512 << 20;

fn settled<T>(generator: &mut Generator, work: impl FnOnce(&mut Generator) -> Outcome<T>) -> Outcome<T> {
    thread::sleep(SETTLE);
    work(generator)
}

/// What a trial offers: streams, each with its share of the rate, and how the outcome is read.
pub(super) struct Offer {
    pub(super) streams: Vec<Stream>,
    /// Each stream's part of the offered rate.
    pub(super) shares: Vec<f64>,
    pub(super) trial: Trial,
    /// What counts as offered and as lost.
    pub(super) read: fn(&Tally) -> (u64, u64),
}

impl Offer {
    /// A trial at `rate`.
    pub(super) fn run(&mut self, generator: &mut Generator, rate: f64, length: Duration) -> Outcome<Tally> {
        for (stream, share) in self.streams.iter_mut().zip(&self.shares) {
            stream.rate = rate * share;
        }
        let trial = Trial { seconds: length.as_secs_f64(), ..self.trial.clone() };
        generator.run(&mut self.streams, &trial)
    }

    /// Runs for a moment, so that sessions are there and next hops known before it counts.
    pub(super) fn warm_up(&mut self, generator: &mut Generator, rate: f64, length: Duration) -> Outcome<()> {
        let tally = self.run(generator, rate, length)?;
        if tally.arrived() == 0 {
            return Err("nothing that was sent has arrived".into());
        }
        Ok(())
    }

    /// Searches for the rates of `search.goals`.
    pub(super) fn search(&mut self, generator: &mut Generator, search: &Search) -> Outcome<Vec<Bounds>> {
        search.run(|rate, length| {
            let tally = self.run(generator, rate, length)?;
            judged(&tally)?;
            let (offered, lost) = (self.read)(&tally);
            Ok(Measured { offered, lost, reached: tally.reached() })
        })
    }
}

/// Refuses a trial in which something arrived that no receiver would take: a figure for broken packets is none.
fn judged(tally: &Tally) -> Outcome<()> {
    match tally.malformed {
        0 => Ok(()),
        malformed => Err(format!("{malformed} packets arrived broken, of those that were looked at").into()),
    }
}

/// A search that takes about twice as long as the user gives a run: trials are a twentieth of it, and a load is judged by
/// three of five, because on a machine that does other things too something stalls in many a trial.
pub(super) fn search(bench: &Bench, most: f64, goals: Vec<f64>) -> Search {
    let trial = (bench.settings.run / 20).max(Duration::from_millis(50));
    Search { least: 1_000.0, most, goals, width: 0.02, trial, majority: 5, trials_max: 80 }
}

/// Datagrams: packets, both directions together.
pub(super) fn packets(tally: &Tally) -> (u64, u64) {
    (tally.offered(), tally.lost())
}

/// Clients outside that ask the service at this port.
pub(super) fn outside(count: u32, families: Families, net: u8, service_port: u16) -> Clients {
    Clients {
        count,
        families,
        first_v4: [20, net, 0, 1].into(),
        first_v6: [0x2001, 0xdb8, 0xc, net.into(), 0, 0, 0, 1].into(),
        service_v4: [198, 51, 100, 10].into(),
        service_v6: [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10].into(),
        service_port,
    }
}

/// Servers inside that ask somebody outside.
pub(super) fn inside(count: u32, families: Families) -> Clients {
    Clients {
        count,
        families,
        first_v4: [10, 1, 0, 1].into(),
        first_v6: [0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1].into(),
        service_v4: [203, 0, 113, 10].into(),
        service_v6: [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10].into(),
        service_port: 53,
    }
}

/// The user's number of clients, families, size and draw, or these.
pub(super) fn datagrams(bench: &Bench, sessions: u32, size: Size) -> Offer {
    let settings = &bench.settings;
    let count = settings.sessions.first().copied().unwrap_or(sessions);
    let size = settings.sizes.first().copied().unwrap_or(size);
    let draw = settings.draws.first().copied().unwrap_or(Draw::Uniform);
    let clients = outside(count, families(bench, Families::V4), 0, 53);
    let order = Order::new(draw, count, count).collect();
    Offer {
        streams: vec![Stream::datagrams(Side::Outside, 0.0, clients, order, size)],
        shares: vec![1.0],
        trial: Trial { number: 0, seconds: 0.0, hertz: 0.0, answered: true, responses: size },
        read: packets,
    }
}

/// The families the user asked for.
pub(super) fn families(bench: &Bench, own: Families) -> Families {
    use crate::traffic::Family::{V4, V6};
    match bench.settings.families.as_slice() {
        [] => own,
        [V4] => Families::V4,
        [V6] => Families::V6,
        _ => Families::Both,
    }
}

/// A rate as people read it: millions a second.
pub(super) fn millions(rate: f64) -> String {
    format!("{:.3}", rate / 1e6)
}

/// A found rate, with what has to be known of it.
pub(super) fn found(bounds: &Bounds, times: f64) -> String {
    match (bounds.offered > 0.0, bounds.generator_limited) {
        (false, _) => "none".to_owned(),
        (true, true) => format!("> {}", millions(bounds.offered * times)),
        (true, false) => millions(bounds.offered * times),
    }
}

/// The second figure as a share of the first.
pub(super) fn share(base: &Bounds, other: &Bounds) -> String {
    if base.offered > 0.0 && other.offered > 0.0 {
        let bound = match (base.generator_limited, other.generator_limited) {
            (true, true) => "? ",
            (true, false) => "< ",
            (false, true) => "> ",
            (false, false) => "",
        };
        format!("{bound}{:.2}", other.offered / base.offered)
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::clients::is_client_port;

    #[test]
    fn the_configuration_is_valid_and_serves_every_kind_of_client() {
        let policy = Blueprint::parse(CONFIGURATION, "live.toml".as_ref()).unwrap().policy().unwrap();
        for (net, port) in [(0, 53), (1, 80), (2, 80)] {
            let clients = outside(1_000, Families::Both, net, port);
            for number in 0..2 {
                let (endpoints, source_port) = clients.tuple(number);
                assert!(is_client_port(source_port) && !is_client_port(port));
                assert!(policy.services.iter().any(|service| {
                    service.spec.address == endpoints.destination()
                        && service.spec.ports.iter().any(|range| range.first() == port)
                }));
            }
        }
    }

    #[test]
    fn a_bound_that_is_the_generators_is_said_to_be_one() {
        let bounds = |offered, generator_limited| Bounds { lower: offered, upper: 0.0, offered, generator_limited };
        assert_eq!(found(&bounds(1e6, true), 2.0), "> 2.000");
        assert_eq!(found(&bounds(0.0, false), 2.0), "none");
        assert_eq!(share(&bounds(4e6, true), &bounds(3e6, false)), "< 0.75");
        assert_eq!(share(&bounds(4e6, false), &bounds(4e6, true)), "> 1.00");
    }
}
