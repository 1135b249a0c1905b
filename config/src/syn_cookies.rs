//! Handshakes of a virtual service: `[virtual_service.syn_cookies]`, whether clients have to prove theirs before a session
//! exists, and `half_open_limit`, how many may be under way.

use stage::balancer::{Mode, ServiceProtocol};
use stage::syn_cookie::CookieMode;

use crate::findings::Finding;
use crate::kind::{choice, integer};
use crate::section::Section;

/// Handshakes under way that turn cookies on when the file does not say.
const ON_AT: u32 = 1_000;

/// Most handshakes that may be asked for: as many sessions as an appliance may have.
const HANDSHAKES_MAX: u32 = 50_000_000;

/// Reads how many handshakes a service may have under way.
pub(crate) fn half_open_limit(service: &mut Section<'_>, protocol: ServiceProtocol) -> Option<u32> {
    let limit = service.optional("half_open_limit", integer(1..=HANDSHAKES_MAX))?;
    if protocol != ServiceProtocol::Tcp {
        let message = format!("{} has a `half_open_limit`, but only TCP has handshakes", service.title);
        let finding = Finding::error("meaningless-key", &limit.spot, message);
        service.report(finding.advice("write protocol = \"tcp\", or remove it"));
    }
    Some(limit.value)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Off,
    Adaptive,
    Always,
}

/// Reads the cookies of a service; without the table there are none.
pub(crate) fn syn_cookies(service: &mut Section<'_>, protocol: ServiceProtocol, mode: Mode) -> CookieMode {
    let Some(mut section) = service.table("syn_cookies") else { return CookieMode::Off };
    let words = &[("off", Kind::Off), ("adaptive", Kind::Adaptive), ("always", Kind::Always)];
    let kind = section.or("mode", choice(words), Kind::Adaptive);
    let on_at = section.optional("on_at", integer(1..=HANDSHAKES_MAX));
    let off_at = section.optional("off_at", integer(0..=HANDSHAKES_MAX));
    if kind != Kind::Adaptive
        && let Some(written) = on_at.as_ref().or(off_at.as_ref())
    {
        let message = format!("{} says when cookies are used, but its mode is not \"adaptive\"", service.title);
        let finding = Finding::error("meaningless-key", &written.spot, message);
        service.report(finding.advice("write mode = \"adaptive\", or remove it"));
    }
    let on = on_at.as_ref().map_or(ON_AT, |at| at.value);
    let off = off_at.as_ref().map_or(on / 2, |at| at.value);
    if off >= on {
        let spot = off_at.as_ref().or(on_at.as_ref()).map_or_else(|| section.spot.clone(), |at| at.spot.clone());
        let message = format!("cookies would be turned off at {off} handshakes, but only come on at {on}");
        let finding = Finding::error("inverted-thresholds", &spot, message);
        service.report(finding.advice("write an `off_at` below `on_at`, such as half of it"));
    }
    if kind != Kind::Off && protocol != ServiceProtocol::Tcp {
        let message = format!("{} has `syn_cookies`, but only TCP has handshakes", service.title);
        let finding = Finding::error("meaningless-key", &section.spot, message);
        service.report(finding.advice("write protocol = \"tcp\", or remove it"));
    } else if kind != Kind::Off && mode.returns_directly() {
        let message = format!("{} has `syn_cookies`, but its backends answer clients directly", service.title);
        let finding = Finding::error("meaningless-key", &section.spot, message);
        service.report(
            finding.advice("write mode = \"nat\" or \"full-nat\": both halves of a connection have to pass here"),
        );
    }
    section.finish();
    match kind {
        Kind::Off => CookieMode::Off,
        Kind::Adaptive => CookieMode::Adaptive { on_at: on, off_at: off.min(on - 1) },
        Kind::Always => CookieMode::Always,
    }
}
