//! Names to addresses, the program's way.

use std::io;
use std::net::SocketAddr;

/// Turns a host's name into addresses; every closure of the right shape is one. It is not asked when
/// a URL has an address instead of a name.
///
/// It runs on a thread of its own and may block for as long as it likes: the client waits for
/// it no longer than the [timeout of the lookup](crate::config::Timeouts::dns), and `close` not at all.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, the best first, each with `port`.
    ///
    /// # Errors
    ///
    /// Whatever is in the way; the client retries.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

impl<F> Resolve for F
where
    F: Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
{
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self(host, port)
    }
}
