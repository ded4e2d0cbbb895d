//! Whether the machine was asleep: our timeouts stand still meanwhile, the peer's do not.

use std::time::{Duration, Instant};

/// A smaller difference is no sleep: the two clocks are read one after the other.
const LEAST: Duration = Duration::from_secs(1);

/// Compares a clock that goes on while the machine sleeps with one that does not.
#[derive(Debug)]
pub(super) struct Suspension {
    awake: Instant,
    all: Duration,
}

impl Suspension {
    pub(super) fn new() -> Self {
        Self { awake: Instant::now(), all: all_time() }
    }

    /// Whether the machine slept since this was last asked.
    pub(super) fn is_over(&mut self) -> bool {
        let now = Self::new();
        let awake = now.awake.duration_since(self.awake);
        let all = now.all.saturating_sub(self.all);
        *self = now;
        all.saturating_sub(awake) >= LEAST
    }
}

/// Time since some moment, sleep included; not the wall clock's, which people set.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn all_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let time: Duration = time.try_into().unwrap_or_default();
    #[cfg(test)]
    let time = time + tests::slept();
    time
}

/// The wall clock is the only one that std has: setting it forward costs a ping.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[allow(clippy::disallowed_methods, reason = "there is no other clock that goes on in sleep")]
fn all_time() -> Duration {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let time = time.unwrap_or_default();
    #[cfg(test)]
    let time = time + tests::slept();
    time
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;
    use crate::config::Heartbeat;
    use crate::{Client, Event, Failure};

    static SLEPT: AtomicU64 = AtomicU64::new(0);

    pub(super) fn slept() -> Duration {
        Duration::from_secs(SLEPT.load(SeqCst))
    }

    #[test]
    fn after_a_suspension_the_link_is_asked_at_once_and_has_little_time_to_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        // opens, answers the first ping and is never heard of again
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut socket = tungstenite::accept(stream).unwrap();
            socket.read().unwrap();
            socket.flush().unwrap();
            (socket, listener)
        });
        let heartbeat =
            Heartbeat::every(Duration::from_millis(100)).dead_after(Duration::from_secs(3600));
        let client = Client::builder(&url).heartbeat(heartbeat).connect().unwrap();
        let events = client.subscribe();
        let held = server.join().unwrap();
        SLEPT.fetch_add(3600, SeqCst);
        let event = events.recv_timeout(Duration::from_secs(20)).unwrap();
        let Event::Disconnected { cause, .. } = event else { panic!("{event:?}") };
        assert!(matches!(&*cause, Failure::HeartbeatTimeout { .. }), "{cause:?}");
        drop((client, held));
    }
}
