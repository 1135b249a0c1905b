//! First packets: one 60-byte frame from each client, in random order, from the source blocks that the rules speak of.

use std::net::Ipv4Addr;

use wire::checksum;

/// A frame without its check sequence.
pub(crate) type Frame = [u8; 60];

/// Clients come from 100.64.0.0/10: 22 bits.
pub(crate) const CLIENTS: u32 = Ipv4Addr::new(100, 64, 0, 0).to_bits();
pub(crate) const CLIENT_BITS: u32 = 22;

const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe];

/// How a session opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Datagram,
    Syn,
}

impl Opening {
    pub(crate) const ALL: [Self; 2] = [Self::Datagram, Self::Syn];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Datagram => "udp",
            Self::Syn => "syn",
        }
    }
}

/// The dice of the benchmark: the same traffic every time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(((self.0 >> 32) * u64::from(bound)) >> 32).unwrap()
    }
}

/// The first packets of `count` sessions whose sources lie in the first quarter of one of `blocks` equal blocks.
pub(crate) fn openings(opening: Opening, count: u32, blocks: u32) -> Vec<Frame> {
    let block_bits = CLIENT_BITS - blocks.next_power_of_two().trailing_zeros();
    let mut dice = Dice::new();
    let mut seen = std::collections::HashSet::new();
    let mut frames = Vec::with_capacity(count as usize);
    while frames.len() < count as usize {
        let host = dice.below(1 << (block_bits - 2));
        let source = CLIENTS | dice.below(blocks) << block_bits | host;
        let port = u16::try_from(1_024 + dice.below(60_000)).unwrap();
        if seen.insert((source, port)) {
            frames.push(frame(opening, Ipv4Addr::from_bits(source), port));
        }
    }
    frames
}

fn frame(opening: Opening, source: Ipv4Addr, port: u16) -> Frame {
    let (protocol, mut segment) = match opening {
        Opening::Datagram => (17, vec![0; 26]),
        Opening::Syn => (6, vec![0; 20]),
    };
    let len = u16::try_from(segment.len()).unwrap();
    segment[..2].copy_from_slice(&port.to_be_bytes());
    segment[2..4].copy_from_slice(&53_u16.to_be_bytes());
    let sum_at = match opening {
        Opening::Datagram => {
            segment[4..6].copy_from_slice(&len.to_be_bytes());
            6
        }
        Opening::Syn => {
            segment[4..8].copy_from_slice(&source.octets());
            segment[12..16].copy_from_slice(&[0x50, 0x02, 0x72, 0x10]);
            16
        }
    };
    let pseudo = checksum::pseudo_v4(source, SERVICE, protocol, len);
    let sum = checksum::or_ones(checksum::finish(pseudo + checksum::sum(&segment)));
    segment[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut header = vec![0x45, 0];
    header.extend((20 + len).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    header.extend(source.octets().into_iter().chain(SERVICE.octets()));
    let sum = checksum::plain(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [0; 60];
    let bytes = [&MACS[..], &[8, 0], &header, &segment].concat();
    frame[..bytes.len()].copy_from_slice(&bytes);
    frame
}
