//! What a child of a `fork` does with the handles of its parent: a Python program that forks over a small C
//! interface. It says "skipped" without `python3`.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

#[test]
fn a_child_of_a_fork_has_closed_handles_and_its_parent_notices_nothing() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fork");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fork");
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .unwrap();
    assert!(build.success(), "the library is not built");
    for transport in ["plain", "tls"] {
        let run = Command::new("timeout")
            .args(["100", "python3"])
            .arg(folder.join("fork.py"))
            .arg(target.join("debug/libeverlink_fork.so"))
            .arg(transport)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        let errors = String::from_utf8_lossy(&run.stderr);
        assert_eq!(said.trim(), "ok", "{transport}: {errors}");
    }
}
