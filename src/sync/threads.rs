//! Threads with names that know whose they are, and how much stack they need.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::{Mutex, caught};

/// The stack of a thread that runs no code of the program's.
const OWN_STACK: usize = 128 * 1024;

/// How much more a thread has that lives as long as its link. The system keeps the stacks of threads that
/// have ended for the next that fit, with what was touched of them: those of attempts, which touch
/// much, must not become those of an idle connection.
const LASTING_MORE: usize = 64 * 1024;

/// The least that a program may choose for its own code: this library's needs some of it too.
pub(crate) const LEAST_STACK: usize = 256 * 1024;

/// As much as std gives to a thread, and no less than is needed here. Like std, it asks the
/// environment once.
pub(crate) fn usual_stack() -> usize {
    static USUAL: LazyLock<usize> =
        LazyLock::new(|| stack_of(std::env::var("RUST_MIN_STACK").ok().as_deref()));
    *USUAL
}

fn stack_of(variable: Option<&str>) -> usize {
    let chosen = variable.and_then(|size| size.parse().ok());
    chosen.unwrap_or(2 * 1024 * 1024).max(LEAST_STACK)
}

/// What a thread is for. Which code of the program's runs on which thread is said once, in
/// `src/guide/threads.md`; `tests/stacks.rs` holds that table against a client and a server that call
/// all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A client's life.
    Manager,
    /// One attempt to make a link.
    Opening,
    /// One lookup of a name.
    Resolver,
    /// One call of the program's connector.
    Connector,
    Reader,
    Writer,
    Heartbeat,
    /// Hands messages to a channel.
    Inbox,
    /// Watches over a call of the program's code that holds the manager up.
    Watch,
    Accept,
    /// Tells one client that there is no room.
    Refuse,
    /// A session, from its first byte to its last.
    Session,
    /// The handler of a session that can be resumed.
    Handler,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Opening => "opening",
            Self::Resolver => "resolver",
            Self::Connector => "connector",
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Heartbeat => "heartbeat",
            Self::Inbox => "inbox",
            Self::Watch => "watch",
            Self::Accept => "accept",
            Self::Refuse => "refuse",
            Self::Session => "session",
            Self::Handler => "handler",
        }
    }

    /// Marks the current thread as one of the client or session with this number. A handler's is the
    /// program's: it may wait.
    fn belong_to(self, id: u64) {
        self.show(id);
        if !matches!(self, Self::Session | Self::Handler) {
            OWNER.set(id);
        }
        CARRIES.set(matches!(self, Self::Reader | Self::Writer));
    }

    /// The kernel keeps 15 bytes of a name, which debuggers and `top` show: the role has to be among
    /// them.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn show(self, id: u64) {
        let mut name = format!("el{id}-{}", self.name());
        name.truncate(15);
        if let Ok(name) = std::ffi::CString::new(name) {
            // a thread by its long name is one all the same
            let _ = rustix::thread::set_name(&name);
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn show(self, _: u64) {}

    /// How much stack it has, if code of the program's gets so much. Its logger and its recorder of
    /// metrics are such code.
    fn stack(self, program: usize) -> usize {
        match self {
            Self::Inbox | Self::Refuse => OWN_STACK,
            Self::Opening | Self::Resolver | Self::Connector | Self::Watch => program,
            Self::Manager
            | Self::Reader
            | Self::Writer
            | Self::Heartbeat
            | Self::Accept
            | Self::Session
            | Self::Handler => program.saturating_add(LASTING_MORE),
        }
    }
}

thread_local! {
    static OWNER: Cell<u64> = const { Cell::new(0) };
    static CARRIES: Cell<bool> = const { Cell::new(false) };
    static HERE: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Relaxed)
    };
    /// Dropped at the very end of a thread.
    static ENDS: Cell<Option<Sender<Infallible>>> = const { Cell::new(None) };
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

/// How the threads of one client or server are started, and who of them runs.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    id: u64,
    /// For the program's code.
    stack: usize,
    /// Those that nobody else joins.
    running: Arc<Mutex<Vec<Running>>>,
}

#[derive(Debug)]
struct Running {
    role: Role,
    thread: JoinHandle<()>,
    /// Disconnects when the thread has nothing left to do, the destructors of the program's
    /// thread-locals included.
    ended: Receiver<Infallible>,
}

impl Threads {
    pub(crate) fn of(id: u64, stack: usize) -> Self {
        Self { id, stack, running: Arc::default() }
    }

    /// Those of a session, which end with its server.
    pub(crate) fn of_session(&self, id: u64) -> Self {
        Self { id, ..self.clone() }
    }

    /// Starts a thread that its starter joins. It ends without a panic.
    pub(crate) fn spawn(
        &self,
        role: Role,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let (id, name) = (self.id, self.name(role));
        self.builder(role)?.spawn(move || {
            role.belong_to(id);
            if let Err(panic) = caught(run) {
                // the logger is the program's, too
                let _ = caught(|| {
                    log::error!(
                        "{name} panicked: {panic}: please report this as a bug of everlink"
                    );
                });
            }
        })
    }

    /// The current thread takes this role from here on.
    pub(crate) fn take_role(&self, role: Role) {
        role.belong_to(self.id);
    }

    /// Starts a thread for [`Threads::join`].
    pub(crate) fn start(&self, role: Role, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.sweep();
        let (ends, ended) = bounded(0);
        // held until it is there: the program may close as soon as it sees the thread at work
        let mut running = self.running.lock();
        let thread = self.spawn(role, move || {
            // before any of the program's, so it is the last to be dropped
            ENDS.set(Some(ends));
            run();
        })?;
        running.push(Running { role, thread, ended });
        Ok(())
    }

    /// Starts a thread that borrows from this one.
    pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        role: Role,
        run: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        let id = self.id;
        self.builder(role)?.spawn_scoped(scope, move || {
            role.belong_to(id);
            run()
        })
    }

    /// Waits until those that were started as one of these have ended, and joins them; returns whether
    /// all have, those that they have started meanwhile included.
    pub(crate) fn join(&self, deadline: Instant, is_meant: impl Fn(Role) -> bool) -> bool {
        loop {
            let running = self.running.lock();
            let meant = running.iter().filter(|running| is_meant(running.role));
            let meant: Vec<_> = meant.map(|running| running.ended.clone()).collect();
            drop(running);
            let is_over = |ended: &Receiver<Infallible>| {
                ended.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected)
            };
            let all = meant.iter().all(is_over);
            self.sweep();
            if meant.is_empty() || !all {
                return all;
            }
        }
    }

    /// Joins those that have ended, which takes no time.
    fn sweep(&self) {
        let mut running = self.running.lock();
        let is_over =
            |running: &Running| running.ended.try_recv() == Err(TryRecvError::Disconnected);
        let (over, left): (Vec<_>, _) =
            std::mem::take(&mut *running).into_iter().partition(is_over);
        *running = left;
        drop(running);
        for running in over {
            let _ = running.thread.join();
        }
    }

    fn name(&self, role: Role) -> String {
        format!("{}-{}", thread_prefix(self.id), role.name())
    }

    fn builder(&self, role: Role) -> io::Result<Builder> {
        builder(self.name(role), role.stack(self.stack))
    }
}

/// Starts a thread that runs no code of the program's.
#[cfg(feature = "chaos")]
pub(crate) fn spawn_own<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    builder(name, OWN_STACK)?.spawn(run)
}

fn builder(name: String, stack: usize) -> io::Result<Builder> {
    #[cfg(test)]
    tests::may_start(&name)?;
    Ok(Builder::new().name(name).stack_size(stack))
}

/// Runs code on the current thread as on one of the client with this number without which none of its
/// threads sends: it holds what they send with, and must not wait for them.
pub(crate) fn carrying<T>(client: u64, run: impl FnOnce() -> T) -> T {
    let before = (OWNER.replace(client), CARRIES.replace(true));
    let result = run();
    OWNER.set(before.0);
    CARRIES.set(before.1);
    result
}

/// Whether the current thread is one without which no thread of its client sends or receives.
pub(crate) fn carries() -> bool {
    CARRIES.get()
}

/// The number of the current thread: never 0.
pub(crate) fn here() -> u64 {
    HERE.with(|number| *number)
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
    use crate::config::Backoff;
    use crate::{Client, Event, Failure, Server};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// The name of the thread for which the system has no room, as far as these tests go.
    static REFUSED: Mutex<String> = Mutex::new(String::new());

    #[test]
    fn a_small_stack_in_the_environment_is_no_wrong_setting() {
        let sizes = [None, Some("x"), Some("131072"), Some("4194304")].map(super::stack_of);
        assert_eq!(sizes, [2 << 20, 2 << 20, super::LEAST_STACK, 4 << 20]);
    }

    pub(super) fn may_start(name: &str) -> io::Result<()> {
        if *REFUSED.lock().unwrap() == name {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    fn refuse(name: String) {
        *REFUSED.lock().unwrap() = name;
    }

    /// Elsewhere nothing shows them: four, as there have to be.
    fn threads_of(client: &Client) -> usize {
        if !cfg!(target_os = "linux") {
            return 4;
        }
        // a thread that has just started has the beginning of the long name
        let prefixes = ["everlink-", "el"].map(|start| format!("{start}{}-", client.id()));
        let tasks = std::fs::read_dir("/proc/self/task").expect("this test needs /proc");
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
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
        for role in ["opening", "resolver", "reader", "writer", "heartbeat"] {
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
