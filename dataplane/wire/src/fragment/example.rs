//! The fragments of a datagram after the first, which go where the first one went. Only the first has the transport header,
//! so it alone meets firewall, balancer and translation; what that did to its headers is done to the others here.
//!
//! Called by workers. Pure functions of bytes.

use crate::{Endpoints, Facts, MacAddr, checksum};

/// What the other fragments of a datagram take from the first as it leaves: MACs, hop limit, addresses. Taking its hop limit
/// too, none of them can be made to die behind the appliance while the others live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    macs: [u8; 12],
    hops: u8,
    addresses: Addresses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addresses {
    V4([u8; 8]),
    V6([u8; 32]),
}

impl Example {
    /// What other fragments take from this frame, which was as `facts` say before it was rewritten.
    #[must_use]
    pub fn of(frame: &[u8], facts: &Facts) -> Option<Self> {
        let macs = *frame.first_chunk()?;
        let packet = frame.get(usize::from(facts.network)..)?;
        Some(if facts.endpoints.is_v6() {
            let hops = *packet.get(7)?;
            Self { macs, hops, addresses: Addresses::V6(*packet.get(8..)?.first_chunk()?) }
        } else {
            let hops = *packet.get(8)?;
            Self { macs, hops, addresses: Addresses::V4(*packet.get(12..)?.first_chunk()?) }
        })
    }

    /// Whether the addresses are others than those of `facts`: the packet was translated.
    #[must_use]
    pub fn is_translated(&self, facts: &Facts) -> bool {
        match (&self.addresses, facts.endpoints) {
            (Addresses::V4(bytes), Endpoints::V4 { source, destination }) => {
                !(bytes.starts_with(&source.octets()) && bytes.ends_with(&destination.octets()))
            }
            (Addresses::V6(bytes), Endpoints::V6 { source, destination }) => {
                !(bytes.starts_with(&source.octets()) && bytes.ends_with(&destination.octets()))
            }
            _ => true,
        }
    }

    /// Whether the frame left for this station.
    #[must_use]
    pub fn is_to(&self, station: MacAddr) -> bool {
        self.macs.starts_with(&station.octets())
    }

    /// A number that depends on the addresses alone, for tables by them.
    #[must_use]
    pub fn mix(&self, secret: u64) -> u64 {
        let bytes: &[u8] = match &self.addresses {
            Addresses::V4(bytes) => bytes,
            Addresses::V6(bytes) => bytes,
        };
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().fold(secret, |hash, word| {
            let mixed = (hash ^ u64::from_ne_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 32)
        })
    }

    /// Lets the fragment in `frame`, whose IP header begins at `network`, follow. Of IPv4 the header checksum is updated
    /// (RFC 1624). False when it is of another family or not there.
    #[must_use]
    pub fn apply(&self, frame: &mut [u8], network: usize) -> bool {
        let Some(macs) = frame.first_chunk_mut::<12>() else { return false };
        *macs = self.macs;
        let Some(packet) = frame.get_mut(network..) else { return false };
        let version = packet.first().map_or(0, |byte| byte >> 4);
        match (&self.addresses, version) {
            (Addresses::V4(addresses), 4) => {
                let Some(header) = packet.first_chunk_mut::<20>() else { return false };
                let (_, changed) = header.split_at_mut(8);
                let Some((place, _)) = changed.split_first_chunk_mut::<12>() else { return false };
                let [ttl, _, c0, c1, s @ ..] = place;
                let sum = u16::from_be_bytes([*c0, *c1]);
                let before = [u16::from_be_bytes([*ttl, 0]), checksum::fold(checksum::sum(s))];
                *ttl = self.hops;
                *s = *addresses;
                let after = [u16::from_be_bytes([*ttl, 0]), checksum::fold(checksum::sum(s))];
                [*c0, *c1] = checksum::update(sum, checksum::delta(&before, &after)).to_be_bytes();
            }
            (Addresses::V6(addresses), 6) => {
                let Some(header) = packet.first_chunk_mut::<40>() else { return false };
                let [_, _, _, _, _, _, _, hops, place @ ..] = header;
                *hops = self.hops;
                *place = *addresses;
            }
            _ => return false,
        }
        true
    }
}
