//! The configuration file on disk: whatever stands at the path, the answer is its text or one sentence, at once.
//!
//! Called by management and the command line. Pipes and devices are refused before they are read. A file that was written to
//! a moment ago is looked at again until it has come to rest: what an editor or a copy has written so far is often a
//! configuration too, only not the one that is meant.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use crate::error::Faults;
use crate::findings::{Finding, Findings, Spot};

/// Largest configuration: a hundred thousand rules.
pub(crate) const BYTES_MAX: usize = 64 << 20;

/// A file that has not changed for this long is at rest.
const REST: Duration = Duration::from_millis(100);

/// Looks at a file that does not come to rest, [`REST`] apart.
const LOOKS_MAX: u32 = 50;

/// The text of the configuration file at `path`, checked as [`load`](crate::load) checks it: UTF-8, Unix line ends.
///
/// # Errors
/// One fault: the file cannot be read, is no regular file, is larger than 64 MiB, is being written all the time, or is not
/// such a text.
pub fn read(path: &Path) -> Result<String, Faults> {
    let refused = |text: &str, finding| {
        let findings = Findings::default();
        findings.report(finding);
        Faults::new(findings.into_faults(text, path))
    };
    let bytes = text_of(path).map_err(|finding| refused("", finding))?;
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

/// A file at one moment.
struct Look {
    bytes: Vec<u8>,
    /// What changes with every write; `None` when it changed while the file was read.
    stamp: Option<Stamp>,
    /// How long ago it was written to; `None` when that is in the future.
    age: Option<Duration>,
}

/// What tells one state of a file from another: device and number, size, last write, last change of any kind.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// The first `most` bytes of a regular file, and one more where there are more, once it has not been written to for a while; `None` when
/// it does not come to rest.
///
/// # Errors
/// [`NotOpened`].
pub fn settled(path: &Path, most: usize) -> Result<Option<Vec<u8>>, NotOpened> {
    at_rest(|| look(path, most), std::thread::sleep)
}

fn at_rest(
    mut look: impl FnMut() -> Result<Look, NotOpened>,
    mut wait: impl FnMut(Duration),
) -> Result<Option<Vec<u8>>, NotOpened> {
    let mut before = None;
    for _ in 0..LOOKS_MAX {
        let Look { bytes, stamp, age } = look()?;
        let long_ago = age.is_some_and(|age| age >= REST);
        if stamp.is_some() && (long_ago || stamp == before) {
            return Ok(Some(bytes));
        }
        before = stamp;
        wait(REST);
    }
    Ok(None)
}

fn stamp(file: &File) -> std::io::Result<(Stamp, SystemTime)> {
    let it = file.metadata()?;
    let stamp = (it.dev(), it.ino(), it.size(), (it.mtime(), it.mtime_nsec()), (it.ctime(), it.ctime_nsec()));
    Ok((stamp, it.modified()?))
}

/// Why a file was not opened, or not read.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The kernel does not let it be.
    #[error("{0}")]
    Failed(std::io::Error),
    /// Something else stands there: `is a pipe`.
    #[error("it {0}, not a file")]
    NoFile(&'static str),
}

/// Opens a regular file to read it, without waiting for anybody.
fn open(path: &Path) -> Result<File, NotOpened> {
    // O_NONBLOCK: opening a pipe nobody writes to would wait for ever; for regular files it means nothing.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(NotOpened::Failed)?;
    let kind = file.metadata().map_err(NotOpened::Failed)?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(NotOpened::NoFile(if kind.is_dir() {
        "is a directory"
    } else if kind.is_fifo() {
        "is a pipe"
    } else if kind.is_socket() {
        "is a socket"
    } else {
        "is a device"
    }))
}

fn look(path: &Path, most: usize) -> Result<Look, NotOpened> {
    let file = open(path)?;
    let read = || -> std::io::Result<Look> {
        let (before, _) = stamp(&file)?;
        let mut bytes = Vec::new();
        (&file).take(u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
        let (after, written) = stamp(&file)?;
        let age = SystemTime::now().duration_since(written).ok();
        Ok(Look { bytes, stamp: (before == after).then_some(after), age })
    };
    read().map_err(NotOpened::Failed)
}

/// The bytes of a configuration.
fn text_of(path: &Path) -> Result<Vec<u8>, Finding> {
    let bytes = settled(path, BYTES_MAX).map_err(|why| match why {
        NotOpened::Failed(error) => match error.kind() {
            ErrorKind::NotFound => Finding::whole("no-such-file", "there is no such file"),
            ErrorKind::PermissionDenied => {
                let finding = Finding::whole("permission-denied", "the file may not be read");
                finding.advice("run as root, or: chmod a+r FILE")
            }
            _ => Finding::whole("unreadable-file", format!("the file cannot be read: {error}")),
        },
        NotOpened::NoFile(what) => {
            Finding::whole("not-a-file", format!("it {what}, not a file")).advice("name a regular file")
        }
    })?;
    match bytes {
        Some(bytes) if bytes.len() > BYTES_MAX => {
            Err(Finding::whole("file-too-large", "the configuration is larger than 64 MiB"))
        }
        Some(bytes) => Ok(bytes),
        None => {
            let advice = "try again when it is whole; best is to write it under another name and to rename that";
            Err(Finding::whole("file-changing", "the file is being written to").advice(advice))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is emptied and written again, a byte at a time.
    struct Writer {
        now: Duration,
        /// When the file has how many bytes.
        writes: Vec<(Duration, usize)>,
    }

    impl Writer {
        /// Never longer silent than [`REST`] while the file is not whole.
        fn of(len: usize, mut seed: u64) -> Self {
            let mut at = Duration::ZERO;
            let mut pause = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                at += Duration::from_millis((seed >> 40) % 97);
                at
            };
            Self { now: Duration::ZERO, writes: (0..=len).map(|bytes| (pause(), bytes)).collect() }
        }

        fn look(&self, text: &str) -> Look {
            let written = self.writes.iter().rfind(|(at, _)| *at <= self.now);
            // Whole and written long before.
            let (at, len) = written.map_or((None, text.len()), |&(at, len)| (Some(at), len));
            let moment = at.map_or(-1, |at| i64::try_from(at.as_millis()).unwrap());
            Look {
                bytes: text.as_bytes()[..len].to_vec(),
                stamp: Some((0, 0, len as u64, (moment, 0), (moment, 0))),
                age: Some(at.map_or(Duration::from_secs(60), |at| self.now - at)),
            }
        }
    }

    /// RLD-05: whenever somebody looks, what is loaded is whole.
    #[test]
    fn a_file_that_is_written_a_byte_at_a_time_is_read_whole_or_not_at_all() {
        let text = "[appliance]\nname = \"edge-1\"\n";
        let (mut whole, mut refused) = (0, 0);
        for seed in 0..1_000 {
            let writer = std::cell::RefCell::new(Writer::of(text.len(), seed));
            let begun = Duration::from_millis(seed * 7 % 2_000);
            writer.borrow_mut().now = begun;
            let read = at_rest(|| Ok(writer.borrow().look(text)), |pause| writer.borrow_mut().now += pause);
            match read {
                Ok(Some(bytes)) => {
                    assert_eq!(bytes, text.as_bytes(), "seed {seed}");
                    whole += 1;
                }
                Ok(None) | Err(_) => refused += 1,
            }
        }
        assert_eq!((whole, refused), (1_000, 0), "each writer is through before patience is");
    }

    #[test]
    fn a_file_that_never_rests_is_refused_and_one_of_tomorrow_is_not() {
        let mut size = 0;
        let changing = at_rest(
            || {
                size += 1;
                Ok(Look { bytes: Vec::new(), stamp: Some((0, 0, size, (0, 0), (0, 0))), age: Some(Duration::ZERO) })
            },
            |_| {},
        );
        assert!(matches!(changing, Ok(None)));
        let mut looks = 0;
        let tomorrow = at_rest(
            || {
                looks += 1;
                Ok(Look { bytes: b"x".to_vec(), stamp: Some((0, 0, 1, (9, 9), (9, 9))), age: None })
            },
            |_| {},
        );
        assert_eq!((tomorrow.unwrap(), looks), (Some(b"x".to_vec()), 2));
    }
}
