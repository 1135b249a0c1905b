//! The Internet checksum, word by word (RFC 1071): slow, plain, and nobody's but the tests'.

/// The checksum of `bytes`: 0 over bytes that hold their own checksum.
#[must_use]
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !u16::try_from(sum).expect("folded after each word")
}
