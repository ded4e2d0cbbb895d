//! Threads with names and small stacks that know whose they are.

use std::cell::Cell;
use std::io;
use std::thread::{Builder, JoinHandle};

/// For threads that run this library's code alone.
pub(crate) const OWN_STACK: usize = 128 * 1024;

/// For threads that run code of the program: the login hook, a handler, a resolver. Only the
/// pages that are touched cost memory.
pub(crate) const PROGRAM_STACK: usize = 1024 * 1024;

thread_local! {
    static OWNER: Cell<u64> = const { Cell::new(0) };
}

/// Starts a thread named `PREFIX-role`.
pub(crate) fn spawn<T: Send + 'static>(
    prefix: &str,
    role: &str,
    stack: usize,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(format!("{prefix}-{role}")).stack_size(stack).spawn(run)
}

/// Marks the current thread as one of the client with this number.
pub(crate) fn belong_to(client: u64) {
    OWNER.set(client);
}

/// Whether the current thread is one of the client with this number, which must therefore not
/// wait for it.
pub(crate) fn belongs_to(client: u64) -> bool {
    OWNER.get() == client
}
