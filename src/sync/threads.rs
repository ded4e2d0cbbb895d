//! Threads with names and small stacks that know whose they are.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// For threads that run this library's code alone.
pub(crate) const OWN_STACK: usize = 128 * 1024;

/// For threads that run code of the program: the login hook, a handler, a resolver. Only the
/// pages that are touched cost memory.
pub(crate) const PROGRAM_STACK: usize = 1024 * 1024;

/// For threads that run code of the program and end soon. Their stacks are kept for the next of their
/// kind with all that was touched of them, and this size fits no thread that lives as long as its link.
pub(crate) const PASSING_STACK: usize = 768 * 1024;

thread_local! {
    static OWNER: Cell<u64> = const { Cell::new(0) };
}

/// A number for the threads of the next client, session or server.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// How the threads of the client or session with this number begin their names.
pub(crate) fn thread_prefix(id: u64) -> String {
    format!("everlink-{id}")
}

/// Starts a thread named `PREFIX-role`.
pub(crate) fn spawn<T: Send + 'static>(
    prefix: &str,
    role: &str,
    stack: usize,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    named(prefix, role, stack)?.spawn(run)
}

/// The same, for a thread that borrows from this one.
pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    prefix: &str,
    role: &str,
    stack: usize,
    run: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    named(prefix, role, stack)?.spawn_scoped(scope, run)
}

fn named(prefix: &str, role: &str, stack: usize) -> io::Result<Builder> {
    let name = format!("{prefix}-{role}");
    #[cfg(test)]
    tests::may_start(&name)?;
    Ok(Builder::new().name(name).stack_size(stack))
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::thread_prefix;
    use crate::{Backoff, Client, Event, Failure, Server};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// The name of the thread for which the system has no room, as far as these tests go.
    static REFUSED: Mutex<String> = Mutex::new(String::new());

    pub(super) fn may_start(name: &str) -> io::Result<()> {
        if *REFUSED.lock().unwrap() == name {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    fn refuse(name: String) {
        *REFUSED.lock().unwrap() = name;
    }

    fn threads_of(client: &Client) -> usize {
        let prefix = format!("{}-", thread_prefix(client.id()));
        let tasks = std::fs::read_dir("/proc/self/task").expect("this test needs /proc");
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.starts_with(&prefix))
            .count()
    }

    #[test]
    fn without_threads_attempts_fail_with_that_cause_until_there_are_some() {
        let server = Server::bind("127.0.0.1:0", |session| {
            for message in session.iter() {
                let _ = session.send(message);
            }
        })
        .unwrap();
        let address = server.local_addr();
        let client = Client::builder("ws://server.test")
            .resolver(move |_: &str, _| Ok(vec![address]))
            .backoff(Backoff::fixed(Duration::from_millis(1)))
            .connect()
            .unwrap();
        let events = client.subscribe();
        let next = || events.recv_timeout(PATIENCE).expect("something happens");
        for role in ["opening", "resolver", "connect", "reader", "writer", "heartbeat"] {
            refuse(format!("{}-{role}", thread_prefix(client.id())));
            client.reconnect().unwrap();
            let cause = loop {
                if let Event::AttemptFailed { cause, .. } = next() {
                    break cause;
                }
            };
            assert!(matches!(&*cause, Failure::Thread(_)), "{role}: {cause:?}");
            refuse(String::new());
            while !matches!(next(), Event::Connected { .. }) {}
            client.send(role).unwrap();
            let echo = client.recv_timeout(PATIENCE).unwrap();
            assert_eq!(echo.as_text(), Some(role), "the inbox is not lost");
            // one that resolves or connects may be on its last line
            let deadline = Instant::now() + PATIENCE;
            while threads_of(&client) != 4 {
                assert!(Instant::now() < deadline, "{role}: {} threads", threads_of(&client));
                std::thread::yield_now();
            }
        }
    }
}
