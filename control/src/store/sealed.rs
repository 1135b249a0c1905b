//! Values that show when they are not what was written: each is stored behind a sum over its key and its bytes. The
//! database checks its pages only after a crash; this holds for every read.

/// The FNV-1a hash of 64 bits. Each step can be undone, so a change of one byte always changes the sum; it is no protection
/// from whoever changes bytes on purpose.
fn sum(parts: [&[u8]; 2]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = parts.into_iter().flatten();
    bytes.fold(OFFSET, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// `bytes` as they are stored under `key`.
pub(crate) fn seal(key: u64, bytes: &[u8]) -> Vec<u8> {
    let sum = sum([&key.to_be_bytes(), bytes]).to_be_bytes();
    [&sum, bytes].concat()
}

/// What was sealed under `key`; `None` when it is not what was written.
pub(crate) fn unseal(key: u64, stored: &[u8]) -> Option<&[u8]> {
    let (written, bytes) = stored.split_first_chunk()?;
    (u64::from_be_bytes(*written) == sum([&key.to_be_bytes(), bytes])).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_changed_or_cut_is_noticed() {
        let text = b"[appliance]\nname = \"edge-1\"\n";
        let stored = seal(7, text);
        assert_eq!(unseal(7, &stored), Some(&text[..]));
        assert_eq!(unseal(8, &stored), None, "the text of another");
        for position in 0..stored.len() {
            assert_eq!(unseal(7, &stored[..position]), None);
            for bit in 0..8 {
                let mut flipped = stored.clone();
                flipped[position] ^= 1 << bit;
                assert_eq!(unseal(7, &flipped), None);
            }
        }
    }
}
