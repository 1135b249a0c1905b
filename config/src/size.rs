//! Amounts of memory as operators write them: `"512MiB"`, `"1GiB"`, `"2MB"`.

use core::ops::RangeInclusive;

use toml::de::DeValue;

use crate::kind::{Wrong, string};
use crate::nearest::quoted;

/// The units: powers of 1,024 with an `i`, powers of 1,000 without.
const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// An amount of bytes in this range.
pub(crate) fn size(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, Wrong> {
    move |value| {
        if let Some(bare) = value.as_integer() {
            let advice = format!("write the unit with it: \"{bare}MiB\" or \"{bare}B\"");
            return Err(Wrong::new("wrong-type", "is a number without a unit", advice));
        }
        let written = string(value, "a size such as \"512MiB\" or \"2GiB\"")?;
        let bytes = parse(written).ok_or_else(|| {
            let advice = "write a whole number and a unit, such as \"512MiB\", \"2GiB\" or \"2MB\"";
            Wrong::new("bad-size", format!("{} is not a size", quoted(written)), advice)
        })?;
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        let bounds = format!("write {} to {}", words(*range.start()), words(*range.end()));
        Err(Wrong::new("out-of-bounds", format!("{} is out of bounds", quoted(written)), bounds))
    }
}

/// A number and a unit, with or without a blank between; `None` for anything else.
#[must_use]
pub fn parse(written: &str) -> Option<u64> {
    let digits = written.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = written.split_at_checked(digits)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let &(_, bytes) = UNITS.iter().find(|&&(name, _)| name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(bytes)
}

/// The amount in the largest binary unit that divides it; rounded up to a MiB above that size when none does.
pub(crate) fn words(bytes: u64) -> String {
    let exact = UNITS.iter().take(4).find(|&&(_, unit)| bytes >= unit && bytes.is_multiple_of(unit));
    match exact {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None if bytes > 1 << 20 => format!("{}MiB", bytes.div_ceil(1 << 20)),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_numbers_with_units() {
        assert_eq!(parse("512MiB"), Some(512 << 20));
        assert_eq!(parse("6GiB"), Some(6 << 30));
        assert_eq!(parse("2MB"), Some(2_000_000));
        assert_eq!(parse("1 kB"), Some(1_000));
        assert_eq!(parse("0B"), Some(0));
        for bad in ["", "5", "GiB", "1.5GiB", "-1B", "5  B", "5mib", "99999999TiB", "5MiB "] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn amounts_are_said_in_the_largest_unit() {
        assert_eq!(words(1 << 30), "1GiB");
        assert_eq!(words(1536 << 20), "1536MiB");
        assert_eq!(words((40 << 20) + 1), "41MiB");
        assert_eq!(words(100), "100B");
    }

    proptest! {
        #[test]
        fn nothing_written_panics(written in "\\PC{0,12}") {
            let _ = parse(&written);
        }
    }
}
