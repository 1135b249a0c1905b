//! The control bits of TCP, and which sets of them a segment may carry. Pure values; who judges them against a session's
//! state is `session`.

use core::fmt;
use core::ops::{BitAnd, BitOr};

/// The eight control bits of a segment (RFC 9293 section 3.1, RFC 3168), as they lie in the header's fourteenth byte.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No bit at all.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field is meaningful.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is meaningful.
    pub const URG: Self = Self(0x20);
    /// Explicit congestion notification echo.
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced.
    pub const CWR: Self = Self(0x80);

    /// The set with these bits, as on the wire.
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits, as on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every bit of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set here.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a segment may carry this set. PSH, URG, ECE and CWR are free; of the other four exactly these are legal:
    ///
    /// | SYN | RST | ACK | FIN | what it is |
    /// |---|---|---|---|---|
    /// | x |   |   |   | opens |
    /// | x |   | x |   | answers the opening |
    /// |   | x |   |   | refuses |
    /// |   | x | x |   | refuses, or breaks off |
    /// |   |   | x |   | everything in between |
    /// |   |   | x | x | ends one direction |
    ///
    /// So 96 of the 256 sets are legal. What falls: none at all ("null"), FIN without ACK (also with PSH and URG:
    /// "xmas"), any other set without SYN, RST or ACK (RFC 9293 section 3.10.7.4 drops those), SYN with FIN, SYN with
    /// RST, FIN with RST.
    #[must_use]
    pub const fn is_legal(self) -> bool {
        const DECISIVE: u8 = TcpFlags::SYN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0 | TcpFlags::FIN.0;
        const LEGAL: u32 = (1 << TcpFlags::SYN.0)
            | (1 << (TcpFlags::SYN.0 | TcpFlags::ACK.0))
            | (1 << TcpFlags::RST.0)
            | (1 << (TcpFlags::RST.0 | TcpFlags::ACK.0))
            | (1 << TcpFlags::ACK.0)
            | (1 << (TcpFlags::ACK.0 | TcpFlags::FIN.0));
        (LEGAL >> (self.0 & DECISIVE)) & 1 != 0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for TcpFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for TcpFlags {
    /// `SYN|ACK`; a dash when there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (bit, name) in ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"].into_iter().enumerate() {
            if (self.0 >> bit) & 1 != 0 {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        if self.0 == 0 { f.write_str("-") } else { Ok(()) }
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MAL-09, the parser's part: every one of the 256 sets against the rules as sentences.
    #[test]
    fn ninety_six_of_the_256_sets_are_legal() {
        let mut legal = 0;
        for bits in 0..=u8::MAX {
            let flags = TcpFlags::new(bits);
            let [syn, rst, ack, fin] =
                [TcpFlags::SYN, TcpFlags::RST, TcpFlags::ACK, TcpFlags::FIN].map(|f| flags.contains(f));
            let expected = (syn || rst || ack) && !(syn && fin) && !(syn && rst) && !(fin && rst) && (ack || !fin);
            assert_eq!(flags.is_legal(), expected, "{flags}");
            legal += u32::from(expected);
        }
        assert_eq!(legal, 96);
    }

    #[test]
    fn sets_are_asked_for_all_or_for_any() {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        assert!(flags.contains(TcpFlags::SYN) && flags.contains(TcpFlags::SYN | TcpFlags::ACK));
        assert!(!flags.contains(TcpFlags::SYN | TcpFlags::RST) && flags.intersects(TcpFlags::SYN | TcpFlags::RST));
        assert_eq!(flags & TcpFlags::SYN, TcpFlags::SYN);
        assert_eq!(flags.to_string(), "SYN|ACK");
        assert_eq!(TcpFlags::NONE.to_string(), "-");
    }
}
