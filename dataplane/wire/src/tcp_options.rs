//! The TCP options of a handshake and of timestamps (RFC 9293 section 3.2, RFC 7323, RFC 2018): read from a segment, and
//! written into one that the appliance makes. Called by workers where they answer a SYN themselves or join two
//! connections; [`dissect`](crate::dissect) has seen before that the options are well-formed.

use crate::Facts;
use crate::tcp::{TcpHeader, WINDOW_SCALE_MAX};

/// The most bytes of options a header has room for.
pub const OPTIONS_MAX: usize = 40;

/// What a segment says in its options; those that are not here do not matter to anyone in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Largest segment its sender takes, bytes; in a SYN only.
    pub segment_size: Option<u16>,
    /// Window scale, at most 14; in a SYN only.
    pub window_scale: Option<u8>,
    /// Selective acknowledgments are welcome; in a SYN only.
    pub sack_permitted: bool,
    /// The sender's clock and the last one it has heard.
    pub timestamps: Option<Timestamps>,
}

/// The timestamps option (RFC 7323 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub value: u32,
    /// The other end's clock, given back.
    pub echo: u32,
}

/// One option in its place among the bytes of a header's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    kind: u8,
    /// Where its data begin, behind kind and length.
    data: usize,
    /// Bytes of its data.
    len: usize,
}

const NO_OPERATION: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Walks the options; ends at the first that is not well-formed. At most one step a byte.
fn places(options: &[u8]) -> impl Iterator<Item = Place> {
    let mut at = 0;
    core::iter::from_fn(move || {
        loop {
            match *options.get(at)? {
                0 => return None,
                NO_OPERATION => at += 1,
                kind => {
                    let len = usize::from(*options.get(at + 1)?);
                    let data = at + 2;
                    at += len;
                    return (len >= 2 && at <= options.len()).then(|| Place { kind, data, len: len - 2 });
                }
            }
        }
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Adds to a 32-bit number in place, modulo 2^32; nothing happens where there is none.
pub fn add_in_place(bytes: &mut [u8], at: usize, amount: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *place = u32::from_be_bytes(*place).wrapping_add(amount).to_be_bytes();
    }
}

impl TcpOptions {
    /// Reads the bytes of a header's options. Of a repeated option the last counts.
    #[must_use]
    pub fn read(options: &[u8]) -> Self {
        let mut read = Self::default();
        for place in places(options) {
            let data = options.get(place.data..place.data + place.len).unwrap_or_default();
            match (place.kind, data) {
                (SEGMENT_SIZE, &[high, low]) => read.segment_size = Some(u16::from_be_bytes([high, low])),
                (WINDOW_SCALE, &[scale]) => read.window_scale = Some(scale.min(WINDOW_SCALE_MAX)),
                (SACK_PERMITTED, &[]) => read.sack_permitted = true,
                (TIMESTAMPS, data) if data.len() == 8 => {
                    read.timestamps = word(data, 0).zip(word(data, 4)).map(|(value, echo)| Timestamps { value, echo });
                }
                _ => {}
            }
        }
        read
    }

    /// Reads the options of the segment in `frame`, which `facts` describe.
    #[must_use]
    pub fn of(frame: &[u8], facts: &Facts) -> Self {
        let segment = frame.get(usize::from(facts.transport_offset)..usize::from(facts.end));
        let split = segment.and_then(|segment| TcpHeader::split(segment).ok());
        split.map_or_else(Self::default, |(_, options, _)| Self::read(options))
    }

    /// Writes them in the order Linux does, in whole words; returns the bytes used.
    pub fn write(&self, out: &mut [u8; OPTIONS_MAX]) -> usize {
        let mut end = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = out.get_mut(end..end + bytes.len()) {
                place.copy_from_slice(bytes);
                end += bytes.len();
            }
        };
        if let Some(size) = self.segment_size {
            let [high, low] = size.to_be_bytes();
            put(&[SEGMENT_SIZE, 4, high, low]);
        }
        match self.timestamps {
            Some(Timestamps { value, echo }) => {
                put(if self.sack_permitted { &[SACK_PERMITTED, 2] } else { &[1, 1] });
                put(&[TIMESTAMPS, 10]);
                put(&value.to_be_bytes());
                put(&echo.to_be_bytes());
            }
            None if self.sack_permitted => put(&[1, 1, SACK_PERMITTED, 2]),
            None => {}
        }
        if let Some(scale) = self.window_scale {
            put(&[1, WINDOW_SCALE, 3, scale]);
        }
        end
    }
}

/// Puts no-operations (RFC 9293 section 3.2) in the place of every option of this number. `options` are the bytes of a header's options;
/// the checksum is the caller's.
pub fn blank(options: &mut [u8], number: u8) {
    // Each walk finds the next: nothing is kept while bytes change, and there are ever fewer.
    for _ in 0..OPTIONS_MAX / 2 {
        let Some(place) = places(options).find(|place| place.kind == number) else { return };
        if let Some(option) = options.get_mut(place.data - 2..place.data + place.len) {
            option.fill(NO_OPERATION);
        }
    }
}

/// Adds `edges` to both edges of every selectively acknowledged block (RFC 2018 section 3), and `value` and `echo` to the
/// timestamps. `options` are the bytes of a header's options; the checksum is the caller's.
pub fn shift_options(options: &mut [u8], edges: u32, value: u32, echo: u32) {
    // As many as there can be; each walk finds the next, so that nothing is kept while bytes change.
    for number in 0..OPTIONS_MAX / 2 {
        let Some(place) = places(options).nth(number) else { return };
        match place.kind {
            SACK => {
                for at in (place.data..place.data + place.len / 4 * 4).step_by(4) {
                    add_in_place(options, at, edges);
                }
            }
            TIMESTAMPS if place.len == 8 => {
                add_in_place(options, place.data, value);
                add_in_place(options, place.data + 4, echo);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINUX: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7];

    #[test]
    fn the_options_of_a_common_syn_are_read_and_written_alike() {
        let options = TcpOptions {
            segment_size: Some(1_460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 7, echo: 9 }),
        };
        assert_eq!(TcpOptions::read(&LINUX), options);
        let mut out = [0; OPTIONS_MAX];
        assert_eq!((options.write(&mut out), &out[..20]), (20, &LINUX[..]));
    }

    #[test]
    fn every_set_of_options_fills_whole_words_and_reads_back() {
        for bits in 0..16 {
            let has = |bit: i32| bits & 1 << bit != 0;
            let options = TcpOptions {
                segment_size: has(0).then_some(536),
                window_scale: has(1).then_some(14),
                sack_permitted: has(2),
                timestamps: has(3).then_some(Timestamps { value: u32::MAX, echo: 0 }),
            };
            let mut out = [0; OPTIONS_MAX];
            let len = options.write(&mut out);
            assert_eq!((len % 4, TcpOptions::read(&out[..len])), (0, options));
        }
    }

    #[test]
    fn blocks_and_timestamps_are_shifted_wherever_they_stand() {
        // An odd place: nothing says that options are aligned.
        let mut options = vec![1, 5, 10, 0, 0, 0, 100, 0, 0, 0, 200, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0];
        shift_options(&mut options, 10, 1, u32::MAX);
        assert_eq!(options, [1, 5, 10, 0, 0, 0, 110, 0, 0, 0, 210, 8, 10, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 0]);
    }

    #[test]
    fn every_option_of_a_number_is_blanked_up_to_the_end_of_the_list() {
        let mut options = [254, 2, 254, 4, 9, 9, 5, 10, 0, 254, 2, 0, 0, 0, 0, 1, 1, 254, 3, 7, 0, 254, 2];
        blank(&mut options, 254);
        assert_eq!(options, [1, 1, 1, 1, 1, 1, 5, 10, 0, 254, 2, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 254, 2]);
    }

    proptest! {
        /// Whatever the bytes: nothing panics, and shifting there and back leaves them as they were.
        #[test]
        fn shifting_back_undoes_shifting(bytes in prop::collection::vec(any::<u8>(), 0..41), edges: u32, value: u32, echo: u32) {
            let mut shifted = bytes.clone();
            let _ = TcpOptions::read(&shifted);
            shift_options(&mut shifted, edges, value, echo);
            shift_options(&mut shifted, edges.wrapping_neg(), value.wrapping_neg(), echo.wrapping_neg());
            prop_assert_eq!(shifted, bytes);
        }
    }
}
