//! What must hold after every scenario, whatever it was (A2 to A5 of the catalogue of cases).

use session::Timeouts;
use units::Nanos;
use wire::{Content, Facts, Fragment, Malformed, Transport, Verify, dissect};

use super::{Rig, Side};
use crate::packet::{internet_checksum, show};

/// Time passes in steps of this when a rig is brought to its end.
const STEP: Nanos = Nanos::from_secs(30);

/// The longest idle limit there is.
pub(super) fn longest(timeouts: &Timeouts) -> Nanos {
    let Timeouts {
        tcp_syn,
        tcp_syn_received,
        tcp_established,
        tcp_closing,
        tcp_time_wait,
        tcp_closed,
        udp_one_way,
        udp_two_way,
        icmp,
        other,
        lingering,
    } = *timeouts;
    [
        tcp_syn,
        tcp_syn_received,
        tcp_established,
        tcp_closing,
        tcp_time_wait,
        tcp_closed,
        udp_one_way,
        udp_two_way,
        icmp,
        other,
        lingering.udp,
        lingering.tcp_transitory,
        lingering.icmp,
    ]
    .into_iter()
    .max()
    .unwrap_or_default()
}

/// A5: lengths and checksums of a packet the appliance sent are right, by the reader under test and by plain sums.
pub(super) fn check_packet(side: Side, bytes: &[u8]) {
    let frame = match dissect(bytes, Verify::All) {
        Ok(frame) => frame,
        // The appliance makes none of these: what is no IP packet passes through a pair of ports as it came.
        Err(Malformed::ArpTruncated | Malformed::ArpUnsupported | Malformed::ArpSender) => return,
        Err(fault) => panic!("A5: what left at {side:?} is not right ({fault}):\n{}", show(bytes)),
    };
    if let Content::Ip(facts) = frame.content {
        check_sums(&facts, bytes);
    }
}

fn check_sums(facts: &Facts, bytes: &[u8]) {
    let (network, transport, end) =
        (usize::from(facts.network), usize::from(facts.transport_offset), usize::from(facts.end));
    let mut pseudo = Vec::new();
    match facts.endpoints {
        wire::Endpoints::V4 { source, destination } => {
            assert_eq!(internet_checksum(&bytes[network..transport]), 0, "A5: IPv4 header checksum: {}", show(bytes));
            pseudo.extend(source.octets());
            pseudo.extend(destination.octets());
        }
        wire::Endpoints::V6 { source, destination } => {
            pseudo.extend(source.octets());
            pseudo.extend(destination.octets());
        }
    }
    if facts.fragment != Fragment::No {
        return;
    }
    let segment = &bytes[transport..end];
    pseudo.extend(u32::try_from(segment.len()).expect("a packet").to_be_bytes());
    pseudo.extend([0, 0, 0, facts.protocol]);
    let covered = match facts.transport {
        Transport::Udp { no_checksum: true, .. } | Transport::Other | Transport::Unknown => return,
        Transport::Tcp(_) | Transport::Udp { .. } => [&pseudo, segment].concat(),
        Transport::Echo { .. } | Transport::Icmp { .. } | Transport::IcmpError { .. } if facts.endpoints.is_v6() => {
            [&pseudo, segment].concat()
        }
        Transport::Echo { .. } | Transport::Icmp { .. } | Transport::IcmpError { .. } => segment.to_vec(),
    };
    assert_eq!(internet_checksum(&covered), 0, "A5: transport checksum: {}", show(bytes));
}

impl Rig {
    /// A2: every packet that came in went somewhere, and the rig saw what the counters say. Nothing may be on its way.
    pub fn assert_accounted(&self) {
        let count = |counter: fn(&worker::WorkerCounters) -> &worker::Counter| self.count(counter);
        let (received, from_kernel) = (count(|c| &c.received), count(|c| &c.from_kernel));
        let (forwarded, consumed, punted) = (count(|c| &c.forwarded), count(|c| &c.consumed), count(|c| &c.punted));
        let (originated, held) = (count(|c| &c.originated), count(|c| &c.held));
        let dropped: u64 = self.counters.iter().map(|counters| counters.dropped_total()).sum();
        assert_eq!(
            received + from_kernel,
            forwarded + consumed + punted + dropped + held,
            "A2: received {received} + from the kernel {from_kernel} = forwarded {forwarded} + consumed {consumed} + \
             punted {punted} + dropped {dropped} + held {held}; drops: {:?}",
            self.drops()
        );
        assert_eq!(received, self.tally.arrived, "A2: packets received, counted and put in");
        assert_eq!(from_kernel, self.tally.from_kernel, "A2: packets of the kernel, counted and put in");
        assert_eq!(
            forwarded + originated,
            self.tally.sent + self.tally.lost,
            "A2: forwarded {forwarded} + originated {originated} = sent + lost with their device"
        );
        assert_eq!(punted, self.tally.to_kernel, "A2: packets punted, counted and seen");
    }

    /// The end of a scenario: A2, then A4 and A3 when the longest timeout has passed.
    fn assert_standing(&mut self) {
        for port in 0..self.wires.len() {
            for wire in &self.wires[port] {
                wire.jam(false);
            }
        }
        self.settle();
        self.assert_accounted();
        let end = self.now() + self.longest_timeout + STEP;
        while self.now() < end && (self.session_count() > 0 || self.count(|c| &c.held) > 0) {
            self.leap(STEP);
        }
        assert_eq!(self.session_count(), 0, "A4: sessions after the longest timeout");
        assert_eq!(self.count(|c| &c.held), 0, "A4: packets that wait for a next hop after the longest timeout");
        let (opened, closed) = (self.count(|c| &c.sessions_opened), self.count(|c| &c.sessions_closed));
        assert_eq!(opened, closed, "A4: sessions opened and closed");
        let placed = self.policy.neighbors.len();
        for worker in &self.workers {
            assert!(worker.next_hops_in_use() <= placed, "A4: next hops in use without sessions, {placed} placed");
        }
        for service in self.snapshot.services.iter() {
            for member in service.members() {
                let name = member.backend.name();
                assert_eq!(member.backend.active(), 0, "A4: sessions in progress of backend {name}");
            }
        }
        assert_eq!(self.pool.in_use(), 0, "A3: buffers in use when nothing is under way");
        self.assert_accounted();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_standing();
        }
    }
}
