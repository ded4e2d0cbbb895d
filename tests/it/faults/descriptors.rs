//! A process that has no descriptors left.
#![cfg(unix)]

use std::process::Command;
use std::sync::Arc;

use super::{assert_alive, client, proxy};
use crate::support::*;
use everlink::Failure;
use everlink::chaos::Cut;
use everlink::failure::Decision;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Not a test of its own: the next one, in a process of its own, for descriptors are the whole
/// process's.
#[test]
fn child_without_descriptors() {
    if std::env::var_os("EVERLINK_TEST_CHILD").is_none() {
        return;
    }
    let proxy = proxy();
    let (builder, watch) = watch(client(&proxy).decide(|_, _| Decision::Retry));
    let client = builder.connect().unwrap();
    watch.connected();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: before.maximum }).unwrap();
    proxy.cut(Cut::Reset);
    let cause: Arc<Failure> = watch.attempt_failed();
    let text = cause.to_string();
    assert!(text.contains("os error 24"), "{text}");
    setrlimit(Resource::Nofile, before).unwrap();
    watch.connected();
    assert_alive(&client);
    println!("\nsurvived without descriptors");
}

#[test]
fn without_descriptors_attempts_fail_with_that_cause_until_there_are_some() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::descriptors::child_without_descriptors", "--nocapture"])
        .env("EVERLINK_TEST_CHILD", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("survived without descriptors"), "{text}\n{errors}");
}
