//! Sessions that survive their connection, with the other end in another language: Python
//! `websockets`, and a program that was written by the document alone.
//!
//! Says "skipped" unless that is in the folder that the README names.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::support::resumed::{Row, resuming_server};
use crate::support::*;
use everlink::chaos::{FaultProxy, Faults};
use everlink::config::{Backoff, Heartbeat};
use everlink::{Client, Event, SessionStart};

const COUNT: u64 = 5_000;
const CUTS: u64 = 20;

/// The program, or `None` if there is nothing to run it with.
fn python() -> Option<Command> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop");
    let folder = std::env::var_os("EVERLINK_INTEROP").map_or(default, PathBuf::from);
    let python = folder.join("venv/bin/python");
    let import = Command::new(&python).args(["-c", "import websockets"]).output();
    if !import.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: Python websockets is not in {}", folder.display());
        return None;
    }
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/resume.py"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Some(command)
}

/// A program that runs, until it is dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the program says something")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_python_client_resumes_against_the_server() {
    let Some(mut python) = python() else { return };
    let (sender, results) = mpsc::channel();
    let server = resuming_server().bind("127.0.0.1:0", move |session| {
        let sending = session.clone();
        let sending = thread::spawn(move || {
            (0..COUNT).for_each(|number| sending.send(format!("{number} from rust")).unwrap());
        });
        let mut row = Row::default();
        row.fill(COUNT, || session.recv_timeout(PATIENCE).unwrap());
        sending.join().unwrap();
        assert!(session.recv().is_err(), "more than was sent");
        let _ = sender.send(session.stats().resumed);
    });
    let server = server.unwrap();
    let url = format!("ws://{}", server.local_addr());
    python.args(["client", &url, &COUNT.to_string(), &CUTS.to_string()]);
    let client = Running::start(&mut python);
    let said = client.line();
    let resumed = results.recv_timeout(PATIENCE).expect("one handler, and all in order");
    assert_eq!(said, format!("True {CUTS} {resumed}"));
    assert!(resumed >= CUTS / 2, "{resumed} resumptions");
}

#[test]
fn the_client_resumes_against_a_python_server() {
    let Some(mut python) = python() else { return };
    let server = Running::start(python.args(["server", &COUNT.to_string()]));
    let port = server.line();
    let proxy = FaultProxy::start(format!("127.0.0.1:{port}")).unwrap();
    let builder = Client::builder(format!("ws://{}", proxy.address()))
        .resume(everlink::config::Resume::new())
        .backoff(Backoff::fixed(ms(2)))
        .heartbeat(Heartbeat::every(ms(100)).dead_after(ms(400)));
    let (builder, events) = watch(builder);
    let client = builder.connect().unwrap();
    proxy.set(Faults::none().cut_within(8_000)).unwrap();
    let sending = {
        let client = client.clone();
        thread::spawn(move || {
            (0..COUNT).for_each(|number| client.send(format!("{number} from rust")).unwrap());
        })
    };
    let mut row = Row::default();
    row.fill(COUNT, || client.recv_timeout(PATIENCE).unwrap());
    sending.join().unwrap();
    client.flush(PATIENCE).unwrap();
    proxy.set(Faults::none()).unwrap();
    let stats = client.stats();
    assert!(stats.resumed >= 5 && stats.replaced == 0, "{stats:?}");
    client.wait_connected(PATIENCE).unwrap();
    client.close();
    assert_eq!(server.line(), "True 1", "in order, in one session");
    let starts = events.rest().into_iter().filter_map(|event| match event {
        Event::Connected { session, .. } => Some(session),
        _ => None,
    });
    let others = |start: &SessionStart| !matches!(start, SessionStart::Resumed { .. });
    assert_eq!(starts.filter(others).count(), 1, "the first alone is no resumption");
}
