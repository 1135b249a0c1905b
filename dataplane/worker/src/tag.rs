//! The VLAN tag that marks what tiers of its service a packet has passed: read, put on, changed, taken off. Only frames
//! with one tag at most come here.

use frame::Buffer;
use wire::vlan::CUSTOMER;
use wire::{Content, Frame};

/// Bytes of a tag, and of the MACs in front of it.
pub(crate) const TAG: usize = 4;
const MACS: usize = 12;

/// The VLAN of a frame with a customer's tag (IEEE 802.1Q); its priority is of no meaning here.
pub(crate) fn tag_of(bytes: &[u8]) -> Option<u16> {
    let &[t0, t1, high, low] = bytes.get(MACS..)?.first_chunk::<TAG>()?;
    (u16::from_be_bytes([t0, t1]) == CUSTOMER).then(|| u16::from_be_bytes([high, low]) & 0x0fff)
}

/// Puts a tag on a frame without one. False when there is no room.
pub(crate) fn put_tag<B: Buffer>(buffer: &mut B, vlan: u16) -> bool {
    let Some(bytes) = buffer.prepend(TAG) else { return false };
    bytes.copy_within(TAG..TAG + MACS, 0);
    write(bytes, vlan)
}

/// Gives a frame a tag of this VLAN, or none, and `frame` the places its parts are at afterwards. False when there is no
/// room.
pub(crate) fn retag<B: Buffer>(buffer: &mut B, frame: &mut Frame, vlan: Option<u16>) -> bool {
    match (tag_of(buffer.bytes()), vlan) {
        (None, None) => true,
        (Some(_), Some(vlan)) => {
            frame.link.vlan = vlan;
            write(buffer.bytes_mut(), vlan)
        }
        (None, Some(vlan)) => {
            (frame.link.tags, frame.link.vlan) = (1, vlan);
            shift(frame, |place| place.saturating_add(4));
            put_tag(buffer, vlan)
        }
        (Some(_), None) => {
            let bytes = buffer.bytes_mut();
            if bytes.len() < MACS + TAG {
                return false;
            }
            bytes.copy_within(0..MACS, TAG);
            (frame.link.tags, frame.link.vlan) = (0, 0);
            shift(frame, |place| place.saturating_sub(4));
            buffer.trim_front(TAG)
        }
    }
}

fn write(bytes: &mut [u8], vlan: u16) -> bool {
    let Some(place) = bytes.get_mut(MACS..).and_then(<[u8]>::first_chunk_mut::<TAG>) else { return false };
    let ([t0, t1], [high, low]) = (CUSTOMER.to_be_bytes(), vlan.to_be_bytes());
    *place = [t0, t1, high, low];
    true
}

/// Moves the places that the facts of a frame name.
fn shift(frame: &mut Frame, by: impl Fn(u16) -> u16) {
    frame.link.payload = by(frame.link.payload);
    if let Content::Ip(facts) = &mut frame.content {
        facts.network = by(facts.network);
        facts.transport_offset = by(facts.transport_offset);
        facts.end = by(facts.end);
    }
}
