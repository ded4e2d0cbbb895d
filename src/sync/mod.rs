//! Locks, signals and threads, for everything above.
//!
//! What is model-checked takes its locks from here: std's, and under `--cfg shuttle` those of
//! shuttle, which tries the ways in which threads can be interleaved (see `src/link/model.rs`).

mod budget;
mod doorbell;
mod lock;
mod ours;
mod panics;
mod repeats;
#[cfg(unix)]
mod self_pipe;
mod signal;
pub(crate) mod threads;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};

pub(crate) use budget::{Budget, Evict, Holding, Share};
pub(crate) use doorbell::Doorbell;
#[cfg(all(test, not(shuttle)))]
pub(crate) use lock::ASKED;
pub(crate) use lock::{Condvar, Mutex, MutexGuard};
pub(crate) use ours::{Ours, Process};
pub(crate) use panics::{caught, drop_theirs};
pub(crate) use repeats::Repeats;
#[cfg(unix)]
pub(crate) use self_pipe::SelfPipe;
pub(crate) use signal::Signal;
