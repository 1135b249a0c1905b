//! Spans of time as operators write them: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"1h30m"`.

use core::ops::RangeInclusive;

use toml::de::DeValue;
use units::Nanos;

use crate::kind::{Wrong, string};
use crate::nearest::quoted;

/// The units, largest first.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A span in this range.
pub(crate) fn duration(range: RangeInclusive<Nanos>) -> impl Fn(&DeValue<'_>) -> Result<Nanos, Wrong> {
    move |value| {
        if let Some(bare) = value.as_integer() {
            let advice = format!("write the unit with it: \"{bare}s\" or \"{bare}ms\"");
            return Err(Wrong::new("wrong-type", "is a number without a unit", advice));
        }
        let written = string(value, "a duration such as \"500ms\", \"30s\", \"5m\" or \"2h\"")?;
        let span = parse_duration(written).ok_or_else(|| {
            let advice = "write a number and a unit, such as \"500ms\", \"30s\", \"5m\", \"2h\" or \"1h30m\"";
            Wrong::new("bad-duration", format!("{} is not a duration", quoted(written)), advice)
        })?;
        if range.contains(&span) {
            return Ok(span);
        }
        let bounds = format!("write {} to {}", words(*range.start()), words(*range.end()));
        Err(Wrong::new("out-of-bounds", format!("{} is out of bounds", quoted(written)), bounds))
    }
}

/// One or more of number and unit, each unit smaller than the one before, as in a configuration; `None` for anything else,
/// or beyond 584 years.
#[must_use]
pub fn parse_duration(written: &str) -> Option<Nanos> {
    let mut rest = written;
    let mut total: u64 = 0;
    let mut largest = UNITS.as_slice();
    while !rest.is_empty() || largest.len() == UNITS.len() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at_checked(digits)?;
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(letters)?;
        let position = largest.iter().position(|&(name, _)| name == unit)?;
        let (_, nanos) = largest.get(position)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*nanos)?)?;
        largest = largest.get(position + 1..)?;
        rest = behind;
    }
    Some(Nanos::new(total))
}

/// The shortest exact spelling.
pub(crate) fn words(span: Nanos) -> String {
    let mut rest = span.get();
    let mut words = String::new();
    for (unit, nanos) in UNITS {
        if rest >= nanos {
            words.push_str(&format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    if words.is_empty() { "0s".to_owned() } else { words }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let seconds = |written| parse_duration(written).map(Nanos::as_millis);
        assert_eq!(seconds("500ms"), Some(500));
        assert_eq!(seconds("30s"), Some(30_000));
        assert_eq!(seconds("5m"), Some(300_000));
        assert_eq!(seconds("2h"), Some(7_200_000));
        assert_eq!(seconds("1h30m"), Some(5_400_000));
        assert_eq!(seconds("0s"), Some(0));
        for bad in
            ["", "30", "s", "30 s", "-1s", "1.5s", "30S", "1m1h", "1s1s", "1sx", "99999999999999999999s", "300000000h"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn words_read_back(nanos: u64) {
            prop_assert_eq!(parse_duration(&words(Nanos::new(nanos))), Some(Nanos::new(nanos)));
        }

        #[test]
        fn nothing_written_panics(written in "\\PC{0,12}") {
            let _ = parse_duration(&written);
        }
    }
}
