//! Which keys the readers asked for, by table: the list of all keys, found by reading a file.

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static ASKED: RefCell<BTreeSet<(String, &'static str)>> = const { RefCell::new(BTreeSet::new()) };
}

/// Takes note of the keys of one table.
pub(crate) fn remember(header: &str, keys: &[&'static str]) {
    ASKED.with_borrow_mut(|asked| asked.extend(keys.iter().map(|&key| (header.to_owned(), key))));
}

/// All keys asked for on this thread since the last call.
pub(crate) fn take() -> BTreeSet<(String, &'static str)> {
    ASKED.take()
}
