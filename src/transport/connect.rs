//! A transport of the program's own instead of TCP.

use std::io;

use super::Duplex;

/// Makes the connection below TLS and WebSocket: a Unix socket, a tunnel, a test double. Every
/// closure of the right shape is one.
///
/// ```no_run
/// use std::os::unix::net::UnixStream;
/// use everlink::Client;
///
/// let client = Client::builder("ws://localhost/")
///     .connector(|_: &str, _: u16| Ok(UnixStream::connect("/run/feed.sock")?.into()))
///     .connect()?;
/// # Ok::<(), everlink::Error>(())
/// ```
///
/// A TLS of another make is in `examples/native_tls`, in the repository: it says what came and is no data yet
/// ([`Reason`](super::Reason)), as the library's own does.
///
/// It runs on a thread of its own. The client waits for it no longer than
/// [connect timeout](crate::config::Timeouts::connect), and `close` not at all; a connection
/// that comes too late is dropped. Nothing can stop a call that hangs: while four do, no attempt calls
/// it again, and each fails with words that say so. Have it come back by itself, in about the connect
/// timeout.
pub trait Connect: Send + Sync + 'static {
    /// Connects to what the URL names.
    ///
    /// # Errors
    ///
    /// Whatever is in the way; the client retries.
    fn connect(&self, host: &str, port: u16) -> io::Result<Duplex>;
}

impl<F> Connect for F
where
    F: Fn(&str, u16) -> io::Result<Duplex> + Send + Sync + 'static,
{
    fn connect(&self, host: &str, port: u16) -> io::Result<Duplex> {
        self(host, port)
    }
}
