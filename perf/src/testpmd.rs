//! The baseline: `dpdk-testpmd` in `io` mode, which passes packets on untouched, on the same devices.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Outcome;

/// Runs testpmd for `windows` seconds on `core` and returns packets a second, one figure a second; the first is left out.
/// `devices` are as in the appliance's configuration; `buffers` is the size of its pool.
///
/// # Errors
/// When testpmd does not start or says nothing.
pub fn packets_per_second(devices: [&str; 2], core: usize, buffers: u32, windows: usize) -> Outcome<Vec<u64>> {
    let [input, output] = devices;
    let mut child = Command::new("nice")
        .args(["-n", "-20", "dpdk-testpmd", "-l"])
        .arg(format!("0,{core}"))
        .args(["--no-pci", "--in-memory", "--log-level=error"])
        .args(["--vdev", input, "--vdev", output, "--", "--forward-mode=io", "--nb-cores=1", "--stats-period=1"])
        .arg(format!("--total-num-mbufs={buffers}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("dpdk-testpmd (package dpdk-dev) does not start: {error}"))?;
    let mut rates = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            if let Some(rate) = transmitted(&line?) {
                rates.push(rate);
            }
            if rates.len() > windows + 1 {
                break;
            }
        }
    }
    terminate(child)?;
    // Before the first figure there was no traffic, or only a part of a second of it.
    let rates = rates.split_off(rates.len().min(2));
    if rates.is_empty() {
        Err("dpdk-testpmd forwarded nothing; is there enough free hugepage memory?".into())
    } else {
        Ok(rates)
    }
}

/// What a line of the report says of the second port's transmission.
fn transmitted(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("Tx-pps:")?;
    rest.split_whitespace().next()?.parse().ok().filter(|&rate| rate > 0)
}

/// Asks a child to stop and waits; after five seconds it is stopped.
pub(crate) fn terminate(mut child: std::process::Child) -> Outcome<()> {
    Command::new("kill").arg("-TERM").arg(child.id().to_string()).status()?;
    for _ in 0..100 {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_the_report() {
        assert_eq!(transmitted("  Tx-pps:     66175503          Tx-bps:            0"), Some(66_175_503));
        assert_eq!(transmitted("  Tx-pps:            0          Tx-bps:            0"), None);
        assert_eq!(transmitted("  TX-packets: 456417120  TX-errors: 0"), None);
    }
}
