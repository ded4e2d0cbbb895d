//! What the system says of this process. Memory and threads on Linux only: zero elsewhere.

use std::fs;
use std::time::Duration;

/// What this process has spent so far.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().unwrap_or_default()
}

fn status(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Resident memory in KiB.
pub fn resident() -> u64 {
    status("VmRSS:")
}

pub fn threads() -> u64 {
    status("Threads:")
}
