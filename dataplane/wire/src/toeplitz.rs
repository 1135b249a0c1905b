//! How NICs spread packets over queues, and how workers share sessions: the Toeplitz hash of Microsoft's RSS specification
//! under a key that repeats every 16 bits (Woo and Park, "Scalable TCP Session Monitoring with Symmetric Receive-side
//! Scaling", 2012).
//!
//! Under such a key it does not matter where in the hashed bytes an address or port stands, nor whether a NIC that is told
//! to leave a field out puts zeroes there or nothing: only the exclusive or of all 16-bit words counts. So the hash of one end
//! of a conversation is the same as source on one port and as destination on another, and that of both ends is the same
//! in both directions.
//!
//! There is no secret in it: who chooses addresses and ports chooses the queue, with a NIC and without.

use std::net::IpAddr;

/// The key's period, in the order of its bytes.
pub const KEY: [u8; 2] = [0x6d, 0x5a];

/// Entries of the table that hash values lead to: as many as the smallest NIC's. Larger tables repeat it.
pub const TABLE: usize = 64;

/// The hash of each value of a word's upper byte, and of its lower byte.
const BYTES: [[u16; 256]; 2] = [of_bytes(8), of_bytes(0)];

const fn of_bytes(shift: u32) -> [u16; 256] {
    let mut hashes = [0; 256];
    let mut rest: &mut [u16] = &mut hashes;
    let mut byte = 0;
    while let [hash, behind @ ..] = rest {
        *hash = bit_by_bit(byte << shift);
        byte += 1;
        rest = behind;
    }
    hashes
}

const fn bit_by_bit(word: u16) -> u16 {
    let key = u16::from_be_bytes(KEY);
    let (mut hash, mut bit) = (0, 0);
    while bit < 16 {
        if word >> (15 - bit) & 1 == 1 {
            hash ^= key.rotate_left(bit);
        }
        bit += 1;
    }
    hash
}

/// One half of the hash of an end of a conversation; the other half is the same. That of both ends is the exclusive or of
/// theirs.
#[inline]
#[must_use]
pub fn end(address: IpAddr, port: u16) -> u16 {
    let address = match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.segments();
            u32::from(a ^ b ^ c ^ d ^ e ^ f ^ g ^ h)
        }
    };
    let [a0, a1, b0, b1] = address.to_be_bytes();
    let [p0, p1] = port.to_be_bytes();
    let [upper, lower] = &BYTES;
    let of = |hashes: &[u16; 256], byte: u8| hashes.get(usize::from(byte)).copied().unwrap_or_default();
    of(upper, a0 ^ b0 ^ p0) ^ of(lower, a1 ^ b1 ^ p1)
}

/// Which of `parts` a hash value belongs to.
#[inline]
#[must_use]
pub const fn part(hash: u16, parts: usize) -> usize {
    (hash as usize % TABLE * parts) / TABLE
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// As the specification has it, bit by bit.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1 == 1;
        let window = |at: usize| (0..32).fold(0_u32, |word, i| word << 1 | u32::from(bit(key, at + i)));
        (0..input.len() * 8).filter(|&at| bit(input, at)).fold(0, |hash, at| hash ^ window(at))
    }

    fn whole(half: u16) -> u32 {
        u32::from(half) << 16 | u32::from(half)
    }

    proptest! {
        #[test]
        fn an_end_hashes_as_a_nic_does_wherever_it_stands(a: u32, b: u32, p: u16, q: u16, six: u128) {
            let key = KEY.repeat(26);
            let (from, to) = (Ipv4Addr::from_bits(a), Ipv4Addr::from_bits(b));
            let (sport, dport) = (p.to_be_bytes(), q.to_be_bytes());
            let client = whole(end(from.into(), p));
            let zero = [0; 4];
            for input in [
                // The source alone, the rest left out or zero; the same end as destination.
                [&from.octets()[..], &sport].concat(),
                [&from.octets()[..], &zero, &sport, &[0, 0]].concat(),
                [&zero[..], &from.octets(), &[0, 0], &sport].concat(),
            ] {
                prop_assert_eq!(toeplitz(&key, &input), client);
            }
            let both = whole(end(from.into(), p) ^ end(to.into(), q));
            let there = [&from.octets()[..], &to.octets(), &sport, &dport].concat();
            let back = [&to.octets()[..], &from.octets(), &dport, &sport].concat();
            prop_assert_eq!([toeplitz(&key, &there), toeplitz(&key, &back)], [both; 2]);
            let six = Ipv6Addr::from_bits(six);
            prop_assert_eq!(toeplitz(&key, &[&six.octets()[..], &sport].concat()), whole(end(six.into(), p)));
        }
    }

    #[test]
    fn parts_are_even_and_neighbors_spread() {
        for parts in [1, 2, 3, 4, 8, 16] {
            let mut hits = vec![0_u32; parts];
            for host in 0..64 {
                for port in 0..1_024 {
                    let client = Ipv4Addr::new(198, 51, 100, host);
                    hits[part(end(client.into(), 40_000 + port), parts)] += 1;
                }
            }
            let even = 65_536 / u32::try_from(parts).unwrap();
            assert!(hits.iter().all(|&hits| hits.abs_diff(even) * 16 <= even), "{hits:?}");
        }
    }
}
