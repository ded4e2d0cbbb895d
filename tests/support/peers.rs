//! Programs in other languages, with libraries from the folder that the tests install them in.
#![allow(dead_code, reason = "each test file uses its share of this")]

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::PATIENCE;

/// The folder, which CONTRIBUTING.md says how to fill.
fn folder() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop");
    std::env::var_os("EVERLINK_INTEROP").map_or(default, PathBuf::from)
}

/// A program of `tests/interop` that needs this library of Python. `None` if that is not installed.
pub fn python(library: &str, script: &str) -> Option<Command> {
    let python = folder().join("venv/bin/python");
    let import = Command::new(&python).args(["-c", &format!("import {library}")]).output();
    let is_there = import.is_ok_and(|output| output.status.success());
    command(is_there.then_some(python), library, script)
}

/// The same for Node and `ws`.
pub fn node(script: &str) -> Option<Command> {
    let is_there = folder().join("node_modules/ws").exists();
    command(is_there.then(|| "node".into()), "ws", script)
}

fn command(program: Option<PathBuf>, library: &str, script: &str) -> Option<Command> {
    let Some(program) = program else {
        eprintln!("skipped: {library} is not in {}", folder().display());
        return None;
    };
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script));
    command.env("EVERLINK_INTEROP", folder());
    Some(command)
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// Has it read a line.
    pub fn tell(&mut self, line: impl Display) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").expect("the peer reads");
    }

    /// The next line that it prints.
    pub fn line(&self) -> String {
        self.line_within(PATIENCE).expect("the peer says something")
    }

    /// The same, unless it takes longer, or the program has ended.
    pub fn line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
