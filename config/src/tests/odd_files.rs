//! CFG-06: byte order mark, CRLF, not UTF-8, 50 MB, pipe, link loop, directory: refused in a sentence, without waiting.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::FULL;
use crate::{load, read};

/// The one sentence `read` has for the file, its path replaced by `FILE`.
fn refusal(path: &Path) -> String {
    let faults = read(path).unwrap_err();
    assert_eq!(faults.as_slice().len(), 1);
    faults.to_string().replace(&path.display().to_string(), "FILE")
}

#[test]
fn odd_files_are_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let with = |name: &str, bytes: &[u8]| {
        fs::write(place(name), bytes).unwrap();
        refusal(&place(name))
    };
    assert!(with("bom", format!("\u{feff}{FULL}").as_bytes()).starts_with("FILE:1:1: error[byte-order-mark]: "));
    let end = FULL.find('\n').unwrap() + 1;
    let crlf = with("crlf", FULL.replace('\n', "\r\n").as_bytes());
    assert!(crlf.starts_with(&format!("FILE:1:{end}: error[carriage-return]: ")), "{crlf}");
    assert!(with("latin1", b"[appliance]\nname = \"gr\xfcn\"\n").starts_with("FILE:2:11: error[not-utf-8]: "));
    assert!(with("utf16", b"\xff\xfe[\0a\0]\0").starts_with("FILE:1:1: error[not-utf-8]: "));
    assert!(with("large", &vec![b'#'; 70_000_000]).starts_with("FILE: error[file-too-large]: "));
    assert!(refusal(folder.path()).starts_with("FILE: error[not-a-file]: it is a directory"));
    assert!(refusal(&place("nothing")).starts_with("FILE: error[no-such-file]: "));
    symlink(place("loop-b"), place("loop-a")).unwrap();
    symlink(place("loop-a"), place("loop-b")).unwrap();
    assert!(refusal(&place("loop-a")).starts_with("FILE: error[unreadable-file]: "));
    rustix::fs::mknodat(rustix::fs::CWD, place("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(refusal(&place("pipe")).starts_with("FILE: error[not-a-file]: it is a pipe"));
    assert!(refusal(Path::new("/dev/zero")).starts_with("FILE: error[not-a-file]: it is a device"));
}

#[test]
fn a_good_file_and_a_link_to_it_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("full.toml"), folder.path().join("link.toml"));
    fs::write(&file, FULL).unwrap();
    symlink(&file, &link).unwrap();
    assert_eq!(read(&link).unwrap(), FULL);
}

#[test]
fn text_that_did_not_come_from_a_file_is_held_to_the_same() {
    for text in [format!("\u{feff}{FULL}"), FULL.replace('\n', "\r\n"), "#".repeat(65 << 20)] {
        assert_eq!(load(&text, Path::new("x")).unwrap_err().as_slice().len(), 1);
    }
}
