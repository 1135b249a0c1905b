//! `[virtual_service.health]`: how backends are probed.

use stage::balancer::ServiceProtocol;
use toml::de::DeValue;
use units::Nanos;

use crate::duration::{duration, words};
use crate::findings::Finding;
use crate::kind::{Wrong, choice, integer, string};
use crate::nearest::quoted;
use crate::policy::{Health, Probe};
use crate::port_list::port;
use crate::section::Section;

/// From one probe to the next when the file does not say.
const INTERVAL: Nanos = Nanos::from_secs(1);

/// How long an answer may take when the file does not say.
const TIMEOUT: Nanos = Nanos::from_millis(500);

/// Answers and misses in a row when the file does not say.
const RISE: u32 = 2;
const FALL: u32 = 3;

/// Statuses that are well when the file does not say: success and redirection.
const STATUS: (u16, u16) = (200, 399);

/// Longest path or host name of a probe: one packet holds the request.
const WORD_BYTES_MAX: usize = 1_024;

/// The kinds of probe, before their details are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Tcp,
    Icmp,
    Http,
}

/// Reads the health of a service; without the table, TCP services are probed by connecting and UDP ones not at all.
pub(crate) fn health(service: &mut Section<'_>, protocol: ServiceProtocol) -> Health {
    let default = match protocol {
        ServiceProtocol::Tcp => Kind::Tcp,
        ServiceProtocol::Udp => Kind::None,
    };
    let Some(mut section) = service.table("health") else {
        let kind = if default == Kind::Tcp { Probe::Tcp } else { Probe::None };
        return Health { kind, interval: INTERVAL, timeout: TIMEOUT, rise: RISE, fall: FALL, port: None };
    };
    let words = &[("http", Kind::Http), ("tcp", Kind::Tcp), ("icmp", Kind::Icmp), ("none", Kind::None)];
    let kind = section.required("kind", choice(words), "say how: kind = \"http\", \"tcp\", \"icmp\" or \"none\"");
    let kind = kind.map(|kind| kind.value);
    let path = section.optional("path", path);
    let host = section.optional("host", host_name);
    let (status_min, status_max) = section.or("expect", status, STATUS);
    let (interval, timeout) = rhythm(&mut section);
    let health = Health {
        kind: match kind.unwrap_or(default) {
            Kind::None => Probe::None,
            Kind::Tcp => Probe::Tcp,
            Kind::Icmp => Probe::Icmp,
            Kind::Http => Probe::Http {
                path: path.map_or_else(|| "/".to_owned(), |path| path.value),
                host: host.map(|host| host.value),
                status_min,
                status_max,
            },
        },
        interval,
        timeout,
        rise: section.or("rise", integer(1..=100), RISE),
        fall: section.or("fall", integer(1..=100), FALL),
        port: section.optional("port", port).map(|at| at.value),
    };
    if let Some(kind) = kind {
        meaningless(&section, kind);
    }
    section.finish();
    health
}

/// Interval and timeout; a timeout beyond the interval would have probes overlap.
fn rhythm(section: &mut Section<'_>) -> (Nanos, Nanos) {
    let bounds = Nanos::from_millis(10)..=Nanos::from_secs(3_600);
    let interval = section.or("interval", duration(bounds.clone()), INTERVAL);
    let written = section.optional("timeout", duration(bounds));
    let timeout = written.as_ref().map_or(TIMEOUT.min(interval), |timeout| timeout.value);
    if let Some(written) = written.filter(|timeout| timeout.value > interval) {
        let message = format!("`timeout` is longer than `interval`, which is {}", words(interval));
        let finding = Finding::error("out-of-bounds", &written.spot, message);
        section.report(finding.contradicts(&section.spot_of("interval")).advice("a probe ends before the next begins"));
    }
    (interval, timeout)
}

/// Reports keys that mean nothing for this kind of probe.
fn meaningless(section: &Section<'_>, kind: Kind) {
    let (name, keys): (_, &[&str]) = match kind {
        Kind::None => ("none", &["path", "host", "expect", "interval", "timeout", "rise", "fall", "port"]),
        Kind::Tcp => ("tcp", &["path", "host", "expect"]),
        Kind::Icmp => ("icmp", &["path", "host", "expect", "port"]),
        Kind::Http => ("http", &[]),
    };
    for key in keys.iter().filter(|key| section.has(key)) {
        let message = format!("`{key}` means nothing for a probe of kind \"{name}\"");
        let advice = if kind == Kind::None {
            "remove it, or choose another kind"
        } else {
            "remove it, or write kind = \"http\""
        };
        section.report(Finding::error("meaningless-key", &section.spot_of(key), message).advice(advice));
    }
}

/// The path of a request.
fn path(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = string(value, "a path such as \"/healthz\"")?;
    if written.starts_with('/') && sendable(written) {
        return Ok(written.to_owned());
    }
    let advice = "write a path such as \"/healthz\": from the slash on, without blanks";
    Err(Wrong::new("bad-path", format!("{} is not the path of a request", quoted(written)), advice))
}

/// The value of a `Host` header.
fn host_name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = string(value, "a host name such as \"shop.example\"")?;
    if !written.is_empty() && sendable(written) && !written.contains('/') {
        return Ok(written.to_owned());
    }
    let advice = "write a host name such as \"shop.example\" or \"shop.example:8080\"";
    Err(Wrong::new("bad-host", format!("{} is not a host name", quoted(written)), advice))
}

/// Printable ASCII without blanks: nothing that could end a line of the request.
fn sendable(written: &str) -> bool {
    written.len() <= WORD_BYTES_MAX && written.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An HTTP status, or a range of them: `200`, `"200-299"`.
fn status(value: &DeValue<'_>) -> Result<(u16, u16), Wrong> {
    if value.is_integer() {
        return integer(100..=599)(value).map(|status| (status, status));
    }
    let written = string(value, "a status such as 200 or a range such as \"200-299\"")?;
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    let number = |digits: &str| {
        let digits = (digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)?;
        digits.parse().ok().filter(|status| (100..=599_u16).contains(status))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => {
            let advice = "write a status such as 200 or a range such as \"200-299\", from 100 to 599";
            Err(Wrong::new("bad-status", format!("{} is not an HTTP status", quoted(written)), advice))
        }
    }
}
