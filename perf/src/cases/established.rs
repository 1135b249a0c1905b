//! What a packet of a session costs that is there already: the daily work of an appliance.

use std::collections::BTreeMap;

use super::Case;
use crate::Outcome;
use crate::bench::{Bench, Experiment, or};
use crate::blueprint::Blueprint;
use crate::report::{Axis, Chapter, Line, Plot};
use crate::traffic::{Capture, Clients, Draw, Family, Protocol, Size, Traffic};

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Established;

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

    /// The comparison at this point: the example's configuration, or the user's.
    pub(super) fn experiment(self, bench: &Bench) -> Outcome<Experiment> {
        let mut blueprint = match &bench.settings.config {
            Some(file) => Blueprint::read(file)?,
            None => Blueprint::example(self.family, self.protocol)?,
        };
        if self.protocol == Protocol::Tcp {
            // One direction is replayed: connections are taken up in the middle.
            blueprint.set("sessions", "midstream", "loose")?;
        }
        let clients = Clients::new(blueprint.target()?, self.sessions);
        let capture = match &bench.settings.replay {
            Some(file) => Capture::read(file)?,
            None => Capture::of(&Traffic { clients, size: self.size, draw: self.draw }, &bench.settings.folder)?,
        };
        Ok(Experiment {
            label: self.label(),
            parameters: self.parameters(),
            devices: vec![capture.device(0), "net_null0,no-rx=1".to_owned()],
            blueprint,
            packets: capture.packets,
            longest: capture.longest,
            capacity: capture.sessions.next_power_of_two().max(1_024),
            sessions: Some(capture.sessions),
            target: self.target(),
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

fn points(bench: &Bench) -> Vec<Point> {
    let settings = &bench.settings;
    let mut points = Vec::new();
    for &family in &or(&settings.families, &[Family::V4, Family::V6]) {
        for &protocol in &or(&settings.protocols, &[Protocol::Udp, Protocol::Tcp]) {
            for &size in &or(&settings.sizes, &[Size::Bytes(64)]) {
                for &draw in &or(&settings.draws, &[Draw::Uniform]) {
                    for &sessions in &or(&settings.sessions, &[1_000, 10_000, 100_000, 1_000_000]) {
                        points.push(Point { sessions, protocol, family, size, draw });
                    }
                }
            }
        }
    }
    points
}

impl Case for Established {
    fn name(&self) -> &'static str {
        "established"
    }

    fn sentence(&self) -> &'static str {
        "A packet of a session that is there already: firewall verdict, NAT rewrite, window check, counters."
    }

    fn method(&self) -> &'static str {
        "One frame from each client is replayed without end by net_pcap (infinite_rx) and goes out through net_null; testpmd \
         passes the same frames on untouched. Firewall and balancer (nat, Maglev, two backends) of config/examples/bench.toml. \
         TCP frames are data segments of the client's side with midstream = \"loose\": every one is judged against the window \
         as a repetition of the same bytes; the server's side is silent."
    }

    fn run(&self, bench: &Bench, chapter: &mut Chapter) -> Outcome<()> {
        let points = points(bench);
        for point in &points {
            match point.experiment(bench).and_then(|experiment| bench.compare(&experiment)) {
                Ok(measured) => chapter.measurements.push(measured),
                Err(why) => chapter.failed.push(format!("{}: {why}", point.label())),
            }
        }
        chapter.plots.extend(by_sessions(chapter));
        Ok(())
    }
}

/// Net cycles by the number of sessions, a line for each kind of traffic; nothing when there is only one number.
fn by_sessions(chapter: &Chapter) -> Option<Plot> {
    let mut lines: Vec<Line> = Vec::new();
    for each in &chapter.measurements {
        let of = |name: &str| each.parameters.get(name).map_or("", String::as_str);
        let name = format!("{} {} {} {}", of("protocol"), of("family"), of("size"), of("draw"));
        let point = (of("sessions").parse().unwrap_or_default(), each.net.median);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name, points: vec![point] }),
        }
    }
    lines.iter().any(|line| line.points.len() > 1).then(|| Plot {
        title: "Net cycles a packet by the number of sessions".to_owned(),
        x: Axis { title: "sessions".to_owned(), logarithmic: true },
        y: Axis { title: "cycles above testpmd io".to_owned(), logarithmic: false },
        lines,
    })
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
