//! What the examples say is true. They are there when all targets are built, as by `cargo test`;
//! otherwise this says "skipped".
#![cfg(feature = "tls")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn example(name: &str) -> Option<Command> {
    // target/debug/deps/examples-0123 -> target/debug/examples/name
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    if !path.exists() {
        println!("skipped: {} is not built", path.display());
        return None;
    }
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    Some(command)
}

#[test]
fn cat_says_each_failed_attempt_as_a_line_of_json() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    drop(listener);
    let Some(mut cat) = example("cat") else { return };
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
    let Some(mut demo) = example("demo") else { return };
    let output = demo.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let (_, after) = said.split_once("the server listens again").expect("it does in the end");
    // an attempt that was refused before may be reported in the same moment, but no later one
    let failed = after.lines().filter(|line| line.contains("refused")).count();
    assert!(failed <= 1 && after.contains("connected"), "{said}");
}

#[test]
fn who_loses_the_network_for_a_while_misses_nothing_of_the_chat() {
    use everlink::chaos::{Cut, FaultProxy, Faults};
    use everlink::{Backoff, Client};
    use support::{PATIENCE, ms};

    let Some(mut chat) = example("chat") else { return };
    let mut chat = chat.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(chat.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().trim_start_matches("open http://").to_owned();
    let proxy = FaultProxy::start(address.as_str()).unwrap();
    let url = format!("ws://{}/ws", proxy.address());
    let backoff = Backoff::fixed(ms(10));
    let away = Client::builder(&url).resume(true).backoff(backoff).connect().unwrap();
    let other = Client::connect(&format!("ws://{address}/ws")).unwrap();
    let next = || away.recv_timeout(PATIENCE).unwrap().as_text().unwrap().to_owned();
    assert!(next().starts_with("welcome"));
    away.send("Ada").unwrap();
    assert_eq!(next(), "-- Ada is here");
    other.send("Bob").unwrap();
    assert_eq!(next(), "-- Bob is here");
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    for number in 0..100 {
        other.send(format!("{number}")).unwrap();
    }
    away.send("is anybody there?").unwrap();
    other.flush(PATIENCE).unwrap();
    proxy.set(Faults::none()).unwrap();
    for number in 0..100 {
        assert_eq!(next(), format!("Bob: {number}"));
    }
    assert_eq!(next(), "Ada: is anybody there?");
    chat.kill().unwrap();
    chat.wait().unwrap();
}
