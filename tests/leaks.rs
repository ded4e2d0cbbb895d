//! A thousand links later the process is as it was after the first. Alone in its file: it
//! counts what the whole process has.
#![cfg(target_os = "linux")]

mod support;

use std::fs;

use everlink::config::Heartbeat;
use support::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Usage {
    threads: usize,
    descriptors: usize,
}

fn usage() -> Usage {
    let count = |folder: &str| fs::read_dir(folder).expect("this test needs /proc").count();
    Usage { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd") }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_thousand_reconnects_leave_nothing_behind() {
    let listener = Listener::new();
    let client =
        listener.client().heartbeat(Heartbeat::every(ms(1)).dead_after(PATIENCE)).start().unwrap();
    let link = |number: u32| {
        let mut peer = listener.accept();
        peer.send(number.to_string().into()).unwrap();
        let message = client.recv_timeout(PATIENCE).unwrap();
        assert_eq!(message.as_text(), Some(number.to_string().as_str()));
        peer
    };
    let settle = |expected: &Usage| {
        eventually("the usage of the first link", || {
            let now = usage();
            if now == *expected { Ok(()) } else { Err((now, expected.clone())) }
        });
    };
    let first = link(0);
    // threads of the dialing end a moment after the link is up, and those of the link begin
    eventually("the four threads of a link", || {
        let threads = everlink_threads();
        let is_dialing = threads.iter().any(|name| name.contains("-conn") || name.contains("-res"));
        if threads.len() == 4 && !is_dialing { Ok(()) } else { Err(threads) }
    });
    let before = usage();
    reset(first);
    for number in 1..50 {
        reset(link(number));
    }
    // allocators keep what they once had: the first fifty show how much that is
    let peer = link(50);
    settle(&before);
    let memory = resident_kib();
    reset(peer);
    for number in 51..=1000 {
        reset(link(number));
    }
    let _peer = link(1001);
    settle(&before);
    let grown = resident_kib().saturating_sub(memory);
    assert!(grown < 2048, "{grown} KiB more than after the first links");
    assert_eq!(client.stats().reconnects, 1001);
    assert!(client.close().ended);
}
