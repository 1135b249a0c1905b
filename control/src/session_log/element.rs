//! The information elements that entries are told by, as IANA has them ("IPFIX Information Elements"), and the templates: which
//! elements stand in which record (RFC 7011 section 3.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use worker::{Ending, Turn};

use super::entry::{About, Entry, Translation, Versions, ports, protocol};

/// Elements by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Element {
    ProtocolIdentifier = 4,
    SourceTransportPort = 7,
    SourceIpv4Address = 8,
    IngressInterface = 10,
    DestinationTransportPort = 11,
    DestinationIpv4Address = 12,
    EgressInterface = 14,
    SourceIpv6Address = 27,
    DestinationIpv6Address = 28,
    ExportedMessageTotalCount = 41,
    ExportedFlowRecordTotalCount = 42,
    InterfaceName = 82,
    OctetTotalCount = 85,
    PacketTotalCount = 86,
    FlowEndReason = 136,
    ObservationDomainId = 149,
    FlowStartMilliseconds = 152,
    FlowEndMilliseconds = 153,
    NotSentFlowTotalCount = 167,
    PostNatSourceIpv4Address = 225,
    PostNatDestinationIpv4Address = 226,
    PostNaptSourceTransportPort = 227,
    PostNaptDestinationTransportPort = 228,
    NatEvent = 230,
    FirewallEvent = 233,
    VrfName = 236,
    PostNatSourceIpv6Address = 281,
    PostNatDestinationIpv6Address = 282,
    ObservationTimeMilliseconds = 323,
}

/// The length of an element that says its own (RFC 7011 section 7).
const VARIABLE: u16 = u16::MAX;

impl Element {
    /// Bytes of it.
    pub(super) const fn length(self) -> u16 {
        match self {
            Self::ProtocolIdentifier | Self::FlowEndReason | Self::NatEvent | Self::FirewallEvent => 1,
            Self::SourceTransportPort
            | Self::DestinationTransportPort
            | Self::PostNaptSourceTransportPort
            | Self::PostNaptDestinationTransportPort => 2,
            Self::SourceIpv4Address
            | Self::DestinationIpv4Address
            | Self::PostNatSourceIpv4Address
            | Self::PostNatDestinationIpv4Address
            | Self::IngressInterface
            | Self::EgressInterface
            | Self::ObservationDomainId => 4,
            Self::OctetTotalCount
            | Self::PacketTotalCount
            | Self::FlowStartMilliseconds
            | Self::FlowEndMilliseconds
            | Self::ObservationTimeMilliseconds
            | Self::ExportedMessageTotalCount
            | Self::ExportedFlowRecordTotalCount
            | Self::NotSentFlowTotalCount => 8,
            Self::SourceIpv6Address
            | Self::DestinationIpv6Address
            | Self::PostNatSourceIpv6Address
            | Self::PostNatDestinationIpv6Address => 16,
            Self::InterfaceName | Self::VrfName => VARIABLE,
        }
    }
}

/// A field of a template: an element of who opened the session, or the same of who answers (RFC 5103 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Forth(Element),
    Back(Element),
}

/// The enterprise whose elements are the reverse ones (RFC 5103 section 6.1).
const REVERSE: u32 = 29_305;
const ENTERPRISE_BIT: u16 = 1 << 15;

/// A template: its number, how many of its first fields are the scope (of an options template; else none), its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) id: u16,
    pub(super) scopes: u16,
    pub(super) fields: &'static [Field],
}

/// Sets that hold templates (RFC 7011 section 3.3.2).
pub(super) const TEMPLATE_SET: u16 = 2;
pub(super) const OPTIONS_TEMPLATE_SET: u16 = 3;

impl Template {
    /// The set it is described in.
    pub(super) const fn set(&self) -> u16 {
        if self.scopes == 0 { TEMPLATE_SET } else { OPTIONS_TEMPLATE_SET }
    }

    /// Writes its description (RFC 7011 sections 3.4.1 and 3.4.2).
    pub(super) fn describe(&self, out: &mut Vec<u8>) {
        out.extend(self.id.to_be_bytes());
        out.extend(u16::try_from(self.fields.len()).unwrap_or(u16::MAX).to_be_bytes());
        if self.scopes > 0 {
            out.extend(self.scopes.to_be_bytes());
        }
        for field in self.fields {
            match *field {
                Field::Forth(element) => {
                    out.extend((element as u16).to_be_bytes());
                    out.extend(element.length().to_be_bytes());
                }
                Field::Back(element) => {
                    out.extend((element as u16 | ENTERPRISE_BIT).to_be_bytes());
                    out.extend(element.length().to_be_bytes());
                    out.extend(REVERSE.to_be_bytes());
                }
            }
        }
    }

    /// Writes an entry as it describes it.
    pub(super) fn write(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        for field in self.fields {
            write(*field, entry, out);
        }
    }

    /// The template of an entry.
    pub(super) fn of(entry: &Entry<'_>) -> &'static Self {
        let v6 = entry.record.original.source.is_ipv6();
        match (entry.about, v6) {
            (About::Open, false) => &OPEN_V4,
            (About::Open, true) => &OPEN_V6,
            (About::Close, false) => &CLOSE_V4,
            (About::Close, true) => &CLOSE_V6,
            (About::NatCreate | About::NatDelete, _) => match Translation::of(entry.record).versions {
                Versions::Nat44 => &NAT_44,
                Versions::Nat64 => &NAT_64,
                Versions::Nat66 => &NAT_66,
            },
        }
    }
}

/// Templates: their names, numbers and scopes, and their elements.
macro_rules! templates {
    ($($name:ident = $id:literal, scopes $scopes:literal { $($forth:ident)* } back { $($back:ident)* })*) => {
        $(pub(super) const $name: Template = Template {
            id: $id,
            scopes: $scopes,
            fields: &[$(Field::Forth(Element::$forth),)* $(Field::Back(Element::$back),)*],
        };)*

        /// All templates.
        pub(super) const TEMPLATES: &[Template] = &[$($name),*];
    };
}

templates! {
    OPEN_V4 = 256, scopes 0 {
        ObservationTimeMilliseconds FirewallEvent FlowStartMilliseconds SourceIpv4Address DestinationIpv4Address
        SourceTransportPort DestinationTransportPort ProtocolIdentifier IngressInterface EgressInterface VrfName
    } back {}
    OPEN_V6 = 257, scopes 0 {
        ObservationTimeMilliseconds FirewallEvent FlowStartMilliseconds SourceIpv6Address DestinationIpv6Address
        SourceTransportPort DestinationTransportPort ProtocolIdentifier IngressInterface EgressInterface VrfName
    } back {}
    CLOSE_V4 = 258, scopes 0 {
        ObservationTimeMilliseconds FirewallEvent FlowStartMilliseconds FlowEndMilliseconds SourceIpv4Address DestinationIpv4Address
        SourceTransportPort DestinationTransportPort ProtocolIdentifier IngressInterface EgressInterface
        FlowEndReason PacketTotalCount OctetTotalCount VrfName
    } back { PacketTotalCount OctetTotalCount }
    CLOSE_V6 = 259, scopes 0 {
        ObservationTimeMilliseconds FirewallEvent FlowStartMilliseconds FlowEndMilliseconds SourceIpv6Address DestinationIpv6Address
        SourceTransportPort DestinationTransportPort ProtocolIdentifier IngressInterface EgressInterface
        FlowEndReason PacketTotalCount OctetTotalCount VrfName
    } back { PacketTotalCount OctetTotalCount }
    NAT_44 = 260, scopes 0 {
        ObservationTimeMilliseconds NatEvent ProtocolIdentifier SourceIpv4Address PostNatSourceIpv4Address
        SourceTransportPort PostNaptSourceTransportPort DestinationIpv4Address PostNatDestinationIpv4Address
        DestinationTransportPort PostNaptDestinationTransportPort VrfName
    } back {}
    NAT_64 = 261, scopes 0 {
        ObservationTimeMilliseconds NatEvent ProtocolIdentifier SourceIpv6Address PostNatSourceIpv4Address
        SourceTransportPort PostNaptSourceTransportPort DestinationIpv6Address PostNatDestinationIpv4Address
        DestinationTransportPort PostNaptDestinationTransportPort VrfName
    } back {}
    NAT_66 = 262, scopes 0 {
        ObservationTimeMilliseconds NatEvent ProtocolIdentifier SourceIpv6Address PostNatSourceIpv6Address
        SourceTransportPort PostNaptSourceTransportPort DestinationIpv6Address PostNatDestinationIpv6Address
        DestinationTransportPort PostNaptDestinationTransportPort VrfName
    } back {}
    STATISTICS = 263, scopes 1 {
        ObservationDomainId ObservationTimeMilliseconds ExportedMessageTotalCount ExportedFlowRecordTotalCount NotSentFlowTotalCount
    } back {}
    INTERFACES = 264, scopes 1 { IngressInterface InterfaceName } back {}
}

/// Longest value that says its length in one byte (RFC 7011 section 7).
const SHORT_MAX: usize = 254;

/// Writes a value of [`VARIABLE`] length, as far as one byte tells how long it is.
pub(super) fn write_name(name: &str, out: &mut Vec<u8>) {
    let name = name.as_bytes().get(..name.len().min(SHORT_MAX)).unwrap_or_default();
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend(name);
}

/// The number of a port among interfaces; 0 is none.
pub(super) const fn interface(port: units::PortId) -> u32 {
    port.get() as u32 + 1
}

fn v4(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED.octets(),
    }
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED.octets(),
    }
}

/// RFC 8158's `natEvent`. Of IPv6 on both sides there is none but the general ones.
const fn nat_event(about: About, versions: Versions) -> u8 {
    let deleted = matches!(about, About::NatDelete) as u8;
    deleted
        + match versions {
            Versions::Nat44 => 4,
            Versions::Nat64 => 6,
            Versions::Nat66 => 1,
        }
}

/// IANA's `flowEndReason`.
const fn end_reason(turn: Turn) -> u8 {
    match turn {
        Turn::Closed(Ending::Idle) => 1,
        Turn::Closed(Ending::Finished) => 3,
        Turn::Closed(Ending::Forced) | Turn::Opened => 4,
        Turn::Closed(Ending::NoRoom) => 5,
    }
}

/// Writes what a field of an entry says. Elements that no template of entries has say nothing.
fn write(field: Field, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let record = entry.record;
    let translation = Translation::of(record);
    let before = match entry.about {
        About::Open | About::Close => record.original,
        About::NatCreate | About::NatDelete => translation.before,
    };
    let after = translation.after;
    let ((source, destination), (source_after, destination_after)) = (ports(record, &before), ports(record, &after));
    let (element, traffic) = match field {
        Field::Forth(element) => (element, record.sent),
        Field::Back(element) => (element, record.answered),
    };
    match element {
        Element::ProtocolIdentifier => out.push(protocol(record, &before)),
        Element::SourceTransportPort => out.extend(source.to_be_bytes()),
        Element::DestinationTransportPort => out.extend(destination.to_be_bytes()),
        Element::PostNaptSourceTransportPort => out.extend(source_after.to_be_bytes()),
        Element::PostNaptDestinationTransportPort => out.extend(destination_after.to_be_bytes()),
        Element::SourceIpv4Address => out.extend(v4(before.source)),
        Element::DestinationIpv4Address => out.extend(v4(before.destination)),
        Element::PostNatSourceIpv4Address => out.extend(v4(after.source)),
        Element::PostNatDestinationIpv4Address => out.extend(v4(after.destination)),
        Element::SourceIpv6Address => out.extend(v6(before.source)),
        Element::DestinationIpv6Address => out.extend(v6(before.destination)),
        Element::PostNatSourceIpv6Address => out.extend(v6(after.source)),
        Element::PostNatDestinationIpv6Address => out.extend(v6(after.destination)),
        Element::IngressInterface => out.extend(interface(record.ingress).to_be_bytes()),
        Element::EgressInterface => out.extend(record.egress.map_or(0, interface).to_be_bytes()),
        Element::PacketTotalCount => out.extend(traffic.packets.to_be_bytes()),
        Element::OctetTotalCount => out.extend(traffic.bytes.to_be_bytes()),
        Element::FlowEndReason => out.push(end_reason(record.turn)),
        Element::FlowStartMilliseconds => out.extend(entry.opened.to_be_bytes()),
        Element::FlowEndMilliseconds => out.extend(entry.last.to_be_bytes()),
        Element::ObservationTimeMilliseconds => out.extend(entry.at.to_be_bytes()),
        Element::NatEvent => out.push(nat_event(entry.about, translation.versions)),
        // Created, deleted.
        Element::FirewallEvent => out.push(if entry.about == About::Open { 1 } else { 2 }),
        Element::VrfName => write_name(record.tenant.as_ref().map_or("", |tenant| tenant.name.as_str()), out),
        Element::ExportedMessageTotalCount
        | Element::ExportedFlowRecordTotalCount
        | Element::NotSentFlowTotalCount
        | Element::ObservationDomainId
        | Element::InterfaceName => {}
    }
}
