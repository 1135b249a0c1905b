//! The last of a plain packet's way: addresses, ports, hop limit, checksums and MACs, written in one go. The same bytes
//! as [`rewrite_v4`](super::rewrite_v4), [`decrement_hop_limit`](super::decrement_hop_limit) and the MACs one after the
//! other; the places are constants, because a plain packet (`wire::plain`) has nothing in front that varies.
//!
//! Called by workers for every packet of an established session. The caller has seen that the hop limit is above one.

use wire::{MacAddr, checksum};
use zerocopy::{Immutable, IntoBytes};

/// What one less in the upper byte of a word adds to a sum, as it lies in a frame: `~m + (m - 0x0100)` (RFC 1624).
const ONE_HOP_LESS: u16 = 0xfeff_u16.to_be();

/// Bytes of the shortest plain packets: link, network and UDP header.
const LEAST_V4: usize = 14 + 20 + 8;
const LEAST_V6: usize = 14 + 40 + 8;

/// The MACs a packet leaves with, as they lie in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct Hop {
    /// The next hop's.
    pub destination: MacAddr,
    /// The port's own.
    pub source: MacAddr,
}

/// What a translated packet leaves with, all of it in the words it lies in a frame by: nothing is turned round on the way.
/// `P` is both addresses, the source first: eight bytes for IPv4, twice sixteen for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving<P> {
    /// Both addresses.
    pub addresses: P,
    /// Both ports, the source's first.
    pub ports: u32,
    /// What the new addresses add to the header's checksum.
    pub network: u16,
    /// What addresses and ports add to the transport's.
    pub transport: u16,
}

/// Sends an IPv4 packet on over `hop`, as `leaving` if it is translated. False, and nothing of use written, when the frame
/// is too short for a plain packet.
#[inline(always)]
#[must_use]
pub fn pass_v4(frame: &mut [u8], tcp: bool, hop: Hop, leaving: Option<Leaving<u64>>) -> bool {
    let Some(front) = frame.first_chunk_mut::<LEAST_V4>() else { return false };
    write_macs(front, hop);
    front[22] = front[22].wrapping_sub(1);
    let network = leaving.map_or(u16::MAX, |leaving| leaving.network);
    let sum = u16::from_ne_bytes([front[24], front[25]]);
    [front[24], front[25]] = checksum::update_by_both(sum, network, ONE_HOP_LESS).to_ne_bytes();
    leaving.is_none_or(|leaving| write_ends_v4(frame, tcp, leaving))
}

/// Rewrites an IPv4 packet that passes in line; link header and hop limit stay. False as with [`pass_v4`].
#[inline(always)]
#[must_use]
pub fn turn_v4(frame: &mut [u8], tcp: bool, leaving: Leaving<u64>) -> bool {
    let Some(front) = frame.first_chunk_mut::<LEAST_V4>() else { return false };
    let sum = u16::from_ne_bytes([front[24], front[25]]);
    [front[24], front[25]] = checksum::update(sum, leaving.network).to_ne_bytes();
    write_ends_v4(frame, tcp, leaving)
}

#[inline(always)]
fn write_ends_v4(frame: &mut [u8], tcp: bool, leaving: Leaving<u64>) -> bool {
    let Some(front) = frame.first_chunk_mut::<LEAST_V4>() else { return false };
    front[26..34].copy_from_slice(&leaving.addresses.to_ne_bytes());
    front[34..38].copy_from_slice(&leaving.ports.to_ne_bytes());
    if tcp {
        let Some(front) = frame.first_chunk_mut::<{ LEAST_V4 + 12 }>() else { return false };
        [front[50], front[51]] = update_tcp([front[50], front[51]], leaving.transport);
    } else {
        [front[40], front[41]] = update_udp([front[40], front[41]], leaving.transport);
    }
    true
}

/// As [`turn_v4`], for IPv6.
#[inline(always)]
#[must_use]
pub fn turn_v6(frame: &mut [u8], tcp: bool, leaving: Leaving<[u128; 2]>) -> bool {
    let Some(front) = frame.first_chunk_mut::<LEAST_V6>() else { return false };
    let [source, destination] = leaving.addresses;
    front[22..38].copy_from_slice(&source.to_ne_bytes());
    front[38..54].copy_from_slice(&destination.to_ne_bytes());
    front[54..58].copy_from_slice(&leaving.ports.to_ne_bytes());
    if tcp {
        let Some(front) = frame.first_chunk_mut::<{ LEAST_V6 + 12 }>() else { return false };
        [front[70], front[71]] = update_tcp([front[70], front[71]], leaving.transport);
    } else {
        [front[60], front[61]] = update_udp([front[60], front[61]], leaving.transport);
    }
    true
}

/// As [`pass_v4`], for IPv6.
#[inline(always)]
#[must_use]
pub fn pass_v6(frame: &mut [u8], tcp: bool, hop: Hop, leaving: Option<Leaving<[u128; 2]>>) -> bool {
    let Some(front) = frame.first_chunk_mut::<LEAST_V6>() else { return false };
    write_macs(front, hop);
    front[21] = front[21].wrapping_sub(1);
    leaving.is_none_or(|leaving| turn_v6(frame, tcp, leaving))
}

#[inline(always)]
fn write_macs<const N: usize>(header: &mut [u8; N], hop: Hop) {
    // In one piece: halves would be read across the two words the whole was written in, and wait for both.
    let macs: [u8; 12] = zerocopy::transmute!(hop);
    if let Some(place) = header.first_chunk_mut::<12>() {
        *place = macs;
    }
}

#[inline(always)]
const fn update_tcp(field: [u8; 2], delta: u16) -> [u8; 2] {
    checksum::update(u16::from_ne_bytes(field), delta).to_ne_bytes()
}

#[inline(always)]
const fn update_udp(field: [u8; 2], delta: u16) -> [u8; 2] {
    checksum::update_udp(u16::from_ne_bytes(field), delta).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{Content, Facts, Verify, dissect};

    use super::super::{Deltas, NewEndpoints, decrement_hop_limit, rewrite_v4, rewrite_v6};
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const HOP: Hop =
        Hop { destination: MacAddr::new([2, 0, 0, 0, 0, 0x11]), source: MacAddr::new([2, 0, 0, 0, 0, 0x10]) };

    fn ends<A: Copy>([source, destination]: [A; 2], [source_port, destination_port]: [u16; 2]) -> NewEndpoints<A> {
        NewEndpoints { source, destination, source_port, destination_port }
    }

    fn leaving<P>(addresses: P, [source, destination]: [u16; 2], deltas: Deltas) -> Leaving<P> {
        let ([s0, s1], [d0, d1]) = (source.to_be_bytes(), destination.to_be_bytes());
        let [network, transport] = [deltas.network, deltas.transport].map(u16::to_be);
        Leaving { addresses, ports: u32::from_ne_bytes([s0, s1, d0, d1]), network, transport }
    }

    fn pair([source, destination]: [Ipv4Addr; 2]) -> u64 {
        let both = [source.octets(), destination.octets()].concat();
        u64::from_ne_bytes(both.try_into().unwrap())
    }

    fn frame(tcp: bool, v6: bool, hop_limit: u8, addresses: &[u8], random: &[u8]) -> Vec<u8> {
        let mut segment = random.to_vec();
        let len = u16::try_from(segment.len()).unwrap();
        if tcp {
            (segment[12], segment[13]) = (0x50, 0x10);
        } else {
            segment[4..6].copy_from_slice(&len.to_be_bytes());
        }
        segment[0..4].copy_from_slice(&[1, 1, 1, 1]);
        let protocol = if tcp { 6 } else { 17 };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([protocol, hop_limit]);
        } else {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + len).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, hop_limit, protocol, random[0], random[1]]);
        }
        frame.extend(addresses);
        frame.extend(segment);
        frame
    }

    fn facts(frame: &[u8]) -> Facts {
        match dissect(frame, Verify::Nothing).unwrap().content {
            Content::Ip(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    fn address_v4() -> impl Strategy<Value = Ipv4Addr> {
        (1_u8..120, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
    }

    fn address_v6() -> impl Strategy<Value = Ipv6Addr> {
        any::<u64>().prop_map(|low| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(low)))
    }

    proptest! {
        #[test]
        fn ipv4_leaves_with_the_same_bytes_as_step_by_step(
            tcp: bool, translated: bool, hop_limit in 2_u8.., old: [u8; 3], new in [address_v4(), address_v4()],
            ports: [u16; 2], network in 1_u16.., transport in 1_u16.., random in prop::collection::vec(any::<u8>(), 20..60),
        ) {
            let [x, y, z] = old;
            let mut short = frame(tcp, false, hop_limit, &[10, x, y, z, 11, z, y, x], &random);
            let mut long = short.clone();
            let (to, deltas) = (ends(new, ports), Deltas { network, transport });
            prop_assert!(pass_v4(&mut short, tcp, HOP, translated.then_some(leaving(pair(new), ports, deltas))));
            let facts = facts(&long);
            if translated {
                let mut in_line = long.clone();
                prop_assert!(turn_v4(&mut in_line, tcp, leaving(pair(new), ports, deltas)));
                prop_assert!(rewrite_v4(&mut long, &facts, &to, deltas));
                prop_assert_eq!(&in_line, &long);
            }
            prop_assert!(decrement_hop_limit(&mut long, &facts));
            long[..6].copy_from_slice(&HOP.destination.octets());
            long[6..12].copy_from_slice(&HOP.source.octets());
            prop_assert_eq!(short, long);
        }

        #[test]
        fn ipv6_leaves_with_the_same_bytes_as_step_by_step(
            tcp: bool, translated: bool, hop_limit in 2_u8.., old in [address_v6(), address_v6()],
            new in [address_v6(), address_v6()], ports: [u16; 2], network in 1_u16.., transport in 1_u16..,
            random in prop::collection::vec(any::<u8>(), 20..60),
        ) {
            prop_assume!(old[0] != old[1] && (tcp || random[6..8] != [0, 0]));
            let mut short = frame(tcp, true, hop_limit, &old.map(|address| address.octets()).concat(), &random);
            let mut long = short.clone();
            let (to, deltas) = (ends(new, ports), Deltas { network, transport });
            prop_assert!(pass_v6(&mut short, tcp, HOP, translated.then_some(leaving(new.map(|a| u128::from_ne_bytes(a.octets())), ports, deltas))));
            let facts = facts(&long);
            if translated {
                let mut in_line = long.clone();
                let both = new.map(|a| u128::from_ne_bytes(a.octets()));
                prop_assert!(turn_v6(&mut in_line, tcp, leaving(both, ports, deltas)));
                prop_assert!(rewrite_v6(&mut long, &facts, &to, deltas));
                prop_assert_eq!(&in_line, &long);
            }
            prop_assert!(decrement_hop_limit(&mut long, &facts));
            long[..6].copy_from_slice(&HOP.destination.octets());
            long[6..12].copy_from_slice(&HOP.source.octets());
            prop_assert_eq!(short, long);
        }
    }

    #[test]
    fn a_frame_too_short_is_told() {
        let to = leaving(pair([Ipv4Addr::LOCALHOST; 2]), [1, 2], Deltas::NONE);
        for len in 0..42 {
            assert!(!pass_v4(&mut vec![0; len], false, HOP, Some(to)));
            assert!(!turn_v4(&mut vec![0; len], false, to));
        }
    }
}
