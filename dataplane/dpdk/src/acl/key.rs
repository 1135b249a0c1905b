//! The two keys that rules are matched on, IPv4 and IPv6: how a candidate is laid out for `rte_acl`, and how an entry is
//! written as values and masks of the same fields.
//!
//! `rte_acl` wants one byte first and then groups of four; numbers in network order in keys and in host order in rules.
//! Zones are 16-bit fields so that two of them fill a group. They come last: behind the addresses only few rules are left to
//! tell apart, whereas in front they would multiply the tries of all that follows (1,000 rules: five times the memory and
//! nearly twice the time of a search).

use dpdk_sys::{rte_acl_field, rte_acl_field_def};
use ipnet::IpNet;
use stage::PortRange;
use stage::firewall::{Candidate, Entry};
use units::ZoneId;
use wire::Endpoints;

/// A key of `N` fields.
pub(super) trait Key<const N: usize>: Copy + Default + Send + Sync {
    /// Its family, in the names of tables and errors.
    const NAME: &'static str;

    /// Where its fields lie.
    fn layout() -> [rte_acl_field_def; N];

    /// The key of a candidate, `None` for one of the other family.
    fn of(candidate: &Candidate) -> Option<Self>;

    /// Source and destination address as numbers.
    fn ends(&self) -> (u128, u128);

    /// What an entry asks of each field, `None` for one of the other family.
    fn fields(entry: &Entry) -> Option<[rte_acl_field; N]>;
}

/// Key of an IPv4 packet. Shape: 20 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct KeyV4 {
    protocol: u8,
    unused: [u8; 3],
    source: [u8; 4],
    destination: [u8; 4],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    from: [u8; 2],
    to: [u8; 2],
}
const _: () = assert!(size_of::<KeyV4>() == 20);

/// Key of an IPv6 packet. Shape: 44 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct KeyV6 {
    protocol: u8,
    unused: [u8; 3],
    source: [u8; 16],
    destination: [u8; 16],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    from: [u8; 2],
    to: [u8; 2],
}
const _: () = assert!(size_of::<KeyV6>() == 44);

/// A field's place: kind, bytes, and which group of input bytes it belongs to.
const fn place(index: u8, kind: u32, size: u8, input: u8, offset: usize) -> rte_acl_field_def {
    #[expect(clippy::cast_possible_truncation, reason = "kinds are 0 to 2, keys are 44 bytes at most")]
    rte_acl_field_def { type_: kind as u8, size, field_index: index, input_index: input, offset: offset as u32 }
}

const MASK: u32 = dpdk_sys::RTE_ACL_FIELD_TYPE_MASK;
const RANGE: u32 = dpdk_sys::RTE_ACL_FIELD_TYPE_RANGE;
const BITMASK: u32 = dpdk_sys::RTE_ACL_FIELD_TYPE_BITMASK;

/// A value and its bits that count, one byte wide.
fn byte(value: Option<u8>) -> rte_acl_field {
    let mut field = rte_acl_field::default();
    field.value.u8_ = value.unwrap_or(0);
    field.mask_range.u8_ = if value.is_some() { u8::MAX } else { 0 };
    field
}

/// A zone: all sixteen leading bits count, or none.
fn zone(zone: Option<ZoneId>) -> rte_acl_field {
    let mut field = rte_acl_field::default();
    field.value.u16_ = zone.map_or(0, |zone| u16::from(zone.get()));
    field.mask_range.u32_ = if zone.is_some() { 16 } else { 0 };
    field
}

/// Four bytes of an address, of which `prefix` leading bits count.
fn word(value: u32, prefix: u8) -> rte_acl_field {
    let mut field = rte_acl_field::default();
    field.value.u32_ = value;
    field.mask_range.u32_ = u32::from(prefix.min(32));
    field
}

/// The `which`th 32 bits of an IPv6 prefix.
fn word_of(prefix: ipnet::Ipv6Net, which: u8) -> rte_acl_field {
    let shift = 32 * u32::from(3 - which);
    let bits = u128::from(prefix.network()) >> shift & u128::from(u32::MAX);
    word(u32::try_from(bits).unwrap_or(0), prefix.prefix_len().saturating_sub(32 * which))
}

fn ports(range: PortRange) -> rte_acl_field {
    let mut field = rte_acl_field::default();
    field.value.u16_ = range.first();
    field.mask_range.u16_ = range.last();
    field
}

impl Key<7> for KeyV4 {
    const NAME: &'static str = "IPv4";

    fn layout() -> [rte_acl_field_def; 7] {
        [
            place(0, BITMASK, 1, 0, 0),
            place(1, MASK, 4, 1, 4),
            place(2, MASK, 4, 2, 8),
            place(3, RANGE, 2, 3, 12),
            place(4, RANGE, 2, 3, 14),
            place(5, MASK, 2, 4, 16),
            place(6, MASK, 2, 4, 18),
        ]
    }

    fn of(candidate: &Candidate) -> Option<Self> {
        let Endpoints::V4 { source, destination } = candidate.endpoints else { return None };
        Some(Self {
            protocol: candidate.protocol,
            unused: [0; 3],
            from: u16::from(candidate.from.get()).to_be_bytes(),
            to: u16::from(candidate.to.get()).to_be_bytes(),
            source: source.octets(),
            destination: destination.octets(),
            source_port: candidate.source_port.to_be_bytes(),
            destination_port: candidate.destination_port.to_be_bytes(),
        })
    }

    fn ends(&self) -> (u128, u128) {
        (u32::from_be_bytes(self.source).into(), u32::from_be_bytes(self.destination).into())
    }

    fn fields(entry: &Entry) -> Option<[rte_acl_field; 7]> {
        let (IpNet::V4(source), IpNet::V4(destination)) = (entry.source, entry.destination) else { return None };
        Some([
            byte(entry.protocol),
            word(source.network().into(), source.prefix_len()),
            word(destination.network().into(), destination.prefix_len()),
            ports(entry.source_port),
            ports(entry.destination_port),
            zone(entry.from),
            zone(entry.to),
        ])
    }
}

impl Key<13> for KeyV6 {
    const NAME: &'static str = "IPv6";

    fn layout() -> [rte_acl_field_def; 13] {
        [
            place(0, BITMASK, 1, 0, 0),
            place(1, MASK, 4, 1, 4),
            place(2, MASK, 4, 2, 8),
            place(3, MASK, 4, 3, 12),
            place(4, MASK, 4, 4, 16),
            place(5, MASK, 4, 5, 20),
            place(6, MASK, 4, 6, 24),
            place(7, MASK, 4, 7, 28),
            place(8, MASK, 4, 8, 32),
            place(9, RANGE, 2, 9, 36),
            place(10, RANGE, 2, 9, 38),
            place(11, MASK, 2, 10, 40),
            place(12, MASK, 2, 10, 42),
        ]
    }

    fn of(candidate: &Candidate) -> Option<Self> {
        let Endpoints::V6 { source, destination } = candidate.endpoints else { return None };
        Some(Self {
            protocol: candidate.protocol,
            unused: [0; 3],
            from: u16::from(candidate.from.get()).to_be_bytes(),
            to: u16::from(candidate.to.get()).to_be_bytes(),
            source: source.octets(),
            destination: destination.octets(),
            source_port: candidate.source_port.to_be_bytes(),
            destination_port: candidate.destination_port.to_be_bytes(),
        })
    }

    fn ends(&self) -> (u128, u128) {
        (u128::from_be_bytes(self.source), u128::from_be_bytes(self.destination))
    }

    fn fields(entry: &Entry) -> Option<[rte_acl_field; 13]> {
        let (IpNet::V6(source), IpNet::V6(destination)) = (entry.source, entry.destination) else { return None };
        Some([
            byte(entry.protocol),
            word_of(source, 0),
            word_of(source, 1),
            word_of(source, 2),
            word_of(source, 3),
            word_of(destination, 0),
            word_of(destination, 1),
            word_of(destination, 2),
            word_of(destination, 3),
            ports(entry.source_port),
            ports(entry.destination_port),
            zone(entry.from),
            zone(entry.to),
        ])
    }
}
