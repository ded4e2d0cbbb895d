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
    /// How often one of its threads called the system; not a number as long as nobody counts.
    pub calls: f64,
}

impl Spent {
    pub fn so_far() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF);
        let switches =
            usage.map(|it| it.voluntary_context_switches() + it.involuntary_context_switches());
        let calls = calls::so_far().map_or(f64::NAN, |calls| calls as f64);
        Self { cpu: cpu_time(), switches: switches.unwrap_or(0), calls }
    }

    pub fn since(self, before: Self) -> Self {
        let cpu = self.cpu.saturating_sub(before.cpu);
        let calls = self.calls - before.calls;
        Self { cpu, switches: self.switches - before.switches, calls }
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

#[cfg(target_os = "linux")]
pub mod calls {
    use std::sync::{Mutex, OnceLock};
    use std::{fs, io};

    use perf_event::{Builder, Counter, events::Tracepoint};

    static COUNTER: OnceLock<Mutex<Counter>> = OnceLock::new();

    /// Counts system calls from here on: those of this thread, and of all threads that are started later. Each of
    /// them takes longer for it, and the system has to allow it.
    pub fn count() -> io::Result<()> {
        let id = fs::read_to_string("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")?;
        let id = id.trim().parse().map_err(io::Error::other)?;
        let mut counter =
            Builder::new(Tracepoint::with_id(id)).inherit(true).include_kernel().build()?;
        counter.enable()?;
        COUNTER.get_or_init(|| Mutex::new(counter));
        Ok(())
    }

    pub fn so_far() -> Option<u64> {
        COUNTER.get()?.lock().ok()?.read().ok()
    }
}

#[cfg(not(target_os = "linux"))]
pub mod calls {
    pub fn count() -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub fn so_far() -> Option<u64> {
        None
    }
}
