//! The Internet checksum (RFC 1071): full sums, and incremental updates when a rewrite changes a few words (RFC 1624).
//! Called by [`dissect`](crate::dissect) to verify, by [`emit`](crate::emit) and the translate stage to write, on worker
//! threads. Works on words in wire order as host integers, so results go into a header with `to_be_bytes`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::facts::{Endpoints, Facts, Fragment, Transport};

/// IANA's number of TCP.
const TCP: u8 = 6;
/// IANA's number of UDP.
const UDP: u8 = 17;
/// Where the checksum lies in a TCP header.
const TCP_FIELD: usize = 16;
/// Where the checksum lies in a UDP header.
const UDP_FIELD: usize = 6;

/// The one's complement sum of `bytes` as 16-bit words in wire order, an odd last byte padded with zero. At most 0xffff,
/// so 65,536 such sums can be added before [`fold`] or [`finish`] sees them, each but the last of even length.
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    u32::from(fold_loaded(load(bytes)))
}

/// From this many bytes on, 32-bit words are summed, several at a time.
const LONG: usize = 256;

/// The sum of `bytes` as the machine loads them, not folded: for [`fold_loaded`], after others are added to it.
///
/// The sum does not care for byte order until the end (RFC 1071 section 2 (B)), nor for the width of what is added. The
/// result is below 2^61.
#[inline]
pub(crate) fn load(bytes: &[u8]) -> u64 {
    let sum = load_whole(0, bytes);
    (sum >> 32) + (sum & 0xffff_ffff)
}

/// The sum of two loaded words, the carry brought back.
#[inline(always)]
pub(crate) const fn add(first: u64, second: u64) -> u64 {
    let (sum, carried) = first.overflowing_add(second);
    sum + carried as u64
}

/// The sum of `start`, which is below 2^61, and `bytes` in one word, the carry brought back: for [`is_all_ones`]. 64-bit
/// words whose carries are counted beside them, without a branch on what is left over at the end.
#[inline]
pub(crate) fn load_whole(start: u64, bytes: &[u8]) -> u64 {
    let (start, bytes) = if bytes.len() >= LONG { load_long(start, bytes) } else { (start, bytes) };
    let Some(last) = bytes.last_chunk::<8>() else { return start + load_few(bytes) };
    let mut sum = u128::from(start);
    let mut rest = bytes;
    while let Some((block, behind)) = rest.split_first_chunk::<32>() {
        sum += sum_of_four(block);
        rest = behind;
    }
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        sum += u128::from(u64::from_ne_bytes(*word));
        rest = behind;
    }
    close(sum, *last, rest.len())
}

/// As [`load_whole`], for fewer than 72 bytes: nothing that a compiler could unroll further.
#[inline(always)]
pub(crate) fn load_short(start: u64, bytes: &[u8]) -> u64 {
    let Some(last) = bytes.last_chunk::<8>() else { return start + load_few(bytes) };
    let mut sum = u128::from(start);
    let mut rest = bytes;
    if let Some((block, behind)) = rest.split_first_chunk::<32>() {
        sum += sum_of_four(block);
        rest = behind;
        if let Some((block, behind)) = rest.split_first_chunk::<32>() {
            sum += sum_of_four(block);
            rest = behind;
        }
    }
    if let Some((block, behind)) = rest.split_first_chunk::<16>() {
        let [first, second] = *block.as_chunks::<8>().0 else { return 0 };
        sum += u128::from(u64::from_ne_bytes(first)) + u128::from(u64::from_ne_bytes(second));
        rest = behind;
    }
    if let Some((word, behind)) = rest.split_first_chunk::<8>() {
        sum += u128::from(u64::from_ne_bytes(*word));
        rest = behind;
    }
    close(sum, *last, rest.len())
}

/// The sum of four words.
#[inline(always)]
fn sum_of_four(block: &[u8; 32]) -> u128 {
    let [first, second, third, fourth] = *block.as_chunks::<8>().0 else { return 0 };
    u128::from(u64::from_ne_bytes(first))
        + u128::from(u64::from_ne_bytes(second))
        + u128::from(u64::from_ne_bytes(third))
        + u128::from(u64::from_ne_bytes(fourth))
}

/// A sum with what no word took added, the upper end of the last eight bytes, moved to where a word of its own would have
/// it; and the carries brought back.
#[inline(always)]
const fn close(sum: u128, last: [u8; 8], left: usize) -> u64 {
    let left_over = (u64::from_le_bytes(last) >> 8 >> (56 - 8 * (left & 7))).to_le();
    let sum = sum + left_over as u128;
    let (sum, carried) = low_half(sum).overflowing_add(low_half(sum >> 64));
    sum + carried as u64
}

/// The sum of the blocks of 32 bytes, and what is left.
#[inline(never)]
fn load_long(start: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let (blocks, rest) = bytes.as_chunks::<32>();
    (start + blocks.iter().map(load_array).sum::<u64>(), rest)
}

/// The sum of fewer than eight bytes.
#[inline(never)]
fn load_few(bytes: &[u8]) -> u64 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let total: u64 = pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum();
    match odd {
        [last] => total + u64::from(u16::from_ne_bytes([*last, 0])),
        _ => total,
    }
}

/// The low 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low_half(value: u128) -> u64 {
    value as u64
}

/// As [`load`], for a multiple of 4 bytes known beforehand.
#[inline]
pub(crate) fn load_array<const N: usize>(bytes: &[u8; N]) -> u64 {
    const { assert!(N.is_multiple_of(4)) };
    bytes.as_chunks::<4>().0.iter().fold(0, |total, word| total + u64::from(u32::from_ne_bytes(*word)))
}

/// As [`load`], for words as host integers.
#[inline]
pub(crate) fn load_words<const N: usize>(words: [u16; N]) -> u64 {
    words.into_iter().fold(0, |total, word| total + u64::from(word.to_be()))
}

/// Folds a sum of [`load`]s to 16 bits and puts it into host order.
#[inline]
pub(crate) const fn fold_loaded(total: u64) -> u16 {
    let halves = (total >> 32) + (total & 0xffff_ffff);
    let quarters = (halves >> 32) + ((halves >> 16) & 0xffff) + (halves & 0xffff);
    let folded = (quarters >> 16) + (quarters & 0xffff);
    u16::from_be(low_word((folded >> 16) + (folded & 0xffff)))
}

/// Whether a sum by [`load_whole`] is all ones when it is folded: that of bytes whose checksum is right, which are not all
/// zero.
#[inline(always)]
pub(crate) const fn is_all_ones(total: u64) -> bool {
    // It is so for the multiples of 0xffff, and those are what its inverse modulo 2^64 makes no larger than the most there
    // is of it in 64 bits (Granlund and Montgomery, PLDI 1994, section 9).
    const TIMES: u64 = u64::MAX / 0xffff;
    total.wrapping_mul(TIMES.wrapping_neg()) <= TIMES
}

/// The low 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low_word(value: u64) -> u16 {
    value as u16
}

/// Brings a sum of [`sum`]s back to 16 bits, end-around.
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    low_word(((once >> 16) + (once & 0xffff)) as u64)
}

/// The checksum for a sum: folded and complemented.
#[must_use]
pub const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The sum of IPv4's pseudo header; `length` is that of transport header and payload.
#[must_use]
pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> u32 {
    let (source, destination) = (source.to_bits(), destination.to_bits());
    (source >> 16)
        + (source & 0xffff)
        + (destination >> 16)
        + (destination & 0xffff)
        + u32::from(protocol)
        + u32::from(length)
}

/// The sum of IPv6's pseudo header (RFC 8200 section 8.1); `length` is that of transport header and payload.
#[must_use]
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u16) -> u32 {
    sum(&source.octets()) + sum(&destination.octets()) + u32::from(protocol) + u32::from(length)
}

/// The sum of the pseudo header of either family.
#[must_use]
pub fn pseudo(endpoints: &Endpoints, protocol: u8, length: u16) -> u32 {
    match *endpoints {
        Endpoints::V4 { source, destination } => pseudo_v4(source, destination, protocol, length),
        Endpoints::V6 { source, destination } => pseudo_v6(source, destination, protocol, length),
    }
}

/// The checksum of `segment` (header and payload, at most 65,535 bytes) under its pseudo header. Over a segment whose
/// checksum field is zero this is what belongs there (for UDP see [`or_ones`]); over one that is right it is 0.
#[must_use]
pub fn transport(endpoints: &Endpoints, protocol: u8, segment: &[u8]) -> u16 {
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    finish(pseudo(endpoints, protocol, length) + sum(segment))
}

/// The checksum of an IPv4 header or an `ICMPv4` message: no pseudo header. As [`transport`], 0 over bytes that are right.
#[must_use]
pub fn plain(bytes: &[u8]) -> u16 {
    finish(sum(bytes))
}

/// UDP writes a checksum that comes out as 0 as 0xffff, because 0 says that there is none (RFC 768).
#[must_use]
pub const fn or_ones(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// What replacing the words `old` by `new` adds to a sum: `~m + m'` of RFC 1624 equation 3, for as many words as changed.
/// Never 0, so that an update never turns a checksum into the 0xffff no sum over a packet yields.
#[must_use]
pub fn delta(old: &[u16], new: &[u16]) -> u16 {
    // Added one by one in 32 bits: 65,535 changed words would still fit.
    let left = old.iter().fold(0_u32, |total, &word| total + u32::from(!word));
    let come = new.iter().fold(0_u32, |total, &word| total + u32::from(word));
    or_ones(fold(u32::from(fold(left)) + u32::from(fold(come))))
}

/// As [`delta`], for one address put in place of another of the same family.
#[must_use]
pub fn delta_address(old: IpAddr, new: IpAddr) -> u16 {
    let words = |address| match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            (bits >> 16) + (bits & 0xffff)
        }
        IpAddr::V6(address) => sum(&address.octets()),
    };
    or_ones(fold(u32::from(!fold(words(old))) + u32::from(fold(words(new)))))
}

/// Two deltas as one.
#[must_use]
pub const fn combine(first: u16, second: u16) -> u16 {
    or_ones(fold(first as u32 + second as u32))
}

/// The delta that takes another back: what the reply direction applies.
#[must_use]
pub const fn negate(delta: u16) -> u16 {
    or_ones(!delta)
}

/// The checksum after a change: `~(~HC + delta)`, RFC 1624 equation 3. It equals the full sum's, with one exception: when
/// everything under it has become zero, which only an `ICMPv4` message can; there write [`or_ones`] of it.
///
/// Written as the subtraction it is, the borrow brought round. Right for words of either byte order, as long as both are
/// of the same.
#[inline(always)]
#[must_use]
pub const fn update(checksum: u16, delta: u16) -> u16 {
    let (less, borrowed) = checksum.overflowing_sub(delta);
    less.wrapping_sub(borrowed as u16)
}

/// As [`update`], for two changes at once; neither delta is 0.
#[must_use]
pub const fn update_by_both(checksum: u16, first: u16, second: u16) -> u16 {
    update(update(checksum, first), second)
}

/// As [`update`], for UDP: a checksum that is not there stays so, one that comes out as 0 is written as 0xffff.
#[must_use]
pub const fn update_udp(checksum: u16, delta: u16) -> u16 {
    if checksum == 0 { 0 } else { or_ones(update(checksum, delta)) }
}

/// Computes a whole TCP or UDP packet's checksum and writes it into `frame`, which `facts` describe. False, and nothing
/// written, when the packet is neither, is a fragment, or UDP without checksum.
pub fn complete(frame: &mut [u8], facts: &Facts) -> bool {
    let (protocol, field) = match facts.transport {
        Transport::Tcp(_) => (TCP, TCP_FIELD),
        Transport::Udp { no_checksum: false, .. } => (UDP, UDP_FIELD),
        _ => return false,
    };
    if facts.fragment != Fragment::No {
        return false;
    }
    let Some(segment) = frame.get_mut(usize::from(facts.transport_offset)..usize::from(facts.end)) else {
        return false;
    };
    let Some(place) = segment.get_mut(field..field + 2) else { return false };
    place.fill(0);
    let checksum = transport(&facts.endpoints, protocol, segment);
    let checksum = if protocol == UDP { or_ones(checksum) } else { checksum };
    let Some(place) = segment.get_mut(field..field + 2) else { return false };
    place.copy_from_slice(&checksum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests;
