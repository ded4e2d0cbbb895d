//! A proxy that breaks things on purpose, to test what a program does then (feature `chaos`).
//!
//! [`FaultProxy`] stands between a client and any TCP server, on a port of its own on loopback, and
//! forwards. [`Faults`] says what goes wrong meanwhile, and can be changed at any time:
//!
//! ```
//! use std::time::Duration;
//! use everlink::chaos::{Cut, Direction, Faults, FaultProxy};
//! use everlink::config::Heartbeat;
//! use everlink::{Client, Event, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("127.0.0.1:0", |session| {
//!     for message in session.iter() {
//!         let _ = session.send(message);
//!     }
//! })?;
//! let proxy = FaultProxy::start(server.local_addr())?;
//! let client = Client::builder(format!("ws://{}", proxy.address()))
//!     .heartbeat(Heartbeat::every(Duration::from_millis(50)))
//!     .connect()?;
//! let events = client.subscribe();
//!
//! // the cable is pulled: nothing arrives, nothing is refused
//! proxy.set(Faults::none().stall(Direction::Both))?;
//! while !matches!(events.recv(), Ok(Event::Disconnected { .. })) {}
//!
//! // and plugged in again; but every connection is reset after 100,000 bytes
//! proxy.set(Faults::none().cut_after(Cut::Reset, 100_000))?;
//! client.wait_connected(Duration::from_secs(30))?;
//! # Ok(())
//! # }
//! ```
//!
//! It has two threads for each connection and one that accepts; dropping the proxy resets what is
//! left and joins them.

mod conditions;
mod connection;
mod faults;
mod listener;

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::sync::threads;
use crate::sync::threads::next_id;
use crate::sync::{Mutex, Ours};
use conditions::Conditions;
use connection::Connection;
use faults::Opening;
pub use faults::{Cut, Direction, Faults};
use listener::Listener;

/// A TCP proxy that breaks things on purpose. See the [module](self).
#[derive(Debug)]
#[must_use = "the proxy ends when this is dropped: keep it in a variable (`let _ =` drops it at once)"]
pub struct FaultProxy {
    shared: Ours<ProxyShared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct ProxyShared {
    name: String,
    address: SocketAddr,
    server: SocketAddr,
    conditions: Conditions,
    /// Never locked while the conditions are.
    connections: Mutex<Vec<Arc<Connection>>>,
}

impl FaultProxy {
    /// Starts a proxy for this server, at first without any fault. Random places are the same
    /// in each run.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    /// use everlink::chaos::FaultProxy;
    ///
    /// let proxy = FaultProxy::start(server.local_addr())?;
    /// let client = Client::connect(format!("ws://{}", proxy.address()))?;
    /// client.send("through the proxy")?;
    /// assert_eq!(client.recv()?, "through the proxy");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The server's name does not resolve, or no socket or thread is to be had.
    pub fn start(server: impl ToSocketAddrs) -> io::Result<Self> {
        Self::with_seed(server, 0)
    }

    /// The same with other random places: those that belong to this seed.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn with_seed(server: impl ToSocketAddrs, seed: u64) -> io::Result<Self> {
        let server = server.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let shared = Arc::new(ProxyShared {
            name: format!("chaos-{}", next_id()),
            address: listener.local_addr()?,
            server,
            conditions: Conditions::new(listener, seed),
            connections: Mutex::default(),
        });
        let run = Arc::clone(&shared);
        let accepting =
            threads::spawn_own(format!("{}-accept", shared.name), move || run.accept())?;
        Ok(Self { shared: Ours::new(shared), accepting: Some(accepting) })
    }

    /// Where clients connect to; the same for the whole life of the proxy.
    pub fn address(&self) -> SocketAddr {
        self.shared.plain().address
    }

    /// Does these faults from here on, to new connections and to those there are; what counts
    /// bytes starts anew.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::chaos::{FaultProxy, Faults};
    /// use everlink::{Client, Error};
    ///
    /// let proxy = FaultProxy::start(server.local_addr())?;
    /// proxy.set(Faults::none().refuse())?;
    /// let url = format!("ws://{}", proxy.address());
    /// assert!(matches!(Client::connect(&url), Err(Error::Connect(_))));
    /// proxy.set(Faults::none())?;
    /// Client::connect(&url)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The port, which was given up to have connections refused, cannot be had back.
    pub fn set(&self, faults: Faults) -> io::Result<()> {
        let Some(shared) = self.shared.get() else {
            return Err(io::Error::other("the proxy is the parent process's"));
        };
        let mut state = shared.conditions.state();
        match (faults.opening == Opening::Refuse, state.listener.is_some()) {
            (true, true) => {
                let listener = state.listener.take();
                if let Some(listener) = &listener {
                    listener.wake();
                }
                // once the accepting thread has let go the port is closed
                while state.is_accepting {
                    state = shared.conditions.wait(state, None);
                }
            }
            (false, false) => state.listener = Some(Arc::new(Listener::bind(shared.address)?)),
            _ => {}
        }
        state.faults = faults;
        state.generation += 1;
        state.cuts_of_these = 0;
        drop(state);
        shared.conditions.notify();
        Ok(())
    }

    /// Cuts all connections that there are now.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::chaos::{Cut, FaultProxy};
    /// use everlink::{Client, Event};
    ///
    /// let proxy = FaultProxy::start(server.local_addr())?;
    /// let client = Client::connect(format!("ws://{}", proxy.address()))?;
    /// let mut events = client.subscribe();
    /// proxy.cut(Cut::Reset);
    /// assert!(events.any(|event| matches!(event, Event::Disconnected { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cut(&self, how: Cut) {
        let Some(shared) = self.shared.get() else { return };
        let connections = shared.connections.lock().clone();
        for connection in connections {
            connection.cut(&shared.conditions, how);
        }
    }

    /// How many connections there are now.
    pub fn connections(&self) -> usize {
        self.shared.get().map_or(0, |shared| shared.connections.lock().len())
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.get().map_or(0, |shared| shared.conditions.state().accepted)
    }

    /// How many connections were cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.get().map_or(0, |shared| shared.conditions.state().cuts)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        let accepting = self.accepting.take();
        let Some(shared) = self.shared.get() else {
            // of a child of the process: there is no such thread
            return std::mem::forget(accepting);
        };
        let mut state = shared.conditions.state();
        state.stopped = true;
        if let Some(listener) = state.listener.take() {
            listener.wake();
        }
        drop(state);
        shared.conditions.notify();
        self.cut(Cut::Reset);
        let threads = || std::mem::take(&mut shared.conditions.state().threads);
        for thread in accepting.into_iter().chain(threads()) {
            // a thread of this module that panics has said so itself
            let _ = thread.join();
        }
        // those that were accepted while the first were joined
        self.cut(Cut::Reset);
        for thread in threads() {
            let _ = thread.join();
        }
    }
}

impl ProxyShared {
    /// Accepts until the proxy is dropped.
    fn accept(self: &Arc<Self>) {
        let mut state = self.conditions.state();
        while !state.stopped {
            let Some(listener) = state.listener.clone() else {
                state = self.conditions.wait(state, None);
                continue;
            };
            state.is_accepting = true;
            drop(state);
            let accepted = listener.accept();
            drop(listener);
            state = self.conditions.state();
            state.is_accepting = false;
            self.conditions.notify();
            match accepted {
                Ok(client) if state.listener.is_some() => {
                    drop(state);
                    if let Err(error) = self.admit(client) {
                        log::warn!("{}: {error}", self.name);
                    }
                    state = self.conditions.state();
                }
                Ok(_) => {}
                // a client that is gone again, or a signal
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) if state.listener.is_some() => {
                    // no descriptors, say: trying again at once would meet it again
                    log::warn!("{}: accept: {error}", self.name);
                    let until = Instant::now() + Duration::from_millis(50);
                    state = self.conditions.wait(state, Some(until));
                }
                Err(_) => {}
            }
        }
    }

    fn admit(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let opening = self.conditions.state().faults.opening;
        client.set_nodelay(true)?;
        if opening == Opening::Reset {
            return SockRef::from(&client).set_linger(Some(Duration::ZERO));
        }
        let server = match opening {
            Opening::Mute => None,
            _ => Some(TcpStream::connect_timeout(&self.server, Duration::from_secs(10))?),
        };
        if let Some(server) = &server {
            server.set_nodelay(true)?;
        }
        let connection = Arc::new(Connection::new(client, server));
        {
            self.connections.lock().push(Arc::clone(&connection));
            let mut state = self.conditions.state();
            state.accepted += 1;
            state.threads.retain(|thread| !thread.is_finished());
        }
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (shared, own) = (Arc::clone(self), Arc::clone(&connection));
            let role = if direction == Direction::ToServer { "up" } else { "down" };
            let thread = threads::spawn_own(format!("{}-{role}", self.name), move || {
                connection::forward(&shared.conditions, &own, direction);
                shared.leave(&own);
            });
            match thread {
                Ok(thread) => self.conditions.state().threads.push(thread),
                Err(error) => {
                    connection.condemn(Cut::Reset);
                    connection.end(Cut::Reset);
                    self.connections.lock().retain(|other| !Arc::ptr_eq(other, &connection));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// One direction of a connection has ended.
    fn leave(&self, connection: &Arc<Connection>) {
        if connection.leave() {
            self.connections.lock().retain(|other| !Arc::ptr_eq(other, connection));
        }
    }
}
