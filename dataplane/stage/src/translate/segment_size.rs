//! TCP's maximum segment size option (RFC 9293 section 3.7.1), lowered where the way is narrower than the ends know: what
//! comes then fits, also where ICMP is filtered. Called by workers for SYN and SYN-ACK segments only.

use wire::{Facts, TcpFlags, Transport, checksum};

/// Bytes of the TCP header without options.
const HEADER: usize = 20;

/// Lowers the segment size a SYN or SYN-ACK announces to at most `largest` bytes, the checksum along with it. True when it
/// was higher. A segment without the option is left alone: its sender takes 536 or 1,220 bytes (RFC 9293 section 3.7.1).
pub fn clamp_segment_size(frame: &mut [u8], facts: &Facts, largest: u16) -> bool {
    let Transport::Tcp(tcp) = facts.transport else { return false };
    if !tcp.flags.contains(TcpFlags::SYN) {
        return false;
    }
    let Some(segment) = frame.get_mut(usize::from(facts.transport_offset)..usize::from(facts.end)) else {
        return false;
    };
    let Some(place) = option(segment) else { return false };
    let Some([high, low]) = segment.get_mut(place..).and_then(<[u8]>::first_chunk_mut) else { return false };
    let announced = u16::from_be_bytes([*high, *low]);
    if announced <= largest {
        return false;
    }
    [*high, *low] = largest.to_be_bytes();
    // Options need not lie on even offsets: then each byte belongs to another word of the sum.
    let words = |value: u16| {
        let [high, low] = value.to_be_bytes();
        if place.is_multiple_of(2) { [value, 0] } else { [u16::from(high), u16::from(low) << 8] }
    };
    let delta = checksum::delta(&words(announced), &words(largest));
    let Some([.., c0, c1, _, _]) = segment.first_chunk_mut::<HEADER>() else { return false };
    [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), delta).to_be_bytes();
    true
}

/// Where the value of the option lies in the segment. At most 40 steps, as there are option bytes.
fn option(segment: &[u8]) -> Option<usize> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    let header_len = usize::from(*segment.get(12)? >> 4) * 4;
    let mut at = HEADER;
    while let [kind, rest @ ..] = segment.get(at..header_len)? {
        match (*kind, rest.first()) {
            (END, _) | (_, None) => return None,
            (NO_OPERATION, _) => at += 1,
            (SEGMENT_SIZE, Some(4)) => return (at + 4 <= header_len).then_some(at + 2),
            (_, Some(0 | 1)) => return None,
            (_, Some(len)) => at += usize::from(*len),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{Content, Verify, dissect};

    use super::*;

    /// A frame with a SYN of these options.
    fn syn(options: &[u8], flags: TcpFlags) -> Vec<u8> {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let mut tcp = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0];
        tcp.extend([u8::try_from(5 + options.len() / 4).unwrap() << 4, flags.bits(), 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(&options);
        let endpoints =
            wire::Endpoints::V4 { source: "198.51.100.7".parse().unwrap(), destination: "10.0.0.11".parse().unwrap() };
        let sum = checksum::transport(&endpoints, 6, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let mut ip = vec![0x45, 0, 0, u8::try_from(20 + tcp.len()).unwrap(), 0, 0, 0x40, 0, 64, 6, 0, 0];
        ip.extend([198, 51, 100, 7, 10, 0, 0, 11]);
        let sum = checksum::plain(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(ip);
        frame.extend(tcp);
        frame
    }

    fn clamp(frame: &mut [u8], largest: u16) -> bool {
        let Content::Ip(facts) = dissect(frame, Verify::All).unwrap().content else { panic!("IP") };
        let clamped = clamp_segment_size(frame, &facts, largest);
        dissect(frame, Verify::All).expect("every sum is right afterwards");
        clamped
    }

    proptest! {
        /// Wherever the option stands, and whatever it says: the checksum is right, and it says no more than allowed.
        #[test]
        fn the_option_is_found_and_lowered(before in 0usize..5, announced: u16, largest in 500u16..9_000, ack: bool) {
            let mut options = vec![1; before];
            options.extend([2, 4]);
            options.extend(announced.to_be_bytes());
            options.extend([3, 3, 7]);
            let flags = if ack { TcpFlags::SYN | TcpFlags::ACK } else { TcpFlags::SYN };
            let mut frame = syn(&options, flags);
            prop_assert_eq!(clamp(&mut frame, largest), announced > largest);
            let at = 14 + 20 + 20 + before + 2;
            prop_assert_eq!(u16::from_be_bytes([frame[at], frame[at + 1]]), announced.min(largest));
        }
    }

    #[test]
    fn what_announces_nothing_is_left_alone() {
        for (options, flags) in [
            (&[][..], TcpFlags::SYN),
            (&[3, 3, 7][..], TcpFlags::SYN),
            (&[0, 2, 4, 0x23, 0][..], TcpFlags::SYN),
            (&[2, 4, 0x23, 0][..], TcpFlags::ACK),
        ] {
            let mut frame = syn(options, flags);
            let before = frame.clone();
            assert!(!clamp(&mut frame, 536));
            assert_eq!(frame, before);
        }
    }
}
