//! The profiles for other generators are written in their languages, which nobody runs here without two NICs: that Lua and
//! Python can read them is looked at, and no more. Skipped, in words, where a program is missing (`scripts/setup.sh` installs both).
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn profiles(ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|of| of == ending)).collect()
}

/// Has `program` read each file behind these arguments.
fn read_by(program: &str, arguments: &[&str], ending: &str) {
    let files = profiles(ending);
    assert!(!files.is_empty(), "there are profiles that end in .{ending}");
    for file in files {
        match Command::new(program).args(arguments).arg(&file).output() {
            Ok(read) => assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr)),
            Err(why) => return println!("skipped: {program} does not start ({why})"),
        }
    }
}

#[test]
fn lua_reads_the_profile_of_pktgen() {
    read_by("luac5.4", &["-p"], "lua");
}

#[test]
fn python_reads_the_profiles_of_trex() {
    // What `py_compile` does, without a file beside the profile.
    read_by("python3", &["-c", "import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])"], "py");
}
