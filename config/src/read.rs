//! The configuration file on disk: whatever stands at the path, the answer is its text or one sentence, at once.
//!
//! Called by management and the command line. Nothing here waits: pipes and devices are refused before they are read.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::Faults;
use crate::findings::{Finding, Findings, Spot};

/// Largest configuration: a hundred thousand rules.
pub(crate) const BYTES_MAX: usize = 64 << 20;

/// The text of the configuration file at `path`, checked as [`load`](crate::load) checks it: UTF-8, Unix line ends.
///
/// # Errors
/// One fault: the file cannot be read, is no regular file, is larger than 64 MiB, or is not such a text.
pub fn read(path: &Path) -> Result<String, Faults> {
    let refused = |text: &str, finding| {
        let findings = Findings::default();
        findings.report(finding);
        Faults::new(findings.into_faults(text, path))
    };
    let bytes = bytes(path).map_err(|finding| refused("", finding))?;
    match String::from_utf8(bytes) {
        Ok(text) => match unsuited(&text) {
            Some(finding) => Err(refused(&text, finding)),
            None => Ok(text),
        },
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes().get(..valid).unwrap_or_default()).into_owned();
            let spot = Spot { path: String::new(), offset: valid };
            let finding = Finding::error("not-utf-8", &spot, "the file is not text in UTF-8");
            let advice = "save it as UTF-8; from Latin-1: iconv -f latin1 -t utf-8 FILE";
            Err(refused(&text, finding.advice(advice)))
        }
    }
}

/// What keeps a text from being a configuration before its TOML is looked at.
pub(crate) fn unsuited(text: &str) -> Option<Finding> {
    if text.len() > BYTES_MAX {
        return Some(Finding::whole("file-too-large", "the configuration is larger than 64 MiB"));
    }
    let at = |offset| Spot { path: String::new(), offset };
    if text.starts_with('\u{feff}') {
        let finding = Finding::error("byte-order-mark", &at(0), "the file begins with a byte order mark");
        return Some(finding.advice("save it as UTF-8 without one, or: sed -i '1s/^\\xef\\xbb\\xbf//' FILE"));
    }
    let carriage_return = text.find('\r')?;
    let finding = Finding::error("carriage-return", &at(carriage_return), "the line ends with a carriage return (CR)");
    Some(finding.advice("save it with Unix line ends, or: sed -i 's/\\r$//' FILE"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Finding> {
    let failed = |error: &std::io::Error| match error.kind() {
        ErrorKind::NotFound => Finding::whole("no-such-file", "there is no such file"),
        ErrorKind::PermissionDenied => {
            Finding::whole("permission-denied", "the file may not be read").advice("run as root, or: chmod a+r FILE")
        }
        _ => Finding::whole("unreadable-file", format!("the file cannot be read: {error}")),
    };
    // O_NONBLOCK: opening a pipe nobody writes to would wait for ever; for regular files it means nothing.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| failed(&error))?;
    let kind = file.metadata().map_err(|error| failed(&error))?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "is a directory"
        } else if kind.is_fifo() {
            "is a pipe"
        } else if kind.is_socket() {
            "is a socket"
        } else {
            "is a device"
        };
        return Err(Finding::whole("not-a-file", format!("it {what}, not a file")).advice("name a regular file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() > BYTES_MAX {
        return Err(Finding::whole("file-too-large", "the configuration is larger than 64 MiB"));
    }
    Ok(bytes)
}
