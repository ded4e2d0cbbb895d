//! Connections to Redis: each is made anew when it fails.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use redis::{Connection, RedisResult};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often something is tried for a client that waits: a connection and the one after it may be cut
/// by the same cause.
const TRIES: usize = 3;

/// Between two attempts to reach Redis.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection that is made anew when it fails.
pub struct Store {
    client: redis::Client,
    connection: Option<Connection>,
    stopped: Receiver<()>,
}

impl Store {
    /// `stopped` disconnects when there is no use in trying again.
    pub fn new(url: &str, stopped: Receiver<()>) -> RedisResult<Self> {
        Ok(Self { client: redis::Client::open(url)?, connection: None, stopped })
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }

    /// Once. A connection is kept only if that succeeds: after a failure, or a panic, nobody knows
    /// which answer comes next on it.
    pub fn attempt<T>(
        &mut self,
        act: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let done = act(&mut connection)?;
        self.connection = Some(connection);
        Ok(done)
    }

    /// Does this until it succeeds; `None` if the process is to end. Whatever is done has to be
    /// the same if it is done twice.
    pub fn persist<T>(&mut self, act: impl Fn(&mut Connection) -> RedisResult<T>) -> Option<T> {
        loop {
            match self.attempt(&act) {
                Ok(done) => return Some(done),
                Err(error) => log::warn!("redis: {error}"),
            }
            if self.stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                return None;
            }
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.try_recv() == Err(TryRecvError::Disconnected)
    }
}

/// A few connections for all handlers. One is taken for one call, never for as long as a client
/// takes to read.
pub struct Pool {
    back: Sender<Store>,
    idle: Receiver<Store>,
}

impl Pool {
    pub fn new(size: usize, open: impl Fn() -> RedisResult<Store>) -> RedisResult<Self> {
        let (back, idle) = bounded(size);
        for _ in 0..size {
            // as many as fit
            let _ = back.try_send(open()?);
        }
        Ok(Self { back, idle })
    }

    /// Waits for a connection and does this; again on a new one if that fails, for a connection may
    /// have been cut, however new it is. It has to be the same if it is done twice.
    pub fn attempt<T>(&self, act: impl Fn(&mut Connection) -> RedisResult<T>) -> crate::Result<T> {
        let mut lease = Lease { pool: self, store: Some(self.idle.recv()?) };
        let store = lease.store.as_mut().ok_or("no connection")?;
        for _ in 1..TRIES {
            match store.attempt(&act) {
                Err(error) => log::info!("redis: {error}"),
                result => return Ok(result?),
            }
        }
        Ok(store.attempt(&act)?)
    }
}

/// Gives the connection back when it is dropped, also by a panic.
struct Lease<'a> {
    pool: &'a Pool,
    store: Option<Store>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            let _ = self.pool.back.try_send(store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_cut_when_it_is_new_is_made_again() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let redis = std::thread::spawn(move || {
            for _ in 1..TRIES {
                drop(listener.accept().unwrap());
            }
            let (mut stream, _) = listener.accept().unwrap();
            let mut buf = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buf) {
                let commands = buf[..count].iter().filter(|byte| **byte == b'*').count();
                stream.write_all("+OK\r\n".repeat(commands).as_bytes()).unwrap();
            }
        });
        let (_stop, stopped) = bounded(0);
        let pool = Pool::new(1, || Store::new(&url, stopped.clone())).unwrap();
        let answer = pool.attempt(|to| redis::cmd("PING").query::<String>(to));
        assert_eq!(answer.unwrap(), "OK");
        drop(pool);
        redis.join().unwrap();
    }

    #[test]
    fn a_connection_comes_back_after_an_error_and_after_a_panic() {
        let (_stop, stopped) = bounded(0);
        // nothing is connected before it is used
        let open = || Store::new("redis+unix:///nowhere/at-all.sock", stopped.clone());
        let pool = Pool::new(1, open).unwrap();
        assert!(pool.attempt(|_| Ok(())).is_err());
        let panicking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _lease = Lease { pool: &pool, store: pool.idle.try_recv().ok() };
            panic!("a handler");
        }));
        assert!(panicking.is_err());
        assert_eq!(pool.idle.len(), 1);
    }
}
