//! The keys of a service whose backends are reached by a tunnel, and the segment size that TCP ends may agree on.

use std::net::IpAddr;

use stage::balancer::{SegmentClamp, ServiceProtocol};
use stage::tunnel::{Encapsulation, GueVariant};
use toml::de::DeValue;

use crate::address::host;
use crate::findings::{At, Finding};
use crate::kind::{Wrong, integer};
use crate::links::Links;
use crate::port_list::port;
use crate::section::Section;

/// Which tunnel `mode` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelKind {
    /// IP in IP.
    IpIp,
    /// Generic routing encapsulation.
    Gre,
    /// Generic UDP encapsulation.
    Gue,
}

/// The port GUE is registered for (draft-ietf-intarea-gue section 8.1).
pub(crate) const GUE_PORT: u16 = 6_080;

/// Smallest segment size that may be asked for: what a TCP end assumes when nothing is announced (RFC 9293).
const SEGMENT_MIN: u16 = 536;
/// Largest: what fits into the largest MTU of a port.
const SEGMENT_MAX: u16 = 9_560;

/// Reads what belongs to a tunnel of this kind, or reports what is written without one.
pub(crate) fn keys(section: &mut Section<'_>, kind: Option<TunnelKind>, links: &Links) -> (Encapsulation, Vec<IpAddr>) {
    let source = section.list("tunnel_source", host);
    let key = section.optional("gre_key", integer(0..=u32::MAX));
    let gue_port = section.or("gue_port", port, GUE_PORT);
    let variant = section.or("gue_variant", integer(0..=1), 1u8);
    for (name, mode, meant) in [
        ("tunnel_source", "ipip", kind.is_some()),
        ("gre_key", "gre", kind == Some(TunnelKind::Gre)),
        ("gue_port", "gue", kind == Some(TunnelKind::Gue)),
        ("gue_variant", "gue", kind == Some(TunnelKind::Gue)),
    ] {
        if section.has(name) && !meant {
            let message = format!("{} has `{name}`, which its mode has no use for", section.title);
            let finding = Finding::error("meaningless-key", &section.spot_of(name), message);
            section.report(finding.advice(format!("write mode = \"{mode}\", or remove it")));
        }
    }
    sources(section, &source, links);
    let encapsulation = match kind {
        Some(TunnelKind::Gre) => Encapsulation::Gre { key: key.map(|key| key.value) },
        Some(TunnelKind::Gue) => Encapsulation::Gue {
            port: gue_port,
            variant: if variant == 0 { GueVariant::Header } else { GueVariant::Direct },
        },
        Some(TunnelKind::IpIp) | None => Encapsulation::IpIp,
    };
    (encapsulation, source.into_iter().map(|source| source.value).collect())
}

/// Reports beginnings of tunnels that are no addresses of ours, so that nobody could tell us what happens on the way, and
/// second ones of a family.
fn sources(section: &Section<'_>, sources: &[At<IpAddr>], links: &Links) {
    for (position, source) in sources.iter().enumerate() {
        let earlier = sources.iter().take(position).find(|other| other.value.is_ipv4() == source.value.is_ipv4());
        if let Some(earlier) = earlier {
            let message = format!("{} has two tunnel sources of one IP version", section.title);
            let finding = Finding::error("duplicate-address", &source.spot, message).contradicts(&earlier.spot);
            section.report(finding.advice("write one IPv4 and one IPv6 address at most"));
        } else if links.complete && links.own(source.value).is_none() {
            let message = format!("the tunnel source {} is no address of a port", source.value);
            let advice = "write one of the appliance's own addresses: errors from the path come back there";
            section.report(Finding::error("not-own-address", &source.spot, message).advice(advice));
        }
    }
}

/// Reads `mss_clamp`: `true`, or a number of bytes.
pub(crate) fn mss_clamp(section: &mut Section<'_>, protocol: ServiceProtocol) -> Option<SegmentClamp> {
    let written = section.optional("mss_clamp", clamp)?;
    if protocol == ServiceProtocol::Udp {
        let message = format!("{} has `mss_clamp`, but its protocol is \"udp\"", section.title);
        let finding = Finding::error("meaningless-key", &written.spot, message);
        section.report(finding.advice("remove it: only TCP announces segment sizes"));
    }
    written.value
}

fn clamp(value: &DeValue<'_>) -> Result<Option<SegmentClamp>, Wrong> {
    match value {
        DeValue::Boolean(true) => Ok(Some(SegmentClamp::ToPath)),
        DeValue::Boolean(false) => Ok(None),
        DeValue::Integer(_) => integer(SEGMENT_MIN..=SEGMENT_MAX)(value).map(|size| Some(SegmentClamp::To(size))),
        _ => Err(Wrong::kind(value, "true, false, or a number of bytes such as 1360")),
    }
}
