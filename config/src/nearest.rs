//! "Did you mean": the known word nearest to a written one, and how words of the operator are quoted.

/// The known word that `written` is most likely a slip of, if any is near: at most one slip in every three letters.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let length = written.chars().count();
    if length > 64 {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    known
        .into_iter()
        .filter(|word| !word.is_empty())
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_ascii_lowercase()), word))
        .filter(|&(slips, word)| slips <= (length.max(word.len()) / 3).max(1))
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, word)| word)
}

/// ``did you mean `word`?`` when one is near, else what the known words are.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str> + Clone, what: &str) -> String {
    if let Some(word) = nearest(written, known.clone()) {
        return format!("did you mean `{word}`?");
    }
    let words: Vec<_> = known.into_iter().collect();
    match words.len() {
        0 => String::new(),
        1..=24 => format!("{what}: {}", words.join(", ")),
        more => format!("{what}: {}, and {} more", words.get(..24).unwrap_or_default().join(", "), more - 24),
    }
}

/// What the operator wrote, in quotation marks, control characters escaped, cut at 60 characters.
pub(crate) fn quoted(written: &str) -> String {
    let mut shown: String = written.chars().take(60).flat_map(char::escape_debug).collect();
    if written.chars().nth(60).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_finds_the_word_and_nonsense_finds_none() {
        let known = ["address", "addresses", "mac", "mtu"];
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("adresses", known), Some("addresses"));
        assert_eq!(nearest("mut", known), Some("mtu"));
        assert_eq!(nearest("MTU", known), Some("mtu"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn without_a_near_word_the_known_ones_are_listed() {
        assert_eq!(did_you_mean("x-y-z", ["tcp", "udp"], "one of"), "one of: tcp, udp");
    }

    #[test]
    fn quoting_is_safe_on_a_terminal_and_short() {
        assert_eq!(quoted("a\u{1b}[2J\n"), "\"a\\u{1b}[2J\\n\"");
        assert!(quoted(&"x".repeat(1000)).len() < 70);
    }
}
