//! Two halves of a TCP connection that were begun apart, brought to one count: the client knows the sequence numbers and the
//! clock of a cookie, the backend sends its own. What separates them is constant, and is added to every segment on its way
//! (sequence and acknowledgment, edges of selective acknowledgments, timestamps); windows are put into the scale that each
//! end was told.
//!
//! A backend that is told of its client gets bytes before the client's own ([`Lead`]); their number is constant, too.
//!
//! Called by workers for packets of connections that began with a SYN cookie, or with an introduction. Checksums follow (RFC 1624); a header that
//! is not as `facts` say is left alone and the answer is false.

use wire::tcp::TcpHeader;
use wire::tcp_options::{add_in_place, shift_options};
use wire::{Facts, Quote, SeqNumber, Tcp, TcpFlags, Transport, checksum, icmpv4, icmpv6};

use super::Lead;

/// What separates the two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// The client's count of the backend's stream less the backend's own.
    pub sequence: u32,
    /// The clock the client was told less the backend's own.
    pub timestamp: u32,
    /// Scales of the client's windows: as it sends them, and as the backend reads them.
    pub client_scale: [u8; 2],
    /// Scales of the backend's windows: as it sends them, and as the client reads them.
    pub backend_scale: [u8; 2],
    /// What the backend gets before the client's own bytes, where its service says so.
    pub lead: Option<Lead>,
}

/// Where a segment is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// From the client to the backend.
    Backend,
    /// From the backend to the client.
    Client,
}

/// Where numbers lie in a TCP header.
const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;

fn rescaled(window: u16, [from, to]: [u8; 2]) -> u16 {
    if from == to {
        return window;
    }
    let bytes = u32::from(window) << from.min(14);
    u16::try_from(bytes >> to.min(14)).unwrap_or(u16::MAX)
}

/// A window without the part that is taken already.
fn narrowed(window: u16, scale: u8, taken: u32) -> u16 {
    let scale = scale.min(14);
    let bytes = (u32::from(window) << scale).saturating_sub(taken);
    u16::try_from(bytes >> scale).unwrap_or(u16::MAX)
}

impl Shift {
    /// What the backend will see of a client's segment.
    #[must_use]
    pub fn as_backend_sees(&self, tcp: &Tcp) -> Tcp {
        let acknowledges = tcp.flags.contains(TcpFlags::ACK);
        Tcp {
            sequence: tcp.sequence.add(self.ahead_of(tcp.sequence, tcp.flags)),
            acknowledgment: if acknowledges {
                tcp.acknowledgment.add(self.sequence.wrapping_neg())
            } else {
                tcp.acknowledgment
            },
            window: self.window(tcp.window, tcp.flags, Toward::Backend),
            ..*tcp
        }
    }

    /// The backend's count of a number of its stream that the client knows.
    #[must_use]
    pub const fn as_backend_counts(&self, sequence: SeqNumber) -> SeqNumber {
        sequence.add(self.sequence.wrapping_neg())
    }

    /// The client's count of a number of the backend's stream.
    #[must_use]
    pub const fn as_client_counts(&self, sequence: SeqNumber) -> SeqNumber {
        sequence.add(self.sequence)
    }

    /// How far ahead the backend's count of the client's stream is at this segment.
    fn ahead_of(&self, sequence: SeqNumber, flags: TcpFlags) -> u32 {
        self.lead.map_or(0, |lead| lead.ahead_of(sequence, flags))
    }

    /// What the client is told of an acknowledgment of the backend's: its own bytes only. Beside it, how many of those before
    /// them are still to be taken in.
    #[must_use]
    pub fn acknowledged(&self, acknowledgment: SeqNumber) -> (SeqNumber, u32) {
        self.lead.map_or((acknowledgment, 0), |lead| lead.acknowledged(acknowledgment))
    }

    /// A window as its receiver has to read it. Windows of SYNs are never scaled (RFC 7323 section 2.2).
    #[must_use]
    pub fn window(&self, window: u16, flags: TcpFlags, toward: Toward) -> u16 {
        match toward {
            _ if flags.contains(TcpFlags::SYN) => window,
            Toward::Backend => rescaled(window, self.client_scale),
            Toward::Client => rescaled(window, self.backend_scale),
        }
    }

    /// Changes the sequence number an ICMP error quotes of a segment, as its receiver counted it, to the number its sender
    /// wrote; `toward` is the sender. What it says of the largest packet is lowered by what the segment has grown. False when the
    /// frame is not as told.
    #[must_use]
    pub fn apply_to_quote(&self, frame: &mut [u8], facts: &Facts, quote: &Quote, toward: Toward) -> bool {
        const ERROR_CHECKSUM: usize = 2;
        let error = usize::from(facts.transport_offset);
        let (begin, end) = (usize::from(quote.transport_offset), usize::from(facts.end));
        let Some(message) = frame.get_mut(error..end) else { return false };
        let Some(at) = begin.checked_sub(error).filter(|at| at + SEQUENCE + 4 <= message.len()) else { return false };
        let before = checksum::sum(message);
        let Some(place) = message.get_mut(at + SEQUENCE..).and_then(<[u8]>::first_chunk_mut::<4>) else { return false };
        let quoted = SeqNumber::new(u32::from_be_bytes(*place));
        let sent = match toward {
            Toward::Backend => self.as_backend_counts(quoted),
            Toward::Client => self.lead.map_or(quoted, |lead| lead.as_client_sent(quoted)),
        };
        *place = sent.get().to_be_bytes();
        if let (Toward::Client, Some(lead)) = (toward, self.lead) {
            leave_room(message, facts, &lead);
        }
        let after = checksum::sum(message);
        let Some([high, low]) = message.get_mut(ERROR_CHECKSUM..).and_then(<[u8]>::first_chunk_mut::<2>) else {
            return false;
        };
        let delta = checksum::delta(&[checksum::fold(before)], &[checksum::fold(after)]);
        [*high, *low] = checksum::update(u16::from_be_bytes([*high, *low]), delta).to_be_bytes();
        true
    }

    /// Changes the segment in `frame`, which `facts` describe.
    #[must_use]
    pub fn apply(&self, frame: &mut [u8], facts: &Facts, toward: Toward) -> bool {
        let segment = frame.get_mut(usize::from(facts.transport_offset)..usize::from(facts.end));
        let Some(segment) = segment else { return false };
        let Ok((header, _, _)) = TcpHeader::split(segment) else { return false };
        let (flags, mut window, sum, len) = (header.flags(), header.window(), header.checksum(), header.header_len());
        let (sequence, acknowledgment) = (header.sequence(), header.acknowledgment());
        let Some(header) = segment.get_mut(..len) else { return false };
        // Options stand where they like: the whole header is summed before and after, at most 60 bytes.
        let before = checksum::sum(header);
        let back = self.sequence.wrapping_neg();
        let acknowledges = flags.contains(TcpFlags::ACK);
        let behind = TcpHeader::LEN;
        match toward {
            Toward::Client => {
                add_in_place(header, SEQUENCE, self.sequence);
                if acknowledges && let Some(lead) = &self.lead {
                    let (told, missing) = lead.acknowledged(acknowledgment);
                    add_in_place(header, ACKNOWLEDGMENT, told.get().wrapping_sub(acknowledgment.get()));
                    window = narrowed(
                        window,
                        if flags.contains(TcpFlags::SYN) { 0 } else { self.backend_scale[0] },
                        missing,
                    );
                }
                let edges = self.lead.map_or(0, |lead| u32::from(lead.len).wrapping_neg());
                shift_options(header.get_mut(behind..).unwrap_or_default(), edges, self.timestamp, 0);
            }
            Toward::Backend => {
                add_in_place(header, SEQUENCE, self.ahead_of(sequence, flags));
                if acknowledges {
                    add_in_place(header, ACKNOWLEDGMENT, back);
                    let echo = self.timestamp.wrapping_neg();
                    shift_options(header.get_mut(behind..).unwrap_or_default(), back, 0, echo);
                }
            }
        }
        let window = self.window(window, flags, toward).to_be_bytes();
        if let Some(place) = header.get_mut(WINDOW..WINDOW + 2) {
            place.copy_from_slice(&window);
        }
        let after = checksum::sum(header);
        let sum = checksum::update(sum, checksum::delta(&[checksum::fold(before)], &[checksum::fold(after)]));
        if let Some(place) = header.get_mut(CHECKSUM..CHECKSUM + 2) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        true
    }
}

/// Lowers the MTU of a "packet too big" (RFC 1191 section 4, RFC 8201): its receiver's segments grow on their way.
fn leave_room(message: &mut [u8], facts: &Facts, lead: &Lead) {
    let Transport::IcmpError { kind, code, .. } = facts.transport else { return };
    let too_big = if facts.endpoints.is_v6() {
        kind == icmpv6::PACKET_TOO_BIG
    } else {
        kind == icmpv4::UNREACHABLE && code == icmpv4::FRAGMENTATION_NEEDED
    };
    if let Some(place) = message.get_mut(4..).and_then(<[u8]>::first_chunk_mut::<4>).filter(|_| too_big) {
        *place = lead.room(u32::from_be_bytes(*place)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use wire::emit::{Segment, tcp_segment_to};
    use wire::tcp_options::Timestamps;
    use wire::{Content, Endpoints, MacAddr, TcpOptions, Verify, dissect};

    use super::*;
    use crate::translate::Progress;

    fn endpoints(v6: bool) -> Endpoints {
        if v6 {
            Endpoints::V6 { source: Ipv6Addr::from_bits(1 << 100), destination: Ipv6Addr::from_bits(2 << 100) }
        } else {
            Endpoints::V4 { source: Ipv4Addr::new(192, 0, 2, 1), destination: Ipv4Addr::new(192, 0, 2, 2) }
        }
    }

    /// A frame with these numbers; `options` are whole words.
    fn frame(v6: bool, sequence: u32, acknowledgment: u32, window: u16, options: &[u8]) -> Vec<u8> {
        let segment = Segment {
            source_port: 80,
            destination_port: 40_000,
            sequence: SeqNumber::new(sequence),
            acknowledgment: SeqNumber::new(acknowledgment),
            flags: TcpFlags::ACK,
            window,
            options,
            payload: &[],
        };
        let mut out = vec![0; 200];
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        let len = tcp_segment_to(&mut out, mac, mac, &endpoints(v6), &segment).unwrap();
        out.truncate(len);
        out
    }

    /// Facts of a frame whose checksums are all right.
    fn facts(frame: &[u8]) -> (Facts, Tcp, TcpOptions) {
        let Content::Ip(facts) = dissect(frame, Verify::All).unwrap().content else { panic!("IP") };
        let Transport::Tcp(tcp) = facts.transport else { panic!("TCP") };
        (facts, tcp, TcpOptions::of(frame, &facts))
    }

    proptest! {
        /// A model conversation: each end sends numbers of its own count; the other must receive them in its own.
        #[test]
        fn each_end_sees_its_own_count(
            v6: bool, opener: u32, cookie: u32, backend: u32, clocks: [u32; 2], ahead in 0_u16..60, steps in prop::collection::vec((any::<bool>(), 0_u32..70_000), 1..40),
        ) {
            let shift = Shift {
                sequence: cookie.wrapping_sub(backend), timestamp: clocks[0].wrapping_sub(clocks[1]),
                lead: Some(Lead { first: SeqNumber::new(opener).add(1), len: ahead, longer: 0, progress: Progress::Heard }), ..Shift::default()
            };
            let (mut said, mut heard) = (0_u32, 0_u32);
            for (from_backend, amount) in steps {
                let stamp = |value, echo| Some(Timestamps { value, echo });
                let mut options = [0; 40];
                if from_backend {
                    heard = heard.wrapping_add(amount);
                    let timestamps = stamp(clocks[1].wrapping_add(heard), said);
                    let len = TcpOptions { timestamps, ..TcpOptions::default() }.write(&mut options);
                    let mut frame = frame(v6, backend.wrapping_add(heard), opener.wrapping_add(said + u32::from(ahead)), 500, &options[..len]);
                    let (known, _, _) = facts(&frame);
                    prop_assert!(shift.apply(&mut frame, &known, Toward::Client));
                    let (_, tcp, options) = facts(&frame);
                    prop_assert_eq!(tcp.sequence.get(), cookie.wrapping_add(heard));
                    prop_assert_eq!(tcp.acknowledgment.get(), opener.wrapping_add(said));
                    prop_assert_eq!(options.timestamps, stamp(clocks[0].wrapping_add(heard), said));
                } else {
                    said = said.wrapping_add(amount);
                    let timestamps = stamp(said, clocks[0].wrapping_add(heard));
                    let len = TcpOptions { timestamps, ..TcpOptions::default() }.write(&mut options);
                    let edges = [heard.wrapping_add(10), heard.wrapping_add(20)];
                    options[len..len + 4].copy_from_slice(&[1, 1, 5, 10]);
                    for (edge, at) in edges.iter().zip([len + 4, len + 8]) {
                        options[at..at + 4].copy_from_slice(&cookie.wrapping_add(*edge).to_be_bytes());
                    }
                    let mut frame = frame(v6, opener.wrapping_add(said), cookie.wrapping_add(heard), 500, &options[..len + 12]);
                    let (known, before, _) = facts(&frame);
                    prop_assert!(shift.apply(&mut frame, &known, Toward::Backend));
                    let (known, tcp, options) = facts(&frame);
                    prop_assert_eq!(tcp, shift.as_backend_sees(&before));
                    prop_assert_eq!(tcp.sequence.get(), opener.wrapping_add(said + u32::from(ahead)));
                    prop_assert_eq!(tcp.acknowledgment.get(), backend.wrapping_add(heard));
                    prop_assert_eq!(options.timestamps, stamp(said, clocks[1].wrapping_add(heard)));
                    let end = usize::from(known.end);
                    for (edge, at) in edges.iter().zip([end - 8, end - 4]) {
                        let seen = u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                        prop_assert_eq!(seen, backend.wrapping_add(*edge));
                    }
                }
            }
        }

        /// Whatever stands in the options, checksums stay right and nothing panics.
        #[test]
        fn checksums_follow_whatever_the_options(
            v6: bool, numbers: [u32; 4], window: u16, scales in prop::array::uniform4(0_u8..=14), ahead: u16, opener: u32, told: Option<u16>, noise in prop::collection::vec(any::<u8>(), 0..11),
        ) {
            let [sequence, acknowledgment, by, clock] = numbers;
            let shift = Shift {
                sequence: by, timestamp: clock,
                client_scale: [scales[0], scales[1]], backend_scale: [scales[2], scales[3]],
                lead: Some(Lead { progress: told.map_or(Progress::Untold, Progress::Told), first: SeqNumber::new(opener), len: ahead, longer: 8 }),
            };
            // Options that are well-formed at odd places.
            let mut options = vec![1];
            for byte in noise.chunks_exact(8) {
                options.extend([5, 10]);
                options.extend(byte);
            }
            options.resize(options.len().next_multiple_of(4), 0);
            for toward in [Toward::Backend, Toward::Client] {
                let mut frame = frame(v6, sequence, acknowledgment, window, &options);
                let (known, _, _) = facts(&frame);
                prop_assert!(shift.apply(&mut frame, &known, toward));
                let _ = facts(&frame);
            }
        }
    }

    #[test]
    fn windows_are_read_in_the_scale_each_end_was_told() {
        let shift = Shift { client_scale: [7, 0], backend_scale: [2, 7], ..Shift::default() };
        let window = |window, toward| shift.window(window, TcpFlags::ACK, toward);
        assert_eq!([10, 511, 512, 65_535].map(|raw| window(raw, Toward::Backend)), [1_280, 65_408, 65_535, 65_535]);
        assert_eq!([31, 32, 65_535].map(|raw| window(raw, Toward::Client)), [0, 1, 2_047]);
        assert_eq!(shift.window(900, TcpFlags::SYN, Toward::Client), 900);
    }

    /// Until the backend has taken in what is ahead, the client hears of nothing but its own, and of less room.
    #[test]
    fn what_is_ahead_is_taken_out_of_acknowledgments_and_windows() {
        let first = SeqNumber::new(u32::MAX - 9);
        let lead = Lead { first, len: 52, longer: 0, progress: Progress::Told(0) };
        let shift = Shift { lead: Some(lead), ..Shift::default() };
        for (acknowledgment, told, missing) in [(0, 0, 52), (10, 0, 42), (51, 0, 1), (52, 0, 0), (152, 100, 0)] {
            let (heard, left) = shift.acknowledged(first.add(acknowledgment));
            assert_eq!((heard.get().wrapping_sub(first.get()), left), (told, missing), "{acknowledgment}");
        }
        assert_eq!(shift.acknowledged(first.add(u32::MAX)), (first.add(u32::MAX), 52), "older than the first byte");
        let heard = Shift { lead: Some(Lead { progress: Progress::Heard, ..lead }), ..shift };
        assert_eq!(heard.acknowledged(first.add(3_000_000_000)), (first.add(3_000_000_000 - 52), 0));
        assert_eq!(
            (narrowed(100, 0, 52), narrowed(10, 0, 52), narrowed(100, 3, 52), narrowed(0, 14, 1)),
            (48, 0, 93, 0)
        );
    }

    #[test]
    fn a_frame_that_is_not_as_told_is_left_alone() {
        let whole = frame(false, 1, 2, 3, &[]);
        let (known, _, _) = facts(&whole);
        for len in 0..whole.len() {
            let mut cut = whole[..len].to_vec();
            assert!(!Shift::default().apply(&mut cut, &known, Toward::Client));
            assert_eq!(cut, whole[..len]);
        }
    }
}
