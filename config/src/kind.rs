//! The plain kinds of values: strings, names, numbers, choices; and how a value of another kind is refused.
//!
//! A kind is a function from a TOML value to what it means, or to what is [`Wrong`] with it. [`Section`] finds the value
//! and puts its name before the sentence. Kinds with a syntax of their own have a file each.
//!
//! [`Section`]: crate::section::Section

use core::fmt::Display;
use core::ops::RangeInclusive;

use toml::de::DeValue;

use crate::nearest::{did_you_mean, quoted};

/// Longest name of anything: it has to fit a column of a terminal.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// Why a value is not of the kind that is wanted: a sentence without its subject, and advice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) code: &'static str,
    pub(crate) predicate: String,
    pub(crate) advice: String,
    /// The least and the largest number there can be, of a number outside.
    pub(crate) bounds: Option<(i64, i64)>,
    /// The words there are, of another word.
    pub(crate) words: Vec<&'static str>,
}

impl Wrong {
    pub(crate) fn new(code: &'static str, predicate: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { code, predicate: predicate.into(), advice: advice.into(), bounds: None, words: Vec::new() }
    }

    /// The value has another TOML type; `wanted` says which it should have, with an example.
    pub(crate) fn kind(value: &DeValue<'_>, wanted: &str) -> Self {
        Self::new("wrong-type", format!("is {}", type_words(value)), format!("write {wanted}"))
    }
}

/// The type of a value with its article.
pub(crate) fn type_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The string itself; `wanted` describes it, with an example, to who wrote something else.
pub(crate) fn string<'v>(value: &'v DeValue<'_>, wanted: &str) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::kind(value, wanted))
}

/// `true` or `false`.
pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| Wrong::kind(value, "true or false, without quotation marks"))
}

/// An integer of this range, in any of TOML's spellings.
pub(crate) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Wrong>
where
    T: Copy + Display + PartialOrd + TryFrom<i128>,
{
    move |value| {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = value.as_integer() else {
            return Err(Wrong::kind(value, &format!("{wanted}, without quotation marks")));
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Ok(number),
            _ => {
                let bound = |bound: &T| bound.to_string().parse().ok();
                let bounds = bound(range.start()).zip(bound(range.end()));
                let predicate = format!("is {integer}, out of bounds");
                Err(Wrong { bounds, ..Wrong::new("out-of-bounds", predicate, format!("write {wanted}")) })
            }
        }
    }
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, Wrong> {
    move |value| {
        let names = words.iter().map(|&(word, _)| word);
        let written = value.as_str().ok_or_else(|| {
            let quoted: Vec<_> = names.clone().map(quoted).collect();
            Wrong::kind(value, &format!("one of {}", quoted.join(", ")))
        })?;
        let known = words.iter().find(|&&(word, _)| word == written);
        known.map(|&(_, meaning)| meaning).ok_or_else(|| {
            let predicate = format!("{} is not one of its words", quoted(written));
            let words = names.clone().collect();
            Wrong { words, ..Wrong::new("unknown-word", predicate, did_you_mean(written, names, "they are")) }
        })
    }
}

/// A name: letters, digits, `-`, `_` and `.`, at most [`NAME_BYTES_MAX`] of them, the first a letter or digit.
pub(crate) fn name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let written = string(value, "a name such as \"web-1\"")?;
    if is_name(written) {
        return Ok(written.to_owned());
    }
    let rule = "a name is 1 to 63 letters, digits, '-', '_' or '.', the first a letter or digit";
    Err(Wrong::new("bad-name", format!("{} is not a name", quoted(written)), rule))
}

/// Whether `written` can name something.
pub(crate) fn is_name(written: &str) -> bool {
    written.len() <= NAME_BYTES_MAX
        && written.starts_with(|first: char| first.is_ascii_alphanumeric())
        && written.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    /// What `kind` makes of the TOML value `written`.
    fn read<T>(written: &str, kind: impl Fn(&DeValue<'_>) -> Result<T, Wrong>) -> Result<T, Wrong> {
        let text = format!("x = {written}");
        let table = DeTable::parse(&text).unwrap();
        kind(table.get_ref().get("x").unwrap().get_ref())
    }

    #[test]
    fn integers_are_read_in_every_spelling_and_kept_in_bounds() {
        let kind = || integer(68_u16..=9_600);
        assert_eq!(read("1_500", kind()), Ok(1500));
        assert_eq!(read("0x5dc", kind()), Ok(1500));
        for outside in ["67", "9601", "-1", "70000", "99999999999999999999999999999999999999999999"] {
            let wrong = read(outside, kind()).unwrap_err();
            assert_eq!((wrong.code, &*wrong.advice), ("out-of-bounds", "write a whole number from 68 to 9600"));
        }
        for other in ["\"1500\"", "1500.0", "true", "[1500]", "2026-01-01", "{}"] {
            assert_eq!(read(other, kind()).unwrap_err().code, "wrong-type", "{other}");
        }
    }

    #[test]
    fn choices_know_the_near_word() {
        let kind = || choice(&[("allow", 1), ("deny", 2)]);
        assert_eq!(read("'deny'", kind()), Ok(2));
        let wrong = read("'denny'", kind()).unwrap_err();
        assert_eq!((&*wrong.predicate, &*wrong.advice), ("\"denny\" is not one of its words", "did you mean `deny`?"));
        assert_eq!(read("1", kind()).unwrap_err().advice, "write one of \"allow\", \"deny\"");
    }

    #[test]
    fn names_are_words_a_command_line_can_hold() {
        for good in ["a", "web-1", "shop_6.eu", "0", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", ".", "@a", "a b", "ä", "a\n", &"x".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
