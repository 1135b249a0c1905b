//! What the generator writes at the beginning of a payload, to know its packets again: which trial, which packet of its
//! side, and when it was made. Sender and receiver are one machine, so the time is the time stamp counter itself.

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Says that a payload is ours: "MR".
const MAGIC: u16 = 0x4d52;

/// A stamp. Shape: 16 bytes in network order, as they lie in the payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Stamp {
    magic: U16,
    trial: U16,
    sequence: U32,
    cycles: U64,
}

const _: () = assert!(size_of::<Stamp>() == Stamp::LEN);

impl Stamp {
    /// Bytes of a stamp, the least payload of a packet that carries one.
    pub const LEN: usize = 16;

    /// The stamp of the packet numbered `sequence` of `trial`, made when the counter stood at `cycles`.
    #[must_use]
    pub const fn new(trial: u16, sequence: u32, cycles: u64) -> Self {
        Self { magic: U16::new(MAGIC), trial: U16::new(trial), sequence: U32::new(sequence), cycles: U64::new(cycles) }
    }

    /// The stamp at the beginning of `payload`, if there is one.
    #[inline]
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<&Self> {
        let (stamp, _) = Self::ref_from_prefix(payload).ok()?;
        (stamp.magic.get() == MAGIC).then_some(stamp)
    }

    /// Its words, for a checksum.
    #[inline]
    #[must_use]
    pub fn words(&self) -> [u32; 4] {
        let (cycles, head) = (self.cycles.get(), u32::from(MAGIC) << 16 | u32::from(self.trial.get()));
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
        [head, self.sequence.get(), half(cycles >> 32), half(cycles)]
    }

    /// The trial it was sent in.
    #[must_use]
    pub const fn trial(&self) -> u16 {
        self.trial.get()
    }

    /// Its number among the packets of its side.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.sequence.get()
    }

    /// The counter when it was made.
    #[must_use]
    pub const fn cycles(&self) -> u64 {
        self.cycles.get()
    }
}
