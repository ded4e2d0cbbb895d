//! The accepting side: the same three threads for each connection, and a handler.

mod accept;
mod accepted;
mod acceptor;
mod admission;
mod answer;
mod arrival;
mod attachment;
mod builder;
mod core;
mod forwarded;
mod greeting;
mod incoming;
mod journal;
mod listener;
mod members;
pub(crate) mod networks;
mod newcomer;
mod opening;
mod opening_rate;
mod owner;
mod peer;
mod peer_info;
mod presence;
mod proxies;
pub(crate) mod proxy_protocol;
mod registry;
mod resumable;
mod resumption;
mod serve;
mod session;
mod session_core;
mod session_handler;
mod shutdown_report;
mod slow_session;
mod subnet;
#[cfg(feature = "tls")]
mod tls;
mod topics;
mod totals;

use std::fmt;
use std::net::ToSocketAddrs;
use std::ops::Deref;

pub use accepted::Accepted;
pub use answer::Answer;
pub use builder::ServerBuilder;
pub use forwarded::ForwardedHeader;
pub use incoming::Incoming;
pub use listener::Listener;
pub use presence::Presence;
pub use session::{ServerHandle, Session};
pub use session_handler::SessionHandler;
pub use shutdown_report::ShutdownReport;
pub use slow_session::SlowSession;

use crate::error::Error;

/// A server of WebSockets, or of framed TCP, on threads.
///
/// Each connection gets a thread for its handler, and the reader, writer and heartbeat threads
/// that a client's link has. The handler is straight-line code: receive, send, return.
///
/// ```no_run
/// use everlink::Server;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:9001", |session| {
///     for message in session.iter() {
///         if session.send(message).is_err() {
///             break;
///         }
///     }
/// })?;
/// println!("listening on {}", server.local_addr());
/// # server.shutdown(std::time::Duration::from_secs(1));
/// # Ok(())
/// # }
/// ```
///
/// # Memory
///
/// What its clients can make a server hold, by default: until the handshake is done 64 KiB of each
/// request ([`max_connections`](ServerBuilder::max_connections) of them); of each session an
/// unfinished message ([`Limits::message`](crate::config::Limits::message), 1 MiB), what waits to
/// be received ([`inbox`](ServerBuilder::inbox), 1 MiB and a message) and what waits to be sent to a
/// client that does not read ([`outbox`](ServerBuilder::outbox), 16 MiB). For 1024 connections
/// that is 3 GiB if handlers receive nothing and 16 more if they go on sending.
/// What came compressed counts as what it inflates to. A [channel](ServerBuilder::bind_with_channel) has one message
/// more in its hands.
///
/// [`memory_limit`](ServerBuilder::memory_limit) puts a bound on the sum: besides it there are 48 KiB
/// for each session that do not count, its threads and buffers, and one message in each outbox. Threads and
/// buffers are 72 KiB when a session is idle; under load 128 KiB are read at once, 64 KiB of short messages
/// are on their way to the inbox, and what was messages is kept to be used again, for a second: 1 MiB of large ones and
/// as much of short ones, twice that where texts and bytes are mixed, if so much was there at once.
///
/// Dropping it shuts it down like [`ServerHandle::shutdown`], with the closing timeout. A
/// [`ServerHandle`] does not.
#[must_use = "the server is shut down when this is dropped: keep it in a variable (`let _ =` drops it at once)"]
pub struct Server {
    handle: ServerHandle,
}

impl Server {
    fn new(handle: ServerHandle) -> Self {
        Self { handle }
    }

    /// Listens with default settings, and serves each connection with the handler.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let _ = session.send("hello");
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "hello");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`ServerBuilder::bind`].
    pub fn bind(
        address: impl ToSocketAddrs,
        handler: impl Fn(Session) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::builder().bind(address, handler)
    }

    /// Every setting, with its default.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// A handle that can be cloned, for handlers and other threads. It does not keep the server
    /// running.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }
}

/// What a handle can do, the server can: it has one of its own.
impl Deref for Server {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown_at_drop();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("handle", &self.handle).finish()
    }
}
