//! Packets the appliance makes itself: resets and ICMP errors that answer a refused packet, and the short frames control
//! wants sent. All of them together are limited (RFC 4443 section 2.4 (f)), so that refusals cannot be turned into a
//! flood at a third party.

use frame::{Buffer, BufferPool};
use units::{Nanos, PortId};
use wire::emit::{self, IcmpErrorKind};
use wire::{TcpFlags, Transport};

use crate::packet::{Answer, Origin, Packet};
use crate::snapshot::Snapshot;

/// The longest packet made here: an `ICMPv6` error fills the minimum MTU (RFC 4443 section 2.4 (c)).
const LONGEST: usize = 14 + 8 + 1280;

/// A plain token bucket: one worker's, no sharing.
#[derive(Debug)]
pub(crate) struct Allowance {
    tokens: u32,
    filled: Nanos,
}

impl Allowance {
    /// A bucket that fills at once when it is first used.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { tokens: 0, filled: Nanos::ZERO }
    }

    /// Takes one token at `now` of a bucket that refills at `rate` a second, to one second's worth at most; false when
    /// there is none.
    pub(crate) fn take(&mut self, now: Nanos, rate: u32) -> bool {
        if self.tokens == 0 {
            let elapsed = now.since(self.filled).get().min(1_000_000_000);
            let earned = u64::from(rate).saturating_mul(elapsed) / 1_000_000_000;
            if earned > 0 {
                self.tokens = u32::try_from(earned).unwrap_or(rate);
                self.filled = now;
            }
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Self::new()
    }
}

/// What kind of packet answers this one, or none.
fn answer_to(transport: &Transport, answer: Answer) -> Option<Kind> {
    match (answer, transport) {
        (Answer::Icmp(kind), _) => Some(Kind::Icmp(kind)),
        // Resets are not answered by resets.
        (Answer::Reject | Answer::Reset, Transport::Tcp(tcp)) => {
            (!tcp.flags.contains(TcpFlags::RST)).then_some(Kind::Reset)
        }
        (Answer::Reject, _) => Some(Kind::Icmp(IcmpErrorKind::AdminProhibited)),
        (Answer::Reset, _) => None,
    }
}

enum Kind {
    Reset,
    Icmp(IcmpErrorKind),
}

/// Makes the answer to a refused packet, to leave through `port`, for the station the packet came from. `None` when no answer
/// is due, or no buffer is free.
pub(crate) fn answer<P: BufferPool>(
    pool: &P,
    snapshot: &Snapshot,
    packet: &Packet<P::Buffer>,
    port: PortId,
    answer: Answer,
) -> Option<P::Buffer> {
    let wire::Content::Ip(facts) = &packet.frame.content else { return None };
    let kind = answer_to(&facts.transport, answer)?;
    let mut buffer = pool.allocate()?;
    let room = LONGEST.min(packet.buffer.bytes().len() + 128).max(128);
    if !buffer.resize(room) {
        return None;
    }
    let written = match kind {
        Kind::Reset => emit::tcp_reset(buffer.bytes_mut(), packet.buffer.bytes(), &packet.frame)?,
        Kind::Icmp(kind) => {
            // Between two ports that pass as one wire, what the destination would have said is said in its name.
            let source = match packet.origin {
                Origin::InLine => facts.endpoints.destination(),
                Origin::Wire | Origin::Tunnel | Origin::Kernel | Origin::Tier(_) => {
                    snapshot.address_like(port, facts.endpoints.source())?
                }
            };
            emit::icmp_error(buffer.bytes_mut(), kind, source, packet.buffer.bytes(), &packet.frame)?
        }
    };
    buffer.resize(written).then_some(buffer)
}

/// A buffer with these bytes in it.
pub(crate) fn copy<P: BufferPool>(pool: &P, bytes: &[u8]) -> Option<P::Buffer> {
    let mut buffer = pool.allocate()?;
    if !buffer.resize(bytes.len()) {
        return None;
    }
    buffer.bytes_mut().get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_grants_a_second_of_answers_and_then_its_rate() {
        let mut allowance = Allowance::new();
        let granted = |allowance: &mut Allowance, at, rate| (0..5_000).filter(|_| allowance.take(at, rate)).count();
        assert_eq!(granted(&mut allowance, Nanos::from_secs(10), 1_000), 1_000);
        assert_eq!(granted(&mut allowance, Nanos::from_millis(10_500), 1_000), 500);
    }

    #[test]
    fn a_low_rate_is_kept_under_a_steady_flood() {
        let mut allowance = Allowance::new();
        // One record every 10 ms for 10 s, of which 5 a second are granted.
        let granted = (0..1_000).filter(|turn| allowance.take(Nanos::from_millis(5_000 + turn * 10), 5)).count();
        assert!((45..=55).contains(&granted), "{granted}");
    }
}
