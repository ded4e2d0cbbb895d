//! What the examples say is true.
#![cfg(feature = "tls")]

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Stdio};

use crate::support::PATIENCE;
use crate::support::examples::example;
use crossbeam_channel::bounded;

#[test]
fn cat_says_each_failed_attempt_as_a_line_of_json() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut cat = example("cat");
    let output = cat
        .args(["--events", "--backoff-initial", "0s", "--max-attempts", "3", &url])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let events: Vec<serde_json::Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let failed: Vec<_> = events.iter().filter(|event| event["event"] == "attempt_failed").collect();
    assert_eq!(failed.len(), 3, "{said}");
    for (index, event) in failed.iter().enumerate() {
        assert_eq!(event["attempts"], index + 1, "{said}");
        assert!(event["cause"].as_str().unwrap().contains("refused"), "{said}");
        assert!(event["endpoint"].as_str().unwrap().starts_with(&url), "{said}");
        assert_eq!(event["next"], if index < 2 { "redial" } else { "give_up" }, "{said}");
    }
}

#[test]
fn the_demos_server_listens_again_when_it_says_so() {
    let mut demo = example("demo");
    let output = demo.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let (_, after) = said.split_once("the server listens again").expect("it does in the end");
    // an attempt that was refused before may be reported in the same moment, but no later one
    let failed = after.lines().filter(|line| line.contains("refused")).count();
    assert!(failed <= 1 && after.contains("connected"), "{said}");
}

/// A process that is killed when the test is over, one way or another.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs an example without arguments; it has to end by itself, in time, and say that all went well.
fn runs(name: &str) {
    let mut command = example(name);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().unwrap());
    let streams: [Box<dyn Read + Send>; 2] =
        [Box::new(running.0.stdout.take().unwrap()), Box::new(running.0.stderr.take().unwrap())];
    let (said, saying) = bounded(2);
    for mut stream in streams {
        let said = said.clone();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            let _ = said.send(text);
        });
    }
    let mut text = String::new();
    for _ in 0..2 {
        match saying.recv_timeout(3 * PATIENCE) {
            Ok(said) => text.push_str(&said),
            Err(_) => panic!("{name} does not end; so far it has said {text}"),
        }
    }
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{name}: {status}\n{text}");
    assert!(!text.contains("panicked"), "{name}: {text}");
}

/// A test for each.
macro_rules! examples {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                runs(stringify!($name));
            }
        )+
    };
}

examples!(
    chat,
    device_uplink,
    gps_server,
    graceful_shutdown,
    gui_thread,
    market_feed,
    mutual_tls,
    ocpp,
    select_loop,
    tcp_heartbeat,
    test_with_chaos,
    token_refresh,
);
