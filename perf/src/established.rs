//! What a packet of an established session costs: testpmd and Millrace in turn on the same devices, window by window.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::clients::Clients;
use crate::figures::{Series, hertz, precise};
use crate::millrace::{Reading, Running, configuration};
use crate::{Outcome, pcap, testpmd};

/// Buffers beside those the capture is kept in.
const BUFFERS_SPARE: u32 = 40_000;
/// Bytes of a buffer with all that belongs to it, rounded up.
const BUFFER_BYTES: u64 = 2_560;

/// The parameters of a run.
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// Sessions, each a client of its own.
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// IPv6 instead of IPv4.
    #[arg(long)]
    v6: bool,
    /// Times both are run, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Windows of a second in each run.
    #[arg(long, default_value_t = 5)]
    windows: usize,
    /// The core that does the work.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The appliance's program.
    #[arg(long, default_value = "target/release/millrace")]
    millrace: PathBuf,
    /// The configuration to start from.
    #[arg(long, default_value = "config/examples/bench.toml")]
    example: PathBuf,
    /// Where captures and configurations are made.
    #[arg(long, default_value = "/tmp/millrace-perf")]
    folder: PathBuf,
}

/// Runs the plan and prints its figures.
///
/// # Errors
/// A sentence that says what is missing.
pub fn run(plan: &Plan) -> Outcome<()> {
    fs::create_dir_all(&plan.folder)?;
    let family = if plan.v6 { "v6" } else { "v4" };
    let capture = plan.folder.join(format!("clients-{}-{family}.pcap", plan.clients));
    if !capture.exists() {
        pcap::write(&capture, Clients::new(plan.clients, plan.v6))?;
    }
    let (input, output) =
        (format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display()), String::from("net_null0,no-rx=1"));
    let buffers = plan.clients.saturating_add(BUFFERS_SPARE);
    let socket = plan.folder.join("millrace.sock");
    let file = plan.folder.join("bench.toml");
    fs::write(&file, toml(plan, &fs::read_to_string(&plan.example)?, &capture.display().to_string(), buffers))?;

    let hertz = hertz();
    let (mut base, mut total, mut stages) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let rates = testpmd::packets_per_second([&input, &output], plan.core, buffers, plan.windows)?;
        base.extend(rates.into_iter().map(|rate| hertz / precise(rate)));
        let running = Running::start(&plan.millrace, &file, &socket)?;
        let measured = windows(&running, plan, hertz, &mut total, &mut stages);
        running.stop()?;
        measured?;
    }
    let (base, total) = (Series::of(base), Series::of(total));
    println!("established, {} sessions, {family}, one worker, cycles a packet (median, lowest window):", plan.clients);
    println!("  testpmd io   {:7.1} {:7.1}", base.median, base.lowest);
    println!("  millrace     {:7.1} {:7.1}", total.median, total.lowest);
    println!("  net          {:7.1} {:7.1}", total.median - base.median, total.lowest - base.lowest);
    println!("  rate         {:7.2} Mpps, {:.2} of testpmd's", hertz / total.median / 1e6, base.median / total.median);
    let names: Vec<String> =
        stages.first().into_iter().flatten().map(|(name, _): &(String, f64)| name.clone()).collect();
    for name in names {
        let figures = stages.iter().flatten().filter(|(other, _)| *other == name).map(|&(_, each)| each).collect();
        let Series { median, lowest } = Series::of(figures);
        println!("    {name:<10} {median:7.1} {lowest:7.1}");
    }
    Ok(())
}

fn toml(plan: &Plan, example: &str, capture: &str, buffers: u32) -> String {
    let mebibytes = ((u64::from(buffers) * BUFFER_BYTES) >> 20) + 256;
    let values = [
        ("memory", format!("\"{mebibytes}MiB\"")),
        ("buffers", buffers.to_string()),
        ("capacity", plan.clients.next_power_of_two().max(1_024).to_string()),
        ("control_socket", format!("\"{}\"", plan.folder.join("millrace.sock").display())),
        ("workers", format!("[{}]", plan.core)),
    ];
    let v6 = [
        ("198.51.100.1/24", "2001:db8:1::1/64"),
        ("10.0.0.1/24", "2001:db8:2::1/64"),
        ("198.51.100.10", "2001:db8:1::a"),
        ("10.0.0.11", "2001:db8:2::11"),
        ("10.0.0.12", "2001:db8:2::12"),
    ];
    let mut texts = vec![("clients.pcap", capture)];
    if plan.v6 {
        texts.extend(v6);
    }
    configuration(example, &values, &texts)
}

/// Waits until every client has its session, then reads window after window.
fn windows(
    running: &Running,
    plan: &Plan,
    hertz: f64,
    total: &mut Vec<f64>,
    stages: &mut Vec<Vec<(String, f64)>>,
) -> Outcome<()> {
    let mut before = running.read()?;
    for _ in 0..200 {
        if before.sessions >= u64::from(plan.clients) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
        before = running.read()?;
    }
    if before.sessions < u64::from(plan.clients) {
        return Err(format!("only {} of {} sessions were opened", before.sessions, plan.clients).into());
    }
    thread::sleep(Duration::from_millis(500));
    before = running.read()?;
    for _ in 0..plan.windows {
        thread::sleep(Duration::from_secs(1));
        let after = running.read()?;
        let packets = precise(after.received - before.received);
        if after.dropped != before.dropped || after.forwarded == before.forwarded {
            return Err(format!("{} packets of a window were dropped", after.dropped - before.dropped).into());
        }
        total.push(hertz * after.at.duration_since(before.at).as_secs_f64() / packets);
        stages.push(stage_costs(&before, &after));
        before = after;
    }
    Ok(())
}

fn stage_costs(before: &Reading, after: &Reading) -> Vec<(String, f64)> {
    let pairs = before.stages.iter().zip(&after.stages);
    pairs
        .map(|((name, old_packets, old_cycles), (_, packets, cycles))| {
            (name.clone(), (cycles - old_cycles) / precise((packets - old_packets).max(1)))
        })
        .collect()
}
