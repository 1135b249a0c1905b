//! From byte offsets to the lines and columns an editor shows.
//!
//! Columns count characters. Both steps are bounded, so that a thousand faults in one very long line stay cheap.

use crate::error::Place;

/// Bytes between two remembered character counts: the most that one look-up walks twice.
const BLOCK: usize = 4_096;

/// Where the lines of a text begin.
#[derive(Debug)]
pub(crate) struct Lines<'t> {
    bytes: &'t [u8],
    starts: Vec<usize>,
    characters: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let ends = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at + 1);
        let starts = core::iter::once(0).chain(ends).collect();
        let characters = bytes
            .chunks(BLOCK)
            .scan(0, |before, block| {
                let here = *before;
                *before += count(block);
                Some(here)
            })
            .collect();
        Self { bytes, starts, characters }
    }

    /// The line and column of the character at byte `offset`; past the end, of the place behind the last one.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.bytes.len());
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        Place { line, column: self.before(offset) - self.before(start) + 1 }
    }

    /// Characters before byte `offset`.
    fn before(&self, offset: usize) -> usize {
        let block = offset / BLOCK;
        match self.characters.get(block) {
            Some(before) => before + self.bytes.get(block * BLOCK..offset).map_or(0, count),
            // Only when the text ends with a full block, or is empty, is there none.
            None => {
                let last = self.characters.len().saturating_sub(1);
                let before = self.characters.get(last).copied().unwrap_or(0);
                before + self.bytes.get(last * BLOCK..).map_or(0, count)
            }
        }
    }
}

/// Characters that begin in these bytes of UTF-8.
fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte & 0b1100_0000 != 0b1000_0000).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_agree_with_counting_by_hand(text in "(a|é|漢|\n){0,40}", repeat in 1_usize..400) {
            let text = text.repeat(repeat);
            let lines = Lines::new(&text);
            for (offset, _) in text.char_indices().chain([(text.len(), 'x')]).step_by(97) {
                let before = &text[..offset];
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
                prop_assert_eq!(lines.place(offset), Place { line, column });
            }
        }
    }

    #[test]
    fn an_empty_text_has_one_place() {
        assert_eq!(Lines::new("").place(0), Place { line: 1, column: 1 });
        assert_eq!(Lines::new("").place(7), Place { line: 1, column: 1 });
    }

    #[test]
    fn a_text_of_exactly_one_block_ends_where_it_ends() {
        let text = "x".repeat(BLOCK);
        assert_eq!(Lines::new(&text).place(BLOCK), Place { line: 1, column: BLOCK + 1 });
    }
}
