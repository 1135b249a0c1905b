//! Paths of files that the appliance reads: from the root, for it may run elsewhere than whoever wrote the configuration.

use std::path::PathBuf;

use toml::de::DeValue;

use crate::kind::{Wrong, string};
use crate::nearest::quoted;

/// Longest path (limits.h: `PATH_MAX`), less its final zero.
const PATH_BYTES_MAX: usize = 4_095;

/// The path of a file, from the root.
pub(crate) fn file(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let example = "write a path from the root such as \"/etc/millrace/blocked.txt\"";
    let written = string(value, "a path such as \"/etc/millrace/blocked.txt\"")?;
    if written.len() > PATH_BYTES_MAX || written.contains('\0') {
        return Err(Wrong::new("bad-path", "is longer than a path can be", example));
    }
    if !written.starts_with('/') || written.ends_with('/') {
        return Err(Wrong::new(
            "bad-path",
            format!("{} is not the path of a file from the root", quoted(written)),
            example,
        ));
    }
    Ok(PathBuf::from(written))
}
