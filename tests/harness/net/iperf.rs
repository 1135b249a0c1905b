//! iperf3 between hosts of the lab: servers, and what a client's run says of itself. Called by end-to-end tests on their own thread.

use serde_json::Value;

use super::{Lab, Namespace, Process, holds_within};

/// A running server, at port 5201.
#[derive(Debug)]
pub struct Iperf {
    _server: Process,
}

impl Iperf {
    /// Starts one on `host`, at `address` or, where that is `*`, at all it has, and waits until it listens.
    #[must_use]
    #[track_caller]
    pub fn start(lab: &Lab, host: &Namespace, address: &str) -> Self {
        let (bind, listens) = match address {
            "*" => (String::new(), "*:5201".to_owned()),
            _ if address.contains(':') => (format!("--bind {address}"), format!("[{address}]:5201")),
            _ => (format!("--bind {address}"), format!("{address}:5201")),
        };
        let log = lab.file(&format!("iperf3-{}-{}.log", host.name(), address.replace([':', '*'], "-")));
        let mut server = host.start(&format!("iperf3 --server {bind}"), &log);
        let listening = holds_within(5, || {
            assert!(server.running(), "iperf3 ended: {}", server.output());
            host.listens("tcp", &listens)
        });
        assert!(listening, "iperf3 does not listen at {listens}: {}", server.output());
        Self { _server: server }
    }

    /// A client's run; it has to succeed. One that has not begun is begun again: a server serves one client at a time, and between
    /// two of them it does not listen for a moment.
    #[must_use]
    #[track_caller]
    pub fn run(client: &Namespace, options: &str) -> Run {
        let mut run = Run(Value::Null);
        let begun = holds_within(10, || {
            let finished = client.run(&format!("iperf3 --json --connect-timeout 5000 {options}"));
            run = Run(serde_json::from_str(&finished.out).unwrap_or_else(|_| Value::from(finished.err)));
            !run.seconds().is_empty()
        });
        assert!(begun && run.0.get("error").is_none(), "iperf3 {options}: {}", run.0.get("error").unwrap_or(&run.0));
        run
    }

    /// A client's second of datagrams, the most of which have to arrive. Who pauses for most of it loses what comes meanwhile, so it
    /// is asked again: what loses them for another reason always does.
    #[track_caller]
    pub fn most_arrive(client: &Namespace, options: &str) {
        let mut seen = (0.0, 100.0);
        let arrived = holds_within(2, || {
            seen = Self::run(client, &format!("--udp --time 1 {options}")).datagrams();
            seen.0 > 50.0 && seen.1 < 50.0
        });
        assert!(arrived, "iperf3 {options}: {} % of {} datagrams were lost", seen.1, seen.0);
    }
}

/// A client's report.
#[derive(Debug)]
pub struct Run(Value);

impl Run {
    /// Bytes of each second.
    #[must_use]
    pub fn seconds(&self) -> Vec<u64> {
        let intervals = self.0.get("intervals").and_then(Value::as_array).into_iter().flatten();
        intervals.filter_map(|interval| interval.pointer("/sum/bytes")?.as_u64()).collect()
    }

    /// Bytes that the receiver has got.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.0.pointer("/end/sum_received/bytes").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Datagrams sent, and how many percent of them were lost.
    fn datagrams(&self) -> (f64, f64) {
        let number = |field: &str| self.0.pointer(&format!("/end/sum/{field}")).and_then(Value::as_f64);
        (number("packets").unwrap_or(0.0), number("lost_percent").unwrap_or(100.0))
    }
}
