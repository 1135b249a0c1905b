//! The servers. They remember nothing: every answer follows from the segment alone, the handshake's number included, so a
//! repeated segment gets the same answer again and millions of connections cost no memory. What arrives for any address and
//! port below the clients' is answered; so the same servers stand behind a balancer, behind NAT, and behind a wire.

use wire::TcpFlags;

use super::connection::Outgoing;
use super::frame::Segment;

/// Turns a client's first number into the server's.
const INITIAL: u32 = 0x9e37_79b9;

/// What a server answers to a segment that carries `payload` bytes; `response` bytes answer a request.
#[inline]
#[must_use]
pub fn answer(segment: &Segment, payload: u16, response: u16) -> Option<Outgoing> {
    let Segment { sequence, acknowledgment, flags } = *segment;
    if flags.contains(TcpFlags::RST) {
        return None;
    }
    if flags.contains(TcpFlags::SYN) {
        let first = sequence.rotate_left(13) ^ INITIAL;
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        return Some(outgoing(first, sequence.wrapping_add(1), flags, 0));
    }
    let end = sequence.wrapping_add(u32::from(payload));
    if flags.contains(TcpFlags::FIN) {
        return Some(outgoing(acknowledgment, end.wrapping_add(1), TcpFlags::FIN | TcpFlags::ACK, 0));
    }
    (payload > 0).then(|| outgoing(acknowledgment, end, TcpFlags::ACK | TcpFlags::PSH, response))
}

const fn outgoing(sequence: u32, acknowledgment: u32, flags: TcpFlags, payload: u16) -> Outgoing {
    Outgoing { segment: Segment { sequence, acknowledgment, flags }, payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_follows_from_its_segment_alone() {
        let ack = TcpFlags::ACK;
        for (sequence, acknowledgment, flags, payload, expected) in [
            (u32::MAX, 0, TcpFlags::SYN, 0, Some((u32::MAX ^ INITIAL, 0, TcpFlags::SYN | ack, 0))),
            (10, 500, ack, 0, None),
            (10, 500, ack | TcpFlags::PSH, 20, Some((500, 30, ack | TcpFlags::PSH, 99))),
            (30, 599, ack | TcpFlags::FIN, 0, Some((599, 31, ack | TcpFlags::FIN, 0))),
            (30, 599, ack | TcpFlags::RST, 0, None),
        ] {
            let answered = answer(&Segment { sequence, acknowledgment, flags }, payload, 99);
            let expected = expected
                .map(|(sequence, acknowledgment, flags, payload)| outgoing(sequence, acknowledgment, flags, payload));
            assert_eq!(answered, expected);
        }
    }
}
