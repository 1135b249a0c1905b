//! A range of transport ports, both ends included.

use core::fmt;

/// Ports `first` to `last`, both included; `first <= last` is kept by the constructor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self { first: 0, last: u16::MAX };

    /// The range from `first` to `last`, or `None` when they are in the wrong order.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// A single port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` lies in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether the two ranges share a port.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The ports that are in both ranges, or `None` where there are none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_know_their_ends_and_overlaps() {
        let range = PortRange::new(8000, 8100).unwrap();
        assert!(range.contains(8000) && range.contains(8100) && !range.contains(8101));
        assert!(range.overlaps(PortRange::single(8100)) && !range.overlaps(PortRange::single(80)));
        assert_eq!(range.intersection(PortRange::ANY), Some(range));
        assert_eq!(range.intersection(PortRange::new(8100, 9000).unwrap()), Some(PortRange::single(8100)));
        assert_eq!(range.intersection(PortRange::single(80)), None);
        assert_eq!(PortRange::new(2, 1), None);
        assert_eq!((range.to_string(), PortRange::single(53).to_string()), ("8000-8100".into(), "53".into()));
    }
}
