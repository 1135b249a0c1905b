//! Cutting a packet that is too large for a link: an IPv4 packet (RFC 791 section 3.2), and an IPv6 packet that was made of one
//! (RFC 7915 section 4.1) and has a fragment header for it. Called by workers when a packet that may be cut leaves through a
//! port with a smaller MTU; pure functions of bytes.

use crate::checksum;
use crate::ipv4::Ipv4Header;
use crate::ipv6::Ipv6Header;
use zerocopy::FromBytes;

/// "More fragments" in the field of flags and offset.
const MORE: u16 = 0x2000;
/// Bytes of all options a header can have.
const OPTIONS_MAX: usize = 40;
/// IANA's number of IPv6's fragment header, its length, and both headers'.
const NEXT_FRAGMENT: u8 = 44;
const FRAGMENT_HEADER: usize = 8;
const HEADERS_V6: usize = Ipv6Header::LEN + FRAGMENT_HEADER;
/// "More fragments" in IPv6's field of offset and flags.
const MORE_V6: u16 = 1;

/// How a packet is cut to fit a smaller link: where its parts are, and how much each new fragment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the IP header begins in the frame.
    network: usize,
    /// Where the payload begins in the frame.
    payload: usize,
    /// Where the packet ends in the frame.
    end: usize,
    /// Bytes of payload in every fragment but the last; a multiple of 8.
    first: usize,
    /// Bytes of payload in every fragment but the first and the last: their headers may be shorter.
    later: usize,
    /// Offset of the packet itself, when it was a fragment before, in units of 8 bytes.
    offset: u16,
    /// Whether the packet itself was followed by others.
    more: bool,
    is_v6: bool,
}

impl Cut {
    /// How the IPv4 packet at `network` of `frame` is cut for a link that carries `mtu` bytes. `None` when it fits, may not
    /// be cut, or is no IPv4 packet.
    #[must_use]
    pub fn new(frame: &[u8], network: usize, mtu: u16) -> Option<Self> {
        let (header, packet) = Ipv4Header::split(frame.get(network..)?).ok()?;
        if packet.len() <= usize::from(mtu) || header.dont_fragment() {
            return None;
        }
        let header_len = header.header_len();
        let options = packet.get(Ipv4Header::LEN..header_len)?;
        let copied = copied_options(options, &mut [0; OPTIONS_MAX]);
        let room =
            |header: usize| usize::from(mtu).checked_sub(header).map(|room| room / 8 * 8).filter(|&room| room > 0);
        Some(Self {
            network,
            payload: network + header_len,
            end: network + packet.len(),
            first: room(header_len)?,
            later: room(Ipv4Header::LEN + copied)?,
            offset: header.fragment_offset(),
            more: header.more_fragments(),
            is_v6: false,
        })
    }

    /// How the IPv6 packet at `network` of `frame` is cut into pieces of `largest` bytes. `None` when it fits, or a fragment
    /// header is not the only one behind its own.
    #[must_use]
    pub fn new_v6(frame: &[u8], network: usize, largest: u16) -> Option<Self> {
        let (header, rest) = Ipv6Header::ref_from_prefix(frame.get(network..)?).ok()?;
        let packet = Ipv6Header::LEN + usize::from(header.payload_length());
        if header.version() != 6 || packet <= usize::from(largest) || header.next_header() != NEXT_FRAGMENT {
            return None;
        }
        let &[_, _, o0, o1] = rest.first_chunk()?;
        let field = u16::from_be_bytes([o0, o1]);
        let end = network + packet;
        let room = usize::from(largest).checked_sub(HEADERS_V6)? / 8 * 8;
        (end <= frame.len() && room > 0).then_some(Self {
            network,
            payload: network + HEADERS_V6,
            end,
            first: room,
            later: room,
            offset: field >> 3,
            more: field & MORE_V6 != 0,
            is_v6: true,
        })
    }

    /// How many fragments there will be, at least two.
    #[must_use]
    pub const fn count(&self) -> usize {
        1 + (self.end - self.payload - self.first).div_ceil(self.later)
    }

    /// Bytes of the longest frame [`Cut::write`] makes.
    #[must_use]
    pub const fn longest(&self) -> usize {
        self.payload + self.later
    }

    /// Writes fragment `number` (1 and up) of the frame into `out`, link header and all; returns its length. `None` when
    /// there is no such fragment, or no room for it.
    pub fn write(&self, frame: &[u8], number: usize, out: &mut [u8]) -> Option<usize> {
        let begin = self.payload + self.first + number.checked_sub(1)? * self.later;
        let end = (begin + self.later).min(self.end);
        let payload = frame.get(begin..end).filter(|payload| !payload.is_empty())?;
        let header = frame.get(self.network..self.payload)?;
        let mut options = [0; OPTIONS_MAX];
        let (fixed_len, copied) = if self.is_v6 {
            (HEADERS_V6, 0)
        } else {
            (Ipv4Header::LEN, copied_options(header.get(Ipv4Header::LEN..)?, &mut options))
        };
        let header_len = fixed_len + copied;
        let len = self.network + header_len + payload.len();
        let out = out.get_mut(..len)?;
        let (link, packet) = out.split_at_mut_checked(self.network)?;
        link.copy_from_slice(frame.get(..self.network)?);
        let (new_header, new_payload) = packet.split_at_mut_checked(header_len)?;
        let (fixed, new_options) = new_header.split_at_mut_checked(fixed_len)?;
        fixed.copy_from_slice(header.get(..fixed_len)?);
        new_options.copy_from_slice(options.get(..copied)?);
        new_payload.copy_from_slice(payload);
        let more = self.more || end < self.end;
        self.seal(new_header, header_len + payload.len(), begin, more)?;
        Some(len)
    }

    /// Makes the frame itself the first fragment; returns its length, to which the buffer is then cut.
    pub fn shorten(&self, frame: &mut [u8]) -> Option<usize> {
        let header = frame.get_mut(self.network..self.payload)?;
        self.seal(header, self.payload - self.network + self.first, self.payload, true)?;
        Some(self.payload + self.first)
    }

    /// Writes length, offset and (IPv4) checksum of the fragment whose payload began at `begin` of the frame.
    fn seal(&self, header: &mut [u8], total: usize, begin: usize, more: bool) -> Option<()> {
        let units = self.offset.checked_add(u16::try_from((begin - self.payload) / 8).ok()?)?;
        if self.is_v6 {
            let [_, _, _, _, l0, l1, ..] = header.first_chunk_mut::<{ Ipv6Header::LEN }>()?;
            [*l0, *l1] = u16::try_from(total.checked_sub(Ipv6Header::LEN)?).ok()?.to_be_bytes();
            let field = units << 3 | if more { MORE_V6 } else { 0 };
            header.get_mut(Ipv6Header::LEN + 2..Ipv6Header::LEN + 4)?.copy_from_slice(&field.to_be_bytes());
            return Some(());
        }
        let flags_offset = units | if more { MORE } else { 0 };
        let words = u8::try_from(header.len() / 4).ok()?;
        let total = u16::try_from(total).ok()?;
        let [version_words, _, t0, t1, _, _, f0, f1, _, _, c0, c1] = header.first_chunk_mut::<12>()?;
        *version_words = 0x40 | words;
        [*t0, *t1] = total.to_be_bytes();
        [*f0, *f1] = flags_offset.to_be_bytes();
        [*c0, *c1] = [0, 0];
        let sum = checksum::plain(header);
        let [.., c0, c1] = header.first_chunk_mut::<12>()?;
        [*c0, *c1] = sum.to_be_bytes();
        Some(())
    }
}

/// Puts those options that every fragment carries (the copied flag, RFC 791 section 3.1) into `out`, filled up to whole
/// words; returns how many bytes that is. The options were checked when the packet was read.
fn copied_options(mut options: &[u8], out: &mut [u8; OPTIONS_MAX]) -> usize {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut len = 0;
    while let [kind, rest @ ..] = options {
        let size = match *kind {
            END => break,
            NO_OPERATION => 1,
            _ => usize::from(rest.first().copied().unwrap_or(0)).max(2),
        };
        let Some((option, after)) = options.split_at_checked(size) else { break };
        if kind & COPIED != 0
            && let Some(place) = out.get_mut(len..len + size)
        {
            place.copy_from_slice(option);
            len += size;
        }
        options = after;
    }
    let padded = len.next_multiple_of(4);
    if let Some(padding) = out.get_mut(len..padded) {
        padding.fill(END);
    }
    padded
}
