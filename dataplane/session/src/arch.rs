//! What a CPU does better than portable code: AES rounds, comparing sixteen tags at once, prefetching. One of the two
//! files of this crate with unsafe code. Each function has a portable twin for other CPUs, and is total: no input and no
//! CPU makes it undefined.
#![allow(
    unsafe_code,
    reason = "CPU instructions behind safe functions: features are proved at construction, loads stay in arrays"
)]

/// Asks for the line at `place` to be brought into the first cache, if there is memory. Does nothing where there is no such
/// instruction.
#[inline(always)]
pub(crate) fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Sixteen words on one cache line: a bucket of the index.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; 16]);

impl Line {
    /// A bit for each word that equals `wanted` under `mask`, the first word's lowest.
    #[inline(always)]
    pub(crate) fn matching(&self, wanted: u32, mask: u32) -> u32 {
        #[cfg(target_arch = "x86_64")]
        return self.matching_sse2(wanted, mask);
        #[cfg(not(target_arch = "x86_64"))]
        return self.matching_portable(wanted, mask);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn matching_sse2(&self, wanted: u32, mask: u32) -> u32 {
        use core::arch::x86_64::{
            __m128i, _mm_and_si128, _mm_cmpeq_epi32, _mm_load_si128, _mm_movemask_epi8, _mm_packs_epi16,
            _mm_packs_epi32, _mm_set1_epi32,
        };
        let lanes = self.0.as_ptr().cast::<__m128i>();
        // SAFETY: the line is 64 bytes, aligned to 64: four aligned loads of 16 lie within it. SSE2 is part of x86-64.
        let equal = unsafe {
            let (wanted, mask) = (_mm_set1_epi32(wanted.cast_signed()), _mm_set1_epi32(mask.cast_signed()));
            let lane = |i| _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(lanes.add(i)), mask), wanted);
            let low = _mm_packs_epi32(lane(0), lane(1));
            let high = _mm_packs_epi32(lane(2), lane(3));
            _mm_movemask_epi8(_mm_packs_epi16(low, high))
        };
        equal.cast_unsigned()
    }

    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn matching_portable(&self, wanted: u32, mask: u32) -> u32 {
        self.0.iter().enumerate().fold(0, |found, (i, word)| found | u32::from(word & mask == wanted) << i)
    }
}

/// Round keys for the AES hash; a value exists only on a CPU that has the instructions.
#[derive(Clone)]
pub(crate) struct AesKeys {
    #[cfg(target_arch = "x86_64")]
    blocks: [[core::arch::x86_64::__m128i; 4]; 3],
    #[cfg(not(target_arch = "x86_64"))]
    never: core::convert::Infallible,
}

impl core::fmt::Debug for AesKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("AesKeys")
    }
}

#[cfg(target_arch = "x86_64")]
impl AesKeys {
    /// Keys from 24 random words, or `None` on a CPU without AES.
    pub(crate) fn new(words: &[u64; 24]) -> Option<Self> {
        use core::arch::x86_64::_mm_set_epi64x;
        if !std::arch::is_x86_feature_detected!("aes") {
            return None;
        }
        let mut words = words.iter().map(|word| word.cast_signed());
        let mut next = || words.next().unwrap_or_default();
        // SAFETY: SSE2 is part of x86-64.
        let mut key = || unsafe { _mm_set_epi64x(next(), next()) };
        Some(Self { blocks: core::array::from_fn(|_| core::array::from_fn(|_| key())) })
    }

    /// The hash of one block or of three; 0 of any other number. Blocks come in registers: bytes that were just written
    /// piece by piece could not be loaded whole without a wait.
    #[inline(always)]
    pub(crate) fn hash(&self, blocks: &[u128]) -> u64 {
        match *blocks {
            // SAFETY: `self` exists, so `new` found AES on this CPU.
            [only] => unsafe { self.one(only) },
            // SAFETY: as above.
            [first, second, third] => unsafe { self.three(first, second, third) },
            _ => 0,
        }
    }

    /// # Safety
    /// The CPU has AES.
    #[target_feature(enable = "aes")]
    #[inline]
    unsafe fn one(&self, block: u128) -> u64 {
        use core::arch::x86_64::_mm_cvtsi128_si64;
        let [keys, ..] = &self.blocks;
        _mm_cvtsi128_si64(three_rounds(block, keys)).cast_unsigned()
    }

    /// # Safety
    /// The CPU has AES.
    #[target_feature(enable = "aes")]
    #[inline]
    unsafe fn three(&self, first: u128, second: u128, third: u128) -> u64 {
        use core::arch::x86_64::{_mm_aesenc_si128, _mm_cvtsi128_si64, _mm_xor_si128};
        let [keys_first, keys_second, keys_third] = &self.blocks;
        let joined = _mm_xor_si128(three_rounds(first, keys_first), three_rounds(second, keys_second));
        let joined = _mm_xor_si128(joined, three_rounds(third, keys_third));
        let [key0, key1, ..] = *keys_first;
        _mm_cvtsi128_si64(_mm_aesenc_si128(_mm_aesenc_si128(joined, key0), key1)).cast_unsigned()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "aes")]
#[inline]
fn three_rounds(block: u128, keys: &[core::arch::x86_64::__m128i; 4]) -> core::arch::x86_64::__m128i {
    use core::arch::x86_64::{_mm_aesenc_si128, _mm_set_epi64x, _mm_xor_si128};
    let [key0, key1, key2, key3] = *keys;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
    let (low, high) = (block as u64, (block >> 64) as u64);
    let value = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
    let value = _mm_aesenc_si128(_mm_xor_si128(value, key0), key1);
    _mm_aesenc_si128(_mm_aesenc_si128(value, key2), key3)
}

#[cfg(not(target_arch = "x86_64"))]
impl AesKeys {
    /// `None`: the portable hash is used here.
    pub(crate) const fn new(_: &[u64; 24]) -> Option<Self> {
        None
    }

    /// Never called: there are no keys.
    pub(crate) const fn hash(&self, _: &[u128]) -> u64 {
        match self.never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sixteen_at_once_find_what_one_by_one_finds(words: [u32; 16], pick in 0..16_usize, shift in 0..32_u32) {
            let line = Line(words.map(|word| word & 0x0fff_ffff));
            let mask = u32::MAX << shift;
            let wanted = line.0[pick] & mask;
            prop_assert_eq!(line.matching(wanted, mask), line.matching_portable(wanted, mask));
            prop_assert!(line.matching(wanted, mask) >> pick & 1 == 1);
        }
    }
}
