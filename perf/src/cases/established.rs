//! What a packet of a session costs that is there already: the daily work of an appliance.

use super::Case;
use super::point::Point;
use crate::Outcome;
use crate::bench::{Bench, or};
use crate::blueprint::Blueprint;
use crate::report::{Axis, Chapter, Line, Plot};
use crate::traffic::{Capture, Draw, Family, Protocol, Size};

/// The case.
#[derive(Clone, Copy, Debug)]
pub struct Established;

/// What is swept. A configuration of the user's has one first service, so its family and protocol are that service's; a
/// capture of the user's is as it is.
fn points(bench: &Bench) -> Outcome<Vec<Point>> {
    let settings = &bench.settings;
    if let Some(capture) = &settings.replay {
        let capture = Capture::read(capture)?;
        let target = Blueprint::of(settings.config.as_deref())?.target()?;
        let family = Family::of(target.address);
        return Ok(vec![Point { protocol: target.protocol, family, ..Point::plain(capture.sessions) }]);
    }
    let (families, protocols) = match &settings.config {
        Some(file) => {
            let target = Blueprint::read(file)?.target()?;
            (vec![Family::of(target.address)], vec![target.protocol])
        }
        None => (
            or(&settings.families, &[Family::V4, Family::V6]),
            or(&settings.protocols, &[Protocol::Udp, Protocol::Tcp]),
        ),
    };
    let mut points = Vec::new();
    for &family in &families {
        for &protocol in &protocols {
            for &size in &or(&settings.sizes, &[Size::Bytes(64)]) {
                for &draw in &or(&settings.draws, &[Draw::Uniform]) {
                    for &sessions in &or(&settings.sessions, &[1_000, 10_000, 100_000, 1_000_000]) {
                        points.push(Point { sessions, protocol, family, size, draw });
                    }
                }
            }
        }
    }
    Ok(points)
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
        for point in points(bench)? {
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
