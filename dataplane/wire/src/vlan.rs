//! 802.1Q and 802.1ad tags between the Ethernet header and its payload. At most [`VLAN_TAGS_MAX`] are walked; a frame with
//! more is refused, so that the work stays bounded and nothing hides behind tags (MAL-12).

use units::limits::VLAN_TAGS_MAX;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Malformed;

/// A customer's tag (IEEE 802.1Q).
pub const CUSTOMER: u16 = 0x8100;
/// A provider's tag (IEEE 802.1ad).
pub const PROVIDER: u16 = 0x88a8;
/// A provider's tag as written before 802.1ad, still met on older switches.
pub const PROVIDER_OLD: u16 = 0x9100;

/// What follows a tag's ethertype. Shape: 4 bytes, no alignment.
///
/// ```text
///  0                  2       4
/// +---+-+------------+-------+----
/// |pri|d| VLAN id(12)| type  | payload, or the next tag
/// +---+-+------------+-------+----
/// ```
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct VlanTag {
    control: U16,
    ethertype: U16,
}

const _: () = assert!(size_of::<VlanTag>() == 4);

impl VlanTag {
    /// A tag with priority 0.
    #[must_use]
    pub const fn new(vlan: u16, ethertype: u16) -> Self {
        Self { control: U16::new(vlan & 0x0fff), ethertype: U16::new(ethertype) }
    }

    /// The VLAN id; 0 marks a frame that has a priority only.
    #[must_use]
    pub const fn vlan(&self) -> u16 {
        self.control.get() & 0x0fff
    }

    /// What follows the tag.
    #[must_use]
    pub const fn ethertype(&self) -> u16 {
        self.ethertype.get()
    }
}

/// Whether this ethertype announces a tag.
#[must_use]
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, CUSTOMER | PROVIDER | PROVIDER_OLD)
}

/// What the tags of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    pub(crate) count: u8,
    /// The outermost VLAN id, 0 without tags.
    pub(crate) vlan: u16,
    /// The ethertype behind the tags.
    pub(crate) ethertype: u16,
    /// Where in the frame that ethertype's payload begins.
    pub(crate) payload: u16,
}

/// Walks the tags at the start of `rest`, which an ethertype announced, and returns them with what follows.
///
/// # Errors
/// `VlanTruncated` when a tag is cut off; `VlanTooDeep` beyond [`VLAN_TAGS_MAX`].
pub(crate) fn skip(mut rest: &[u8]) -> Result<(Tags, &[u8]), Malformed> {
    let mut tags = Tags { count: 0, vlan: 0, ethertype: 0, payload: 14 };
    for depth in 0..VLAN_TAGS_MAX {
        let (tag, behind) = VlanTag::ref_from_prefix(rest).map_err(|_| Malformed::VlanTruncated)?;
        if depth == 0 {
            tags.vlan = tag.vlan();
        }
        tags.count += 1;
        tags.payload += 4;
        tags.ethertype = tag.ethertype();
        if !is_tag(tags.ethertype) {
            return Ok((tags, behind));
        }
        rest = behind;
    }
    Err(Malformed::VlanTooDeep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Link;
    use crate::ethernet::{self, IPV4};

    fn read(frame: &[u8]) -> Result<Link, Malformed> {
        ethernet::read(frame).map(|(link, _)| link.finish())
    }

    fn frame(kinds: &[u16], ethertype: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for (depth, kind) in (1_u16..).zip(kinds) {
            frame.extend(kind.to_be_bytes());
            frame.extend((0xe000 | depth).to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame
    }

    /// MAL-12: 0 to 8 tags; three are read, the fourth is one too many.
    #[test]
    fn three_tags_are_read_and_a_fourth_is_refused() {
        for depth in 0..=8_u8 {
            let read = read(&frame(&vec![CUSTOMER; depth.into()], IPV4));
            if depth <= 3 {
                let link = read.unwrap();
                assert_eq!((link.tags, link.ethertype), (depth, IPV4));
                assert_eq!(link.payload, 14 + 4 * u16::from(depth));
                assert_eq!(link.vlan, u16::from(depth > 0), "the outermost, without its priority");
            } else {
                assert_eq!(read, Err(Malformed::VlanTooDeep));
            }
        }
    }

    #[test]
    fn every_kind_of_tag_is_known() {
        let link = read(&frame(&[PROVIDER_OLD, PROVIDER, CUSTOMER], 0x88cc)).unwrap();
        assert_eq!((link.tags, link.ethertype, link.payload), (3, 0x88cc, 26));
    }

    /// MAL-12: a tag cut anywhere.
    #[test]
    fn a_cut_tag_is_refused() {
        let whole = frame(&[PROVIDER, CUSTOMER], IPV4);
        for len in 14..22 {
            assert_eq!(read(&whole[..len]), Err(Malformed::VlanTruncated), "{len}");
        }
    }

    #[test]
    fn bytes_and_fields_agree() {
        let tag = VlanTag::new(0x123, IPV4);
        assert_eq!(tag.as_bytes(), [0x01, 0x23, 0x08, 0x00]);
        assert_eq!((tag.vlan(), tag.ethertype()), (0x123, IPV4));
    }
}
