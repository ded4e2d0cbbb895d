//! What the system says of this process. Memory and threads on Linux only: zero elsewhere.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

/// What this process has spent so far.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().unwrap_or_default()
}

/// What this process has cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub cpu: Duration,
    /// How often one of its threads gave up a core, or had to.
    pub switches: i64,
}

impl Spent {
    pub fn so_far() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF);
        let switches =
            usage.map(|it| it.voluntary_context_switches() + it.involuntary_context_switches());
        Self { cpu: cpu_time(), switches: switches.unwrap_or(0) }
    }

    pub fn since(self, before: Self) -> Self {
        let cpu = self.cpu.saturating_sub(before.cpu);
        Self { cpu, switches: self.switches - before.switches }
    }
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
