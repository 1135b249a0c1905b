//! Sizes of frames as testers count them: with the 4 bytes of the frame check sequence, which captures leave out.

use std::fmt;
use std::str::FromStr;

/// Bytes of the frame check sequence.
pub const FCS: u16 = 4;

/// The mix that testers call simple IMIX: of 12 frames 7 of 64 bytes, 4 of 594, 1 of 1,518, spread so that no two
/// large ones follow each other.
const IMIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 1_518, 64, 594, 64, 64, 594];

/// Smallest and largest frame of Ethernet.
const MIN: u16 = 64;
const MAX: u16 = 1_518;

/// How large frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// All alike.
    Bytes(u16),
    /// Simple IMIX.
    Imix,
}

impl Size {
    /// The size of the frame at this place in the traffic.
    #[must_use]
    pub fn of(self, place: u64) -> u16 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Imix => {
                let turn = usize::try_from(place % IMIX.len() as u64).unwrap_or_default();
                IMIX.get(turn).copied().unwrap_or(MIN)
            }
        }
    }

    /// The largest size.
    #[must_use]
    pub const fn largest(self) -> u16 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Imix => MAX,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Imix => f.write_str("IMIX"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word.eq_ignore_ascii_case("imix") {
            return Ok(Self::Imix);
        }
        let bytes = word.parse().ok().filter(|bytes| (MIN..=MAX).contains(bytes));
        bytes.map(Self::Bytes).ok_or_else(|| format!("write {MIN} to {MAX} bytes, or imix"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imix_is_seven_to_four_to_one() {
        let sizes: Vec<u16> = (0..1_200).map(|place| Size::Imix.of(place)).collect();
        let count = |wanted| sizes.iter().filter(|&&size| size == wanted).count();
        assert_eq!((count(64), count(594), count(1_518)), (700, 400, 100));
    }

    #[test]
    fn sizes_are_read_as_testers_write_them() {
        assert_eq!("64".parse(), Ok(Size::Bytes(64)));
        assert_eq!("1518".parse(), Ok(Size::Bytes(1_518)));
        assert_eq!("IMIX".parse(), Ok(Size::Imix));
        for bad in ["63", "1519", "", "64B", "-64"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
