//! What a backend gets before its client's first byte ([`Introduction`](crate::introduction::Introduction)), and what follows from it
//! for numbers: those of the client's stream are that much further on the backend's side, from the moment it is sent.
//!
//! ```text
//! client:   SYN |                        first byte ...
//! backend:  SYN | first | header, len bytes | first byte ...
//! ```
//!
//! Until it is sent both ends count alike: what a client resets then, it resets with the backend's own numbers.

use wire::{SeqNumber, TcpFlags};

use crate::introduction::Introduction;

/// How far the backend has come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it was sent.
    Untold,
    /// It was sent, and so many of its bytes are acknowledged.
    Told(u16),
    /// All of it is acknowledged, and the client's own stream goes on behind it.
    Heard,
}

/// What goes before a client's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The number behind the client's SYN: of its own first byte as it counts, and of the header's as its backend does.
    pub first: SeqNumber,
    /// Bytes of the header; 0 where a client is introduced without one.
    pub len: u16,
    /// Bytes that each of the client's segments grows by until it is heard.
    pub longer: u16,
    /// How far it is.
    pub progress: Progress,
}

impl Lead {
    /// One of a connection that begins with the SYN `opener`, over this version of IP.
    #[must_use]
    pub const fn of(opener: SeqNumber, how: Introduction, v6: bool) -> Self {
        Self { first: opener.add(1), len: how.ahead(v6), longer: how.longer(v6), progress: Progress::Untold }
    }

    /// The largest packet a client may send where one of `mtu` bytes arrives.
    pub(super) fn room(&self, mtu: u32) -> u32 {
        if self.is_heard() { mtu } else { mtu.saturating_sub(self.longer.into()) }
    }

    /// Whether the backend has all of it.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.progress == Progress::Heard
    }

    /// What a number of the client's grows by on its way to the backend. Its SYN has the same on both sides, and a reset of a client
    /// that has said nothing has the one the backend expects (RFC 9293 section 3.10.7.4).
    pub(super) fn ahead_of(&self, sequence: SeqNumber, flags: TcpFlags) -> u32 {
        match self.progress {
            _ if flags.contains(TcpFlags::SYN) => 0,
            Progress::Untold => 0,
            Progress::Told(heard) if flags.contains(TcpFlags::RST) && sequence == self.first => heard.into(),
            Progress::Told(_) | Progress::Heard => self.len.into(),
        }
    }

    /// What the client is told of an acknowledgment of the backend's: its own bytes only. Beside it, how many of those before them are
    /// still to be taken in.
    pub(super) fn acknowledged(&self, acknowledgment: SeqNumber) -> (SeqNumber, u32) {
        let len = u32::from(self.len);
        let heard = acknowledgment.get().wrapping_sub(self.first.get());
        match self.progress {
            Progress::Untold => (acknowledgment, len),
            Progress::Told(_) if heard < len => (self.first, len - heard),
            // Something older than the handshake.
            Progress::Told(_) if heard > u32::MAX / 2 => (acknowledgment, len),
            Progress::Told(_) | Progress::Heard => (acknowledgment.add(len.wrapping_neg()), 0),
        }
    }

    /// The client's number of what the backend's side calls `sequence`: of the header, that of the client's first byte, which may have
    /// gone with it in one segment.
    pub(super) fn as_client_sent(&self, sequence: SeqNumber) -> SeqNumber {
        let len = u32::from(self.len);
        match sequence.get().wrapping_sub(self.first.get()) {
            _ if self.progress == Progress::Untold => sequence,
            u32::MAX => sequence,
            offset if offset < len => self.first,
            _ => sequence.add(len.wrapping_neg()),
        }
    }

    /// Takes in an acknowledgment of the backend's, which was found to be one of this connection: the part of the header that it
    /// confirms. True where it is all of it.
    #[must_use]
    pub fn confirm(&mut self, acknowledgment: SeqNumber) -> bool {
        let confirmed = acknowledgment.get().wrapping_sub(self.first.get());
        if let Progress::Told(before) = self.progress
            && confirmed <= u32::MAX / 2
        {
            self.progress = match u16::try_from(confirmed) {
                Ok(confirmed) if confirmed < self.len => Progress::Told(confirmed.max(before)),
                Ok(_) | Err(_) => Progress::Heard,
            };
        }
        self.is_heard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn number(value: u32) -> SeqNumber {
        SeqNumber::new(value)
    }

    fn told(heard: u16) -> Lead {
        Lead { progress: Progress::Told(heard), ..Lead::of(number(u32::MAX), Introduction::ProxyV2, false) }
    }

    #[test]
    fn both_ends_count_alike_until_it_is_sent() {
        let lead = Lead::of(number(1_000), Introduction::ProxyV2, false);
        assert_eq!(lead.ahead_of(number(1_001), TcpFlags::RST), 0);
        assert_eq!(lead.acknowledged(number(1_010)), (number(1_010), 28), "of an older connection, perhaps");
        assert_eq!(lead.as_client_sent(number(1_000)), number(1_000));
    }

    #[test]
    fn a_header_under_way_is_nobodys_but_the_appliances() {
        let lead = told(0);
        assert_eq!(lead.acknowledged(number(0)), (number(0), 28));
        assert_eq!(lead.acknowledged(number(10)), (number(0), 18));
        assert_eq!(lead.acknowledged(number(30)), (number(2), 0));
        assert_eq!(lead.ahead_of(number(0), TcpFlags::ACK), 28);
        assert_eq!(told(10).ahead_of(number(0), TcpFlags::RST), 10);
        assert_eq!(told(10).ahead_of(number(5), TcpFlags::RST), 28);
        assert_eq!(lead.ahead_of(number(u32::MAX), TcpFlags::SYN), 0);
        let quoted = [u32::MAX, 0, 27, 28, 33].map(|sequence| lead.as_client_sent(number(sequence)).get());
        assert_eq!(quoted, [u32::MAX, 0, 0, 0, 5]);
    }

    #[test]
    fn it_is_heard_once_and_only_when_it_was_told() {
        let mut lead = Lead::of(number(u32::MAX), Introduction::ProxyV2, false);
        assert!(!lead.confirm(number(28)), "it was never sent");
        lead.progress = Progress::Told(0);
        assert!(!lead.confirm(number(10)));
        assert!(!lead.confirm(number(4)) && lead.progress == Progress::Told(10));
        assert!(!lead.confirm(number(u32::MAX)), "of something older");
        assert!(lead.confirm(number(28)) && lead.confirm(number(28)));
        assert_eq!(lead.acknowledged(number(28)), (number(0), 0));
    }
}
