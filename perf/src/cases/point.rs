//! One kind of established traffic: what is swept, what was aimed at, and the comparison to make of it.

use std::collections::BTreeMap;

use crate::Outcome;
use crate::bench::{Bench, Experiment};
use crate::blueprint::Blueprint;
use crate::traffic::{Capture, Clients, Draw, Family, Protocol, Size, Traffic};

/// One point of the sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) sessions: u32,
    pub(super) protocol: Protocol,
    pub(super) family: Family,
    pub(super) size: Size,
    pub(super) draw: Draw,
}

impl Point {
    /// The traffic that targets are set for.
    pub(super) const fn plain(sessions: u32) -> Self {
        Self { sessions, protocol: Protocol::Udp, family: Family::V4, size: Size::Bytes(64), draw: Draw::Uniform }
    }

    /// Net cycles aimed at for 64-byte frames in uniform order; IPv6 may cost 15 % more.
    fn target(self) -> Option<f64> {
        if self.size != Size::Bytes(64) || self.draw != Draw::Uniform {
            return None;
        }
        let four = match (self.protocol, self.sessions) {
            (Protocol::Udp, 10_000) => 55.0,
            (Protocol::Udp, 1_000_000) => 80.0,
            (Protocol::Udp, 10_000_000) => 110.0,
            (Protocol::Tcp, 10_000) => 65.0,
            (Protocol::Tcp, 1_000_000) => 95.0,
            _ => return None,
        };
        Some(if self.family == Family::V4 { four } else { four * 1.15 })
    }

    pub(super) fn label(self) -> String {
        let Self { sessions, protocol, family, size, draw } = self;
        let draw = if draw == Draw::Zipf { ", zipf" } else { "" };
        let bytes = if size == Size::Imix { "" } else { " B" };
        format!("{} {protocol} {family} {size}{bytes}{draw}", thousands(sessions))
    }

    pub(super) fn parameters(self) -> BTreeMap<String, String> {
        let Self { sessions, protocol, family, size, draw } = self;
        [
            ("sessions", sessions.to_string()),
            ("protocol", protocol.to_string()),
            ("family", family.to_string()),
            ("size", size.to_string()),
            ("draw", draw.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The configuration for it: the example's, or the user's.
    pub(super) fn blueprint(self, bench: &Bench) -> Outcome<Blueprint> {
        let mut blueprint = match &bench.settings.config {
            Some(file) => Blueprint::read(file)?,
            None => Blueprint::example(self.family, self.protocol)?,
        };
        if self.protocol == Protocol::Tcp {
            // One direction is replayed: connections are taken up in the middle.
            blueprint.set("sessions", "midstream", "loose")?;
        }
        Ok(blueprint)
    }

    /// The comparison at this point.
    pub(super) fn experiment(self, bench: &Bench) -> Outcome<Experiment> {
        let blueprint = self.blueprint(bench)?;
        let clients = Clients::new(blueprint.target()?, self.sessions);
        self.experiment_with(bench, blueprint, clients)
    }

    /// The comparison with another configuration and other clients.
    pub(super) fn experiment_with(self, bench: &Bench, blueprint: Blueprint, clients: Clients) -> Outcome<Experiment> {
        let (capture, label, target) = match &bench.settings.replay {
            Some(file) => (Capture::read(file)?, format!("{} of {}", self.label(), file.display()), None),
            None => {
                let traffic = Traffic { clients, size: self.size, draw: self.draw };
                (Capture::of(&traffic, &bench.settings.folder)?, self.label(), self.target())
            }
        };
        Ok(Experiment {
            label,
            parameters: self.parameters(),
            devices: vec![capture.device(0), "net_null0,no-rx=1".to_owned()],
            blueprint,
            packets: capture.packets,
            longest: capture.longest,
            capacity: capture.sessions.next_power_of_two().max(1_024),
            // What a capture of the user's opens depends on its rules: the drops tell.
            sessions: bench.settings.replay.is_none().then_some(capture.sessions),
            target,
        })
    }
}

/// A number as people read it.
pub(super) fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many of something, in words.
pub(super) fn counted(number: u32, one: &str) -> String {
    format!("{} {one}{}", thousands(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, written) in [(0, "0"), (999, "999"), (1_000, "1,000"), (10_000_000, "10,000,000")] {
            assert_eq!(thousands(number), written);
        }
    }

    #[test]
    fn targets_are_for_what_they_were_set() {
        let size = Size::Bytes(64);
        let plain = Point { sessions: 10_000, protocol: Protocol::Udp, family: Family::V4, size, draw: Draw::Uniform };
        assert_eq!(plain.target(), Some(55.0));
        assert_eq!(Point { draw: Draw::Zipf, ..plain }.target(), None);
        assert_eq!(Point { sessions: 1_000_000, family: Family::V6, ..plain }.target(), Some(80.0 * 1.15));
        assert_eq!(Point { sessions: 1_000, ..plain }.target(), None);
    }
}
