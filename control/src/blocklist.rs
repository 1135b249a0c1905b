//! Blocklist files: read, checked line by line, and compiled. Runs in management; a million prefixes take a fraction of a
//! second.
//!
//! A line has one address or prefix, IPv4 or IPv6; `#` and `;` begin a comment. That is what the common lists look like.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use config::policy::Blocklist;
use crossbeam::channel::bounded;
use ipnet::IpNet;
use stage::blocklist::{Blocklists, PrefixSet};

/// Prefixes of one list: 16 MiB of IPv4, 64 MiB of IPv6.
const PREFIXES_MAX: usize = 2_000_000;

/// Bytes of one file that are read: as many prefixes of the longest spelling, each with a comment.
const BYTES_MAX: usize = 256 << 20;

/// How long it is waited for one file.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Faults told of one file.
const FAULTS_TOLD: usize = 10;

/// Characters of a faulty line that are shown.
const SHOWN: usize = 60;

/// What stands on one line, comments taken off; else what is wrong with it, and what would be right.
fn prefix(written: &str) -> Result<IpNet, String> {
    let (address, length) = written.split_once('/').map_or((written, None), |(address, len)| (address, Some(len)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err("is not an address or a prefix; write one a line, such as 192.0.2.0/24 or 2001:db8::/32".to_owned());
    };
    let Some(length) = length else { return Ok(IpNet::from(address)) };
    let length = length.parse().ok().filter(|_| length.bytes().all(|digit| digit.is_ascii_digit()));
    let Some(net) = length.and_then(|length| IpNet::new(address, length).ok()) else {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        return Err(format!("has no such prefix length; write one from 1 to {longest}"));
    };
    match net.trunc() {
        trunc if trunc != net => Err(format!("has bits behind its prefix length; write {trunc}")),
        trunc if trunc.prefix_len() == 0 => Err("is everything; write a firewall rule instead".to_owned()),
        trunc => Ok(trunc),
    }
}

/// A faulty line in an answer: as it is only where it consists of what addresses consist of. Whoever may change the policy need
/// not be one who may read every file.
fn shown(written: &str) -> String {
    let of_addresses = |byte: u8| byte.is_ascii_hexdigit() || b".:/ ".contains(&byte);
    if written.bytes().all(of_addresses) && written.contains(['.', ':']) {
        format!("\"{}\"", written.chars().take(SHOWN).collect::<String>())
    } else {
        "what stands there".to_owned()
    }
}

/// Reads the text of a list.
///
/// # Errors
/// A sentence for each faulty line, the first ten of them.
fn parse(text: &str, name: &str) -> Result<PrefixSet, String> {
    let mut prefixes = Vec::new();
    let (mut faults, mut told) = (0, String::new());
    // What some editors put in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1..) {
        let written = line.split(['#', ';']).next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        match prefix(written) {
            Ok(net) => prefixes.push(net),
            Err(why) => {
                faults += 1;
                if faults <= FAULTS_TOLD {
                    let _ = writeln!(told, "{name}:{number}: {} {why}", shown(written));
                }
            }
        }
        if prefixes.len() > PREFIXES_MAX {
            return Err(format!("{name}:{number}: more than {PREFIXES_MAX} prefixes; make two lists of it"));
        }
    }
    if faults > FAULTS_TOLD {
        let _ = writeln!(told, "{name}: {} more lines are faulty", faults - FAULTS_TOLD);
    }
    if faults > 0 { Err(told.trim_end().to_owned()) } else { Ok(PrefixSet::new(prefixes)) }
}

/// Reads the file of a list, on a thread of its own: whoever waits goes on when its disk or its server does not answer.
///
/// # Errors
/// Sentences: the file cannot be read, is too long, is not text, or has faulty lines.
pub fn read(path: &Path) -> Result<Arc<PrefixSet>, String> {
    read_by(path, READ_WITHIN, read_through)
}

/// Files that did not answer in time, and who still waits for them: nobody can call a thread back from there, but no other
/// is sent after it.
static UNANSWERED: Mutex<Vec<(PathBuf, JoinHandle<()>)>> = Mutex::new(Vec::new());

fn read_by(
    path: &Path,
    within: Duration,
    read_through: impl FnOnce(&Path) -> Result<Arc<PrefixSet>, String> + Send + 'static,
) -> Result<Arc<PrefixSet>, String> {
    let name = path.display();
    // Every change of it is one call.
    let unanswered = || UNANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    unanswered().retain(|(_, thread)| !thread.is_finished());
    if unanswered().iter().any(|(file, _)| file == path) {
        return Err(format!("{name} did not answer before, and still does not; put it on a disk of this machine"));
    }
    let (tell, told) = bounded(1);
    let file = path.to_owned();
    let reading = move || drop(tell.send(read_through(&file)));
    let thread = std::thread::Builder::new().name("blocklist".into()).spawn(reading);
    let thread = thread.map_err(|why| format!("{name}: {why}"))?;
    told.recv_timeout(within).unwrap_or_else(|_| {
        unanswered().push((path.to_owned(), thread));
        Err(format!("{name} has not been read within {} s; put it on a disk of this machine", within.as_secs()))
    })
}

fn read_through(path: &Path) -> Result<Arc<PrefixSet>, String> {
    let name = path.display().to_string();
    let bytes = config::settled(path, BYTES_MAX).map_err(|why| format!("{name}: {why}"))?;
    let bytes = bytes.ok_or_else(|| format!("{name} is being written to; try again when it is whole"))?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("{name} is longer than {} MiB", BYTES_MAX >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|&&byte| byte == b'\n').count();
        format!("{name}:{}: not text", line + 1)
    })?;
    parse(&text, &name).map(Arc::new)
}

/// Reads every list of a policy.
///
/// # Errors
/// As [`read`], of the first list that has faults.
pub fn compile(lists: &[Blocklist], previous: Option<&Blocklists>) -> Result<Blocklists, String> {
    let read = |list: &Blocklist| {
        let prefixes = read(&list.file).map_err(|why| format!("blocklist {}: {why}", list.name))?;
        Ok((list.name.clone(), list.from.clone(), prefixes))
    };
    Ok(Blocklists::new(lists.iter().map(read).collect::<Result<_, String>>()?, previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        parse(text, "list").unwrap_err()
    }

    #[test]
    fn the_common_shapes_are_read() {
        let text = "\u{feff}# a list\n\n192.0.2.1\n198.51.100.0/24 ; SBL1\n\t2001:db8::/32 # why\r\n::1\n  ; nothing\n";
        let set = parse(text, "list").unwrap();
        assert_eq!(set.prefixes(), 4);
        for address in ["192.0.2.1", "198.51.100.200", "2001:db8:ffff::1", "::1"] {
            assert!(set.contains(address.parse().unwrap()), "{address}");
        }
        assert!(!set.contains("192.0.2.2".parse().unwrap()));
        assert_eq!(parse("", "list").unwrap().prefixes(), 0);
    }

    #[test]
    fn every_faulty_line_is_told_by_its_number() {
        let text =
            "192.0.2.1\nexample.org\n10.0.0.1/8\n10.0.0.0/33\n::/0\n10.0.0.0/+8\n10.0.0.0/8 10.1.0.0/16\n1.2.3\n";
        let faults = faults(text);
        let lines: Vec<&str> = faults.lines().collect();
        assert!(lines[0].starts_with("list:2: what stands there is not an address or a prefix; write"), "{faults}");
        assert_eq!(lines[1], "list:3: \"10.0.0.1/8\" has bits behind its prefix length; write 10.0.0.0/8");
        assert_eq!(lines[2], "list:4: \"10.0.0.0/33\" has no such prefix length; write one from 1 to 32");
        assert_eq!(lines[3], "list:5: \"::/0\" is everything; write a firewall rule instead");
        assert_eq!(lines.len(), 7);
    }

    #[test]
    fn a_list_that_is_something_else_is_refused_in_few_words() {
        let faults = faults(&format!("{}\n", "\u{1b}[31m<html>".repeat(100)).repeat(10_000));
        assert!(faults.len() < 3_000 && faults.ends_with("9990 more lines are faulty"), "{faults}");
        assert!(!faults.contains('\u{1b}'));
    }

    #[test]
    fn no_secret_of_another_file_is_told() {
        let text = "root:$y$j9T$abc\ntoken=c0ffee\ndeadbeefdeadbeef\n-----BEGIN PRIVATE KEY-----\n10.0.0.0.1\n";
        let faults = faults(text);
        for secret in ["root", "j9T", "c0ffee", "deadbeef", "PRIVATE"] {
            assert!(!faults.contains(secret), "{faults}");
        }
        assert!(
            faults.contains("list:1: what stands there is not") && faults.contains("list:5: \"10.0.0.0.1\" is not")
        );
    }

    /// A server that hangs costs one thread for each of its files, not one for each change of policy.
    #[test]
    fn a_file_that_does_not_answer_is_asked_once() {
        let path = Path::new("/a/server/that/hangs");
        let (go_on, hangs) = bounded::<()>(0);
        let said = read_by(path, Duration::ZERO, move |_| {
            let _ = hangs.recv();
            parse("192.0.2.1", "list").map(Arc::new)
        });
        assert!(said.unwrap_err().contains("has not been read within 0 s"));
        let again = || read_by(path, READ_WITHIN, |_| parse("192.0.2.2", "list").map(Arc::new));
        assert!(again().unwrap_err().contains("still does not"));
        drop(go_on);
        while again().is_err() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn files_that_are_none_are_told() {
        assert!(read(Path::new("/nonexistent/list")).unwrap_err().contains("/nonexistent/list"));
        assert!(read(Path::new("/")).unwrap_err().contains("is a directory, not a file"));
        // Endless, and not a file.
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("is a device, not a file"));
        // One that nobody writes to.
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(read(&pipe).unwrap_err().contains("is a pipe, not a file"));
    }
}
