//! Addresses no packet on a link may carry, whatever the configuration (MAL-13; RFC 1122 section 3.2.1.3, RFC 1812
//! section 5.3.7, RFC 4291 section 2, RFC 6890). Which of the others belong where is the firewall's and the routes' matter.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::Malformed;

/// Whether one host can have this address: not of 0/8, 127/8, class D or class E.
#[inline]
#[must_use]
pub(crate) const fn is_host_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first.wrapping_sub(1) < 223 && first != 127
}

/// Judges both addresses of an IPv4 packet. A source of 0.0.0.0 is an error here; the caller knows the one exception.
///
/// # Errors
/// `SourceUnspecified`, `SourceLoopback` (either end), `SourceMulticast` (broadcast too), `SourceReserved` (0/8, class E),
/// `DestinationUnspecified`, `DestinationReserved` (0/8, class E but the broadcast address), `Land`.
#[inline]
pub(crate) fn check_v4(source: Ipv4Addr, destination: Ipv4Addr) -> Result<(), Malformed> {
    if is_host_v4(source) && is_host_v4(destination) && source != destination {
        Ok(())
    } else {
        odd_v4(source, destination)
    }
}

#[cold]
fn odd_v4(source: Ipv4Addr, destination: Ipv4Addr) -> Result<(), Malformed> {
    odd_source_v4(source)?;
    odd_destination_v4(destination)?;
    if source == destination { Err(Malformed::Land) } else { Ok(()) }
}

fn odd_source_v4(source: Ipv4Addr) -> Result<(), Malformed> {
    match source.octets()[0] {
        0 if source.is_unspecified() => Err(Malformed::SourceUnspecified),
        127 => Err(Malformed::SourceLoopback),
        224..=239 => Err(Malformed::SourceMulticast),
        _ if source.is_broadcast() => Err(Malformed::SourceMulticast),
        0 | 240..=255 => Err(Malformed::SourceReserved),
        _ => Ok(()),
    }
}

/// As [`check_v4`], the destination only: for a packet from 0.0.0.0 that is allowed to come from there.
pub(crate) fn odd_destination_v4(destination: Ipv4Addr) -> Result<(), Malformed> {
    match destination.octets()[0] {
        0 if destination.is_unspecified() => Err(Malformed::DestinationUnspecified),
        127 => Err(Malformed::SourceLoopback),
        _ if destination.is_broadcast() => Ok(()),
        0 | 240..=255 => Err(Malformed::DestinationReserved),
        _ => Ok(()),
    }
}

/// Judges both addresses of an IPv6 packet; `icmp` says that it is `ICMPv6`, which alone may come from `::` (duplicate
/// address detection, RFC 4862 section 5.4.2; listener reports, RFC 3590; router solicitations, RFC 4861 section 4.1).
///
/// # Errors
/// `SourceUnspecified`, `SourceLoopback` (either end), `SourceMulticast`, `SourceReserved` and `DestinationReserved` (IPv4
/// addresses in IPv6 clothes, `::/96` and `::ffff:0:0/96`; as destination also groups that never leave a host, scopes 0 and
/// 1), `DestinationUnspecified`, `Land`.
#[inline]
pub(crate) fn check_v6(source: Ipv6Addr, destination: Ipv6Addr, icmp: bool) -> Result<(), Malformed> {
    if is_plain_v6(source) && is_plain_v6(destination) && source != destination {
        Ok(())
    } else {
        odd_v6(source, destination, icmp)
    }
}

/// Neither of `::/16`, where everything peculiar lies, nor multicast.
#[inline]
pub(crate) const fn is_plain_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.octets();
    first != 0xff && (first | second) != 0
}

#[cold]
fn odd_v6(source: Ipv6Addr, destination: Ipv6Addr, icmp: bool) -> Result<(), Malformed> {
    if source.is_unspecified() {
        if !icmp {
            return Err(Malformed::SourceUnspecified);
        }
    } else if source.is_loopback() || destination.is_loopback() {
        return Err(Malformed::SourceLoopback);
    } else if source.is_multicast() {
        return Err(Malformed::SourceMulticast);
    } else if holds_ipv4(source) {
        return Err(Malformed::SourceReserved);
    }
    if destination.is_unspecified() {
        return Err(Malformed::DestinationUnspecified);
    }
    let scope = destination.octets()[1] & 0x0f;
    if destination.is_loopback() {
        return Err(Malformed::SourceLoopback);
    }
    if holds_ipv4(destination) || (destination.is_multicast() && scope < 2) {
        return Err(Malformed::DestinationReserved);
    }
    if source == destination { Err(Malformed::Land) } else { Ok(()) }
}

/// Of `::/96` (compatible, deprecated by RFC 4291 section 2.5.5.1) or `::ffff:0:0/96` (mapped, never on a wire).
const fn holds_ipv4(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, _, _])
}

#[cfg(test)]
mod tests {
    use super::*;
    use Malformed::{
        DestinationReserved, DestinationUnspecified, Land, SourceLoopback, SourceMulticast, SourceReserved,
        SourceUnspecified,
    };

    /// MAL-13.
    #[test]
    fn martians_of_ipv4_are_told_apart() {
        let good = "192.0.2.1";
        for (source, destination, verdict) in [
            (good, "198.51.100.1", Ok(())),
            ("1.0.0.0", "223.255.255.255", Ok(())),
            ("126.255.255.255", "128.0.0.0", Ok(())),
            (good, "224.0.0.1", Ok(())),
            (good, "239.255.255.255", Ok(())),
            (good, "255.255.255.255", Ok(())),
            ("0.0.0.0", good, Err(SourceUnspecified)),
            ("0.0.0.1", good, Err(SourceReserved)),
            ("127.0.0.1", good, Err(SourceLoopback)),
            ("127.255.255.255", good, Err(SourceLoopback)),
            ("224.0.0.1", good, Err(SourceMulticast)),
            ("239.1.2.3", good, Err(SourceMulticast)),
            ("255.255.255.255", good, Err(SourceMulticast)),
            ("240.0.0.1", good, Err(SourceReserved)),
            ("255.255.255.254", good, Err(SourceReserved)),
            (good, "0.0.0.0", Err(DestinationUnspecified)),
            (good, "0.1.2.3", Err(DestinationReserved)),
            (good, "127.0.0.1", Err(SourceLoopback)),
            (good, "240.0.0.1", Err(DestinationReserved)),
            (good, "255.255.255.254", Err(DestinationReserved)),
            (good, good, Err(Land)),
        ] {
            let (from, to) = (source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(check_v4(from, to), verdict, "{source} > {destination}");
        }
    }

    /// MAL-13.
    #[test]
    fn martians_of_ipv6_are_told_apart() {
        let good = "2001:db8::1";
        for (source, destination, icmp, verdict) in [
            (good, "2001:db8::2", false, Ok(())),
            ("fe80::1", "fe80::2", false, Ok(())),
            ("64:ff9b::c000:201", good, false, Ok(())),
            ("0:1::1", good, false, Ok(())),
            (good, "ff02::1", false, Ok(())),
            (good, "ff0e::1", false, Ok(())),
            ("::", "ff02::1:ff00:1", true, Ok(())),
            ("::", "ff02::1:ff00:1", false, Err(SourceUnspecified)),
            ("::", "::", true, Err(DestinationUnspecified)),
            ("::", "::1", true, Err(SourceLoopback)),
            ("::1", good, false, Err(SourceLoopback)),
            (good, "::1", false, Err(SourceLoopback)),
            ("ff02::1", good, false, Err(SourceMulticast)),
            ("::ffff:192.0.2.1", good, false, Err(SourceReserved)),
            ("::192.0.2.1", good, false, Err(SourceReserved)),
            (good, "::", false, Err(DestinationUnspecified)),
            (good, "::ffff:192.0.2.1", false, Err(DestinationReserved)),
            (good, "::192.0.2.1", false, Err(DestinationReserved)),
            (good, "ff00::1", false, Err(DestinationReserved)),
            (good, "ff11::1", false, Err(DestinationReserved)),
            (good, good, false, Err(Land)),
            ("0:0:1::1", "0:0:1::1", false, Err(Land)),
        ] {
            let (from, to) = (source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(check_v6(from, to, icmp), verdict, "{source} > {destination}");
        }
    }

    #[test]
    fn what_comes_from_nowhere_may_still_not_go_anywhere() {
        assert_eq!(odd_destination_v4(Ipv4Addr::BROADCAST), Ok(()));
        assert_eq!(odd_destination_v4(Ipv4Addr::LOCALHOST), Err(SourceLoopback));
    }
}
