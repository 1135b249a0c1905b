//! The few packets the appliance originates, each written into a caller's buffer: ARP and neighbor discovery, resets, ICMP
//! errors, echo replies. Every writer returns how many bytes it wrote, or `None` when they do not fit or when the packet
//! must not be sent. Called by workers and control; when and how often is theirs to decide (rate limits are not here).
//!
//! What answers a frame goes back the way it came: MACs exchanged, VLAN tags kept. Nothing pads to Ethernet's minimum; the
//! device does.

mod arp;
mod echo;
mod icmp_error;
mod neighbor;
mod reset;
mod segment;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Frame;
use crate::ethernet::EthernetHeader;

pub use arp::{arp_reply, arp_request, arp_request_to, gratuitous_arp};
pub use echo::echo_reply_in_place;
pub use icmp_error::{IcmpErrorKind, icmp_error};
pub use neighbor::{
    neighbor_advertisement, neighbor_solicitation, neighbor_solicitation_to, unsolicited_advertisement,
};
pub use reset::{Reset, tcp_reset, tcp_reset_to};
pub use segment::{Segment, tcp_segment, tcp_segment_len, tcp_segment_to};

/// Hops a packet of the appliance's own may take (IANA's recommended default).
pub const HOP_LIMIT: u8 = 64;

/// Writes `header` at `at` and returns where it ends.
fn put<T: IntoBytes + Immutable>(out: &mut [u8], at: usize, header: &T) -> Option<usize> {
    header.write_to_prefix(out.get_mut(at..)?).ok()?;
    Some(at + size_of::<T>())
}

/// Writes the link layer of an answer to `frame` and returns where it ends. `None` also when the frame was not sent from
/// one station to one station: no such frame is answered (RFC 1122 section 3.2.2, RFC 9293 section 3.9.2.3).
fn put_link_answer(out: &mut [u8], frame: &[u8], facts: &Frame) -> Option<usize> {
    let link = &facts.link;
    if link.source.is_multicast() || link.destination.is_multicast() {
        return None;
    }
    let len = usize::from(link.payload);
    let to = out.get_mut(..len)?;
    to.copy_from_slice(frame.get(..len)?);
    let (header, _) = EthernetHeader::mut_from_prefix(to).ok()?;
    header.set_destination(link.source);
    header.set_source(link.destination);
    Some(len)
}
