//! Examples as processes. They are built first, as this test was: one that lies there from an earlier
//! day proves nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// An example, ready to be started.
pub fn example(name: &str) -> Command {
    let mut command = Command::new(build(name));
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Has cargo build it, with the profile and the features of this test; returns where it is.
fn build(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    // target/debug/deps/this
    let profile = this.ancestors().nth(2).and_then(Path::file_name).unwrap().to_str().unwrap();
    let profile = if profile == "debug" { "dev" } else { profile };
    let mut cargo = Command::new(env!("CARGO"));
    // what cargo tells this test of the package is not the business of build scripts
    for (key, _) in std::env::vars_os() {
        let text = key.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|it| text.starts_with(it)) {
            cargo.env_remove(&key);
        }
    }
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--locked",
            "--message-format=json-render-diagnostics",
            "--profile",
            profile,
        ])
        .args(["--example", name]);
    if !cfg!(feature = "tls") {
        cargo.arg("--no-default-features");
    }
    let output = cargo.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the example {name} cannot be built:\n{said}");
    let messages = String::from_utf8(output.stdout).unwrap();
    let mut built = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["target"]["kind"][0] == "example";
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    built.next_back().unwrap_or_else(|| panic!("cargo does not say where {name} is:\n{messages}"))
}
