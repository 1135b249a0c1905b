//! The Debian package: built by the project's script, installed into a folder as its root, with everything where systemd, man and
//! shells look for it; removed and purged again.

use std::path::Path;
use std::process::Command;

use millrace_tests::net::{binary, skipped};

/// A command line that has to succeed; its standard output.
fn must(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let (program, arguments) = words.split_first().expect("a program");
    let done = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{line}\n{out}{err}");
    out.into_owned()
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success())
}

#[test]
fn the_package_installs_and_goes_without_a_trace() {
    let test = "the_package_installs_and_goes_without_a_trace";
    if let Some(missing) = ["dpkg-deb", "dpkg-shlibdeps", "strip"].iter().find(|program| !installed(program)) {
        return skipped(test, &format!("{missing} is not installed"));
    }
    let millrace = match binary() {
        Ok(millrace) => millrace,
        Err(why) => return skipped(test, &why),
    };
    let scratch = tempfile::tempdir().expect("the temporary directory takes another");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = scratch.path().join("root");
    std::os::unix::fs::symlink(&millrace, scratch.path().join("millrace-here")).expect("a link");
    // Paths are the caller's, wherever that is.
    let packing = Command::new(project.join("scripts/package.sh").canonicalize().expect("the project has it"))
        .args(["--binary", "./millrace-here", "packed"])
        .current_dir(scratch.path())
        .output()
        .expect("a script");
    assert!(packing.status.success(), "{}", String::from_utf8_lossy(&packing.stderr));
    let package = String::from_utf8_lossy(&packing.stdout).into_owned();
    let package = package.trim();
    let field = |name: &str| must(&format!("dpkg-deb --field {package} {name}")).trim().to_owned();
    assert!(field("Depends").contains("librte-eal"), "the libraries it is linked with: {}", field("Depends"));

    // A root of its own, with a package database that knows nothing: not even what ours depends on.
    for folder in ["info", "updates"] {
        std::fs::create_dir_all(root.join("var/lib/dpkg").join(folder)).expect("the scratch folder takes another");
    }
    std::fs::write(root.join("var/lib/dpkg/status"), "").expect("the scratch folder takes a file");
    let dpkg = format!("dpkg --root={} --force-depends --force-not-root --force-script-chrootless", root.display());
    must(&format!("{dpkg} --install {package}"));
    for place in [
        "usr/bin/millrace",
        "lib/systemd/system/millrace.service",
        "etc/default/millrace",
        "etc/millrace",
        "usr/lib/millrace/bind_nic.sh",
        "usr/share/man/man1/millrace.1.gz",
        "usr/share/man/man1/millrace-apply.1.gz",
        "usr/share/bash-completion/completions/millrace",
        "usr/share/zsh/vendor-completions/_millrace",
        "usr/share/fish/vendor_completions.d/millrace.fish",
        "usr/share/doc/millrace/copyright",
        "usr/share/doc/millrace/examples/edge.toml",
    ] {
        assert!(root.join(place).exists(), "{place}");
    }
    let check = format!("{0}/usr/bin/millrace check {0}/usr/share/doc/millrace/examples/edge.toml", root.display());
    assert!(must(&check).contains("valid"));
    assert_eq!(must(&format!("{dpkg} --verify millrace")), "", "files are as they were packed");
    if installed("systemd-analyze") {
        // systemd reads the unit as a whole, the programs it names included, below the root.
        let unit = root.join("lib/systemd/system/millrace.service");
        let exposure = must(&format!("systemd-analyze security --offline=true --threshold=60 {}", unit.display()));
        assert!(exposure.contains("NoNewPrivileges="), "{exposure}");
    }
    if installed("lintian") {
        must(&format!("lintian --fail-on error --tag-display-limit 0 {package}"));
    }

    // What an operator changed stays when the package goes, until it is purged.
    std::fs::write(root.join("etc/default/millrace"), "MILLRACE_OPTIONS=--resume\n").expect("it is a file");
    std::fs::create_dir_all(root.join("var/lib/millrace")).expect("the scratch folder takes another");
    must(&format!("{dpkg} --remove millrace"));
    assert!(root.join("etc/default/millrace").exists() && root.join("var/lib/millrace").exists());
    assert!(!root.join("usr/bin/millrace").exists());
    must(&format!("{dpkg} --purge millrace"));
    for place in ["etc/default/millrace", "etc/millrace", "var/lib/millrace", "usr/share/doc/millrace"] {
        assert!(!root.join(place).exists(), "{place}");
    }
}
