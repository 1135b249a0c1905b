//! Numbers and bytes as cases write them.

use super::Family;
use super::stations::{address, mac};

/// A number: decimal, with underscores where they help, or hexadecimal behind `0x`.
pub(super) fn number<T: TryFrom<u64>>(word: &str) -> Result<T, String> {
    let plain = word.replace('_', "");
    let value = match plain.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => plain.parse(),
    };
    value.ok().and_then(|value| T::try_from(value).ok()).ok_or_else(|| format!("`{word}` is no number that fits here"))
}

/// Bytes, in parts between commas: hexadecimal digits; `@name` a station's address; `%name` its MAC; `N*XX` a byte so many
/// times; `type` and `proto` what Ethernet and IP call the case's family.
pub(super) fn bytes(word: &str, family: Family) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for part in word.split(',').filter(|part| !part.is_empty()) {
        if let Some(name) = part.strip_prefix('@') {
            match address(name, family)? {
                std::net::IpAddr::V4(v4) => all.extend(v4.octets()),
                std::net::IpAddr::V6(v6) => all.extend(v6.octets()),
            }
        } else if let Some(name) = part.strip_prefix('%') {
            all.extend(mac(name, family)?.octets());
        } else if let Some((count, byte)) = part.split_once('*') {
            let byte = hexadecimal(byte)?;
            all.extend(byte.repeat(number::<usize>(count)?));
        } else {
            match (part, family) {
                ("type", Family::V4) => all.extend([0x08, 0x00]),
                ("type", Family::V6) => all.extend([0x86, 0xdd]),
                ("proto", Family::V4) => all.push(4),
                ("proto", Family::V6) => all.push(41),
                _ => all.extend(hexadecimal(part)?),
            }
        }
    }
    Ok(all)
}

fn hexadecimal(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("`{digits}` is not a row of hexadecimal bytes");
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(wrong());
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())).collect()
}
