//! `[redirection]`: the program that has others direct packets of `external` services here, and no longer. Only where it is: it
//! is looked at when it is run.

use units::Nanos;

use crate::duration::duration;
use crate::path::file;
use crate::policy::Redirection;
use crate::section::Section;

/// Longest time the program may take.
const TIMEOUT_MAX: Nanos = Nanos::from_secs(60);

/// Reads `[redirection]`; without it others are told by hand.
pub(crate) fn redirection(root: &mut Section<'_>) -> Option<Redirection> {
    let mut section = root.table("redirection")?;
    let hook = section.required("hook", file, "name the program: hook = \"/etc/millrace/redirect\"");
    let timeout = section.or("timeout", duration(Nanos::from_millis(100)..=TIMEOUT_MAX), Redirection::TIMEOUT);
    section.finish();
    Some(Redirection { hook: hook?.value, timeout })
}
