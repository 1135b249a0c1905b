//! The Ethernet II header (IEEE 802.3 clause 3), and the ethertypes the appliance knows. Read by
//! [`dissect`](crate::dissect), written by [`emit`](crate::emit). Tags behind it are in `vlan`.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::packet::LinkLayer;
use crate::vlan::{self, Tags};
use crate::{MacAddr, Malformed};

/// IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;

/// Ethernet header as it lies on the wire. Shape: 14 bytes, no alignment; no preamble, no frame check sequence. An
/// `ethertype` below 0x0600 is a length (IEEE 802.3); what follows is then LLC, which the appliance does not read.
///
/// ```text
///  0           6           12     14
/// +-----------+-----------+------+----
/// |destination|  source   | type | payload
/// +-----------+-----------+------+----
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EthernetHeader {
    destination: MacAddr,
    source: MacAddr,
    ethertype: U16,
}

const _: () = assert!(size_of::<EthernetHeader>() == EthernetHeader::LEN);

impl EthernetHeader {
    /// Bytes of the header.
    pub const LEN: usize = 14;

    /// A header with these fields.
    #[must_use]
    pub const fn new(destination: MacAddr, source: MacAddr, ethertype: u16) -> Self {
        Self { destination, source, ethertype: U16::new(ethertype) }
    }

    /// The header and what follows it.
    ///
    /// # Errors
    /// `FrameTruncated` below 14 bytes.
    pub fn split(frame: &[u8]) -> Result<(&Self, &[u8]), Malformed> {
        Self::ref_from_prefix(frame).map_err(|_| Malformed::FrameTruncated)
    }

    /// The station or group this is for.
    #[must_use]
    pub const fn destination(&self) -> MacAddr {
        self.destination
    }

    /// The station it comes from.
    #[must_use]
    pub const fn source(&self) -> MacAddr {
        self.source
    }

    /// What follows: a protocol, a tag's kind, or a length.
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        self.ethertype.get()
    }

    /// Writes the destination.
    pub const fn set_destination(&mut self, station: MacAddr) {
        self.destination = station;
    }

    /// Writes the source.
    pub const fn set_source(&mut self, station: MacAddr) {
        self.source = station;
    }
}

/// Reads the Ethernet header and the tags behind it, and returns them with what follows.
///
/// # Errors
/// `FrameTruncated`, `EthernetSource`, and what [`vlan::skip`] finds.
#[inline]
pub(crate) fn read(frame: &[u8]) -> Result<(LinkLayer<'_>, &[u8]), Malformed> {
    let (header, payload) = EthernetHeader::split(frame)?;
    if header.source.is_multicast() {
        return Err(Malformed::EthernetSource);
    }
    let ethertype = header.ethertype.get();
    if vlan::is_tag(ethertype) {
        let (tags, payload) = vlan::skip(payload)?;
        return Ok((LinkLayer { header, tags }, payload));
    }
    Ok((LinkLayer { header, tags: Tags { count: 0, vlan: 0, ethertype, payload: 14 } }, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 15] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x06, 0x77];

    #[test]
    fn bytes_and_fields_agree() {
        let (header, rest) = EthernetHeader::split(&FRAME).unwrap();
        assert_eq!(header.destination(), MacAddr::new([2, 0, 0, 0, 0, 1]));
        assert_eq!(header.source(), MacAddr::new([2, 0, 0, 0, 0, 2]));
        assert_eq!(header.ethertype(), ARP);
        assert_eq!(rest, [0x77]);
        let written = EthernetHeader::new(header.destination(), header.source(), ARP);
        assert_eq!(written.as_bytes(), &FRAME[..14]);
    }

    #[test]
    fn thirteen_bytes_are_no_header() {
        assert_eq!(EthernetHeader::split(&FRAME[..13]).err(), Some(Malformed::FrameTruncated));
    }

    #[test]
    fn a_group_sends_nothing() {
        let mut frame = FRAME;
        frame[6] = 0x33;
        assert_eq!(read(&frame).err(), Some(Malformed::EthernetSource));
    }
}
