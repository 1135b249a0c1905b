//! Full-size TCP between two hosts of this machine, as iperf3 sees it.

pub(super) mod lab;

use self::lab::{DIRECT, Lab, SERVICE};
use super::Case;
use crate::Outcome;
use crate::bench::{BUFFERS_SPARE, Bench};
use crate::blueprint::Blueprint;
use crate::report::{Chapter, Table};
use crate::statistics::Figures;
use crate::subject::{Millrace, Mode, Testpmd, TestpmdPlan};

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Iperf;

/// The configuration that is measured.
const CONFIGURATION: &str = include_str!("iperf.toml");
/// Drivers that borrow an interface of the kernel.
const DRIVERS: [&str; 2] = ["af_packet", "af_xdp"];
/// The share of testpmd's throughput aimed at.
const TARGET: f64 = 0.95;

impl Case for Iperf {
    fn name(&self) -> &'static str {
        "iperf"
    }

    fn sentence(&self) -> &'static str {
        "One TCP connection of full-size segments between two hosts, through the appliance and through testpmd io."
    }

    fn method(&self) -> &'static str {
        "Two network namespaces, each on a veth pair without segmentation and checksum offload, whose other ends the subject takes \
         with net_af_packet, then with net_af_xdp. iperf3 sends one connection for --seconds after one second that does not count. \
         Through testpmd io both hosts are on one wire; the appliance is a balancer (nat) between two networks. In turn, as many \
         rounds as asked for; figures are the middle ones."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        if let Some(why) = lab::missing(&[]) {
            chapter.notes.push(format!("skipped: {why}"));
            return Ok(());
        }
        let lab = Lab::new()?;
        let mut rows = Vec::new();
        for driver in DRIVERS {
            match compared(bench, &lab, driver) {
                Ok(row) => rows.push(row),
                // Not every kernel and driver takes AF_XDP sockets.
                Err(why) if driver == "af_xdp" => chapter.notes.push(format!("net_af_xdp is left out: {why}")),
                Err(why) => chapter.failed.push(format!("net_{driver}: {why}")),
            }
        }
        chapter.tables.push(Table {
            title: "Gbit/s of TCP payload".to_owned(),
            columns: ["device", "testpmd io", "millrace", "of testpmd", "target"].map(str::to_owned).into(),
            rows,
        });
        Ok(())
    }
}

/// Both subjects in turn on devices of this driver.
fn compared(bench: &Bench, lab: &Lab, driver: &str) -> Outcome<Vec<String>> {
    let settings = &bench.settings;
    let [outside, inside] = &lab.interfaces;
    let devices = vec![format!("net_{driver}0,iface={outside}"), format!("net_{driver}1,iface={inside}")];
    let plan = TestpmdPlan {
        program: settings.testpmd.clone(),
        devices: devices.clone(),
        mode: Mode::Io,
        main_core: settings.control_core,
        cores: settings.cores.iter().take(1).copied().collect(),
        buffers: BUFFERS_SPARE,
        frame_bytes: 2_048,
    };
    let mut blueprint = Blueprint::parse(CONFIGURATION, "iperf.toml".as_ref())?;
    let core = i64::try_from(settings.cores.first().copied().unwrap_or(1))?;
    blueprint
        .set("appliance", "control_socket", settings.folder.join("millrace.sock").display().to_string())?
        .set("cores", "control", i64::try_from(settings.control_core)?)?
        .set("cores", "workers", vec![toml::Value::from(core)])?
        .set_devices(&devices)?
        .set_buffers(BUFFERS_SPARE)?;
    let seconds = settings.run.as_secs().max(1);
    let bar = bench.progress(&format!("iperf, net_{driver}"), settings.rounds * 2);
    let (mut base, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        lab.answer_straight()?;
        let testpmd = Testpmd::start_idle(&plan, &settings.folder)?;
        base.push(lab.iperf(DIRECT, 1, seconds)?);
        drop(testpmd);
        bar.inc(1);
        lab.answer_through_router()?;
        let millrace = Millrace::start(&settings.millrace, &blueprint, &settings.folder)?;
        let bits = lab.iperf(SERVICE, 1, seconds);
        let drops = millrace.drops();
        ours.push(bits.map_err(|why| format!("{why}; dropped by the appliance: {drops:?}"))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (base, ours) = (Figures::of(base).median, Figures::of(ours).median);
    let gigabits = |bits: f64| format!("{:.2}", bits / 1e9);
    Ok(vec![format!("net_{driver}"), gigabits(base), gigabits(ours), format!("{:.2}", ours / base), TARGET.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_valid() {
        let mut blueprint = Blueprint::parse(CONFIGURATION, "iperf.toml".as_ref()).unwrap();
        let devices = ["net_af_packet0,iface=a", "net_af_packet1,iface=b"].map(String::from);
        let policy = blueprint.set_devices(&devices).unwrap().policy().unwrap();
        assert!(policy.services.iter().any(|service| service.spec.address.to_string() == SERVICE));
    }
}
