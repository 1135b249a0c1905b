//! `[session_log]`: where records of sessions go, and what they say. Of the whole appliance: a log of some rules' sessions would be
//! one with holes; what a rule decides is logged by its own `log`.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;
use units::Nanos;
use units::limits::LOG_RECORDS_MAX;

use crate::duration::duration;
use crate::findings::{At, Finding};
use crate::kind::{Wrong, choice, integer, string};
use crate::nearest::quoted;
use crate::policy::{Collector, SessionEvents, SessionLog, SessionLogFormat};
use crate::section::Section;

/// Bytes of a Unix socket's path in the kernel's `sockaddr_un`, its final zero left out.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The observation domain when the file does not say.
const DOMAIN: u32 = 1;

/// From one repetition of the templates to the next when the file does not say.
const TEMPLATE_INTERVAL: Nanos = Nanos::from_secs(60);

/// Bytes of a message when the file does not say: what every Ethernet takes, with a tunnel's header in front.
const MESSAGE_SIZE: u16 = 1_400;

/// Fewest bytes of a message (RFC 7011 section 10.3.3 has as many where nothing is known of the path), and most: jumbo frames.
const MESSAGE_SIZES: core::ops::RangeInclusive<u16> = 512..=8_900;

/// Records a worker may be ahead of the collector when the file does not say: 11 MiB.
const QUEUE: u32 = 65_536;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Open,
    Close,
    Nat,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// Where a collector is, as it is written.
enum Place {
    Address(SocketAddr),
    Path(PathBuf),
}

/// Reads `[session_log]`, for this number of workers; without it nothing is told of sessions.
pub(crate) fn session_log(root: &mut Section<'_>, workers: usize) -> Option<SessionLog> {
    let mut section = root.table("session_log")?;
    let formats = &[("ipfix", SessionLogFormat::Ipfix), ("json", SessionLogFormat::Json)];
    let format = section.required("format", choice(formats), "say which: format = \"ipfix\" or format = \"json\"");
    let collector = section.required("collector", place, "say where: collector = \"192.0.2.9:4739\"");
    let transport = section.optional("transport", choice(&[("udp", Transport::Udp), ("tcp", Transport::Tcp)]));
    let words = &[("open", Event::Open), ("close", Event::Close), ("nat", Event::Nat)];
    let events = section.list("events", choice(words));
    let domain = section.optional("domain", integer(0..=u32::MAX));
    let template_interval =
        section.optional("template_interval", duration(Nanos::from_secs(1)..=Nanos::from_secs(86_400)));
    let message_size = section.optional("message_size", integer(MESSAGE_SIZES));
    let queue = section.optional("queue", integer(1_024..=1_048_576));
    if let Some(much) = queue.as_ref().filter(|queue| queue.value as usize * workers > LOG_RECORDS_MAX) {
        let message = format!(
            "queues of {} records are {} for {workers} workers, more than the {LOG_RECORDS_MAX} there can be",
            much.value,
            much.value as usize * workers
        );
        let advice = format!("write {} or less", LOG_RECORDS_MAX / workers);
        section.report(Finding::error("does-not-fit", &much.spot, message).advice(advice));
    }
    let collector = collector.zip(format.as_ref().map(|format| format.value));
    let collector = collector.and_then(|(place, format)| reached(&section, format, place, transport));
    if format.as_ref().is_some_and(|format| format.value == SessionLogFormat::Json) {
        let spots = [
            ("domain", domain.as_ref().map(|at| &at.spot)),
            ("template_interval", template_interval.as_ref().map(|at| &at.spot)),
            ("message_size", message_size.as_ref().map(|at| &at.spot)),
        ];
        for (key, spot) in spots {
            let Some(spot) = spot else { continue };
            let message = format!("[session_log] has a `{key}`, but only IPFIX has messages");
            let finding = Finding::error("meaningless-key", spot, message);
            section.report(finding.advice("write format = \"ipfix\", or remove it"));
        }
    }
    section.finish();
    let tells = |event| events.is_empty() || events.iter().any(|written| written.value == event);
    Some(SessionLog {
        format: format?.value,
        collector: collector?,
        events: SessionEvents { open: tells(Event::Open), close: tells(Event::Close), nat: tells(Event::Nat) },
        domain: domain.map_or(DOMAIN, |at| at.value),
        template_interval: template_interval.map_or(TEMPLATE_INTERVAL, |at| at.value),
        message_size: message_size.map_or(MESSAGE_SIZE, |at| at.value),
        queue: queue.map_or(QUEUE, |at| at.value) as usize,
    })
}

/// How a collector is reached; reports what does not go together.
fn reached(
    section: &Section<'_>,
    format: SessionLogFormat,
    place: At<Place>,
    transport: Option<At<Transport>>,
) -> Option<Collector> {
    match (format, place.value, transport) {
        (SessionLogFormat::Ipfix, Place::Path(_), _) => {
            let message = "IPFIX is sent to an address, and this is the path of a socket";
            let finding = Finding::error("wrong-transport", &place.spot, message);
            section.report(finding.advice("write an address and a port, or format = \"json\""));
            None
        }
        (SessionLogFormat::Json, Place::Path(_), Some(transport)) => {
            let message = "the collector is a socket of this machine, which has no `transport`";
            let finding = Finding::error("meaningless-key", &transport.spot, message);
            section.report(finding.advice("remove it"));
            None
        }
        (SessionLogFormat::Json, Place::Path(path), None) => Some(Collector::Unix(path)),
        (SessionLogFormat::Json, Place::Address(_), Some(At { value: Transport::Udp, spot })) => {
            let message = "lines of JSON are sent by TCP: over UDP nobody knows which are missing";
            let finding = Finding::error("wrong-transport", &spot, message);
            section.report(finding.advice("write transport = \"tcp\", or format = \"ipfix\""));
            None
        }
        (SessionLogFormat::Json, Place::Address(address), _)
        | (SessionLogFormat::Ipfix, Place::Address(address), Some(At { value: Transport::Tcp, .. })) => {
            Some(Collector::Tcp(address))
        }
        (SessionLogFormat::Ipfix, Place::Address(address), _) => Some(Collector::Udp(address)),
    }
}

/// An address and a port, or the path of a Unix socket.
fn place(value: &DeValue<'_>) -> Result<Place, Wrong> {
    let example =
        "an address and a port such as \"192.0.2.9:4739\", or a path from the root such as \"/run/vector.sock\"";
    let written = string(value, example)?;
    let wrong = || {
        let predicate = format!("{} is no place where a collector can be", quoted(written));
        Err(Wrong::new("bad-address", predicate, format!("write {example}")))
    };
    if written.starts_with('/') {
        let is_path =
            written.len() <= SOCKET_PATH_BYTES_MAX && !written.ends_with('/') && !written.contains(char::is_control);
        return if is_path { Ok(Place::Path(PathBuf::from(written))) } else { wrong() };
    }
    match written.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_multicast() && !address.ip().is_unspecified() => {
            Ok(Place::Address(address))
        }
        Ok(_) | Err(_) => wrong(),
    }
}
