//! What is set on sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::options::options;

options! {
    /// What is set on every socket, dialed or accepted, for either builder. Nagle's algorithm is always
    /// off: small messages are gathered before they are written.
    ///
    /// | | default | range | has an effect |
    /// | --- | --- | --- | --- |
    /// | [`keepalive`](Self::keepalive), [`user_timeout`](Self::user_timeout) | off | 1 s to 32767 s | without a connector, and not on a Unix socket |
    /// | [`send_buffer`](Self::send_buffer), [`receive_buffer`](Self::receive_buffer) | the system's choice | 1 to 2147483647 bytes | without a connector |
    /// | [`local_address`](Self::local_address) | the system's choice | | for a client without a connector |
    /// | [`writes`](Self::writes) | [`Writes::Direct`] | | always |
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::config::SocketOptions;
    /// use everlink::{Client, Server};
    ///
    /// let probed = SocketOptions::new().keepalive(Duration::from_secs(60));
    /// let client = Client::builder("ws://localhost:9001").socket(probed);
    /// let server = Server::builder().socket(probed);
    /// # let _ = (client, server);
    /// ```
    SocketOptions {
        /// Has the kernel probe a connection that was idle for this long, and then as often again
        /// (`SO_KEEPALIVE`). It notices peers that are gone, not peers that hang: the heartbeat does
        /// both. Default: off.
        keepalive: Duration, set(time), serde with "crate::seconds::optional";

        /// Has the kernel end a connection whose written data was not acknowledged for this long
        /// (`TCP_USER_TIMEOUT`, RFC 5482). Linux only; elsewhere it does nothing. Default: off.
        user_timeout: Duration, set(time), serde with "crate::seconds::optional";

        /// The size of the socket's send buffer in bytes (`SO_SNDBUF`). Default: the system chooses,
        /// and adapts it.
        send_buffer: usize, set(bytes);

        /// The size of the socket's receive buffer in bytes (`SO_RCVBUF`). Default: the system chooses,
        /// and adapts it.
        receive_buffer: usize, set(bytes);

        /// Dials from this local address; port 0 leaves the port to the system.
        local_address: SocketAddr, set(address);

        /// Which threads write to the socket. Default: [`Writes::Direct`].
        writes: Writes, set(writes);
    }
}

/// Which threads write to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Writes {
    /// A thread that sends writes by itself when the writer thread has nothing to do, the message
    /// is small (at most 16 KiB) and the write cannot block (the default). It does so at most once
    /// for each time that something was received, so a burst is still written by the writer thread
    /// in large pieces, and with each message that is published to many. It saves an answer two switches of threads. Plain sockets on Linux only;
    /// elsewhere it is as [`WriterThread`](Self::WriterThread).
    #[default]
    Direct,
    /// The writer thread alone writes: sending never costs the caller a system call.
    WriterThread,
}

impl SocketOptions {
    /// Where to dial from.
    pub(crate) fn bound_to(&self) -> Option<SocketAddr> {
        self.local_address
    }

    /// Whether threads that send may write to the socket themselves.
    pub(crate) fn sends_directly(&self) -> bool {
        self.writes.unwrap_or_default() == Writes::Direct
    }

    /// The first option with a value that the kernel would not take, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        for (option, value) in [
            ("SocketOptions::keepalive", self.keepalive),
            ("SocketOptions::user_timeout", self.user_timeout),
        ] {
            if let Some(time) = value.filter(|time| !(MIN_KERNEL..=MAX_KERNEL).contains(time)) {
                let reason = format!("{time:?} is not within {MIN_KERNEL:?} and {MAX_KERNEL:?}");
                return Err((option, reason));
            }
        }
        for (option, value) in [
            ("SocketOptions::send_buffer", self.send_buffer),
            ("SocketOptions::receive_buffer", self.receive_buffer),
        ] {
            if let Some(size) = value.filter(|size| !(1..=MAX_BUFFER).contains(size)) {
                let reason = format!("{size} bytes are not within 1 and {MAX_BUFFER}");
                return Err((option, reason));
            }
        }
        Ok(())
    }

    pub(crate) fn apply(&self, socket: SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if let Some(time) = self.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(time))?;
        }
        self.apply_buffers(&socket)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(time) = self.user_timeout {
            socket.set_tcp_user_timeout(Some(time))?;
        }
        Ok(())
    }

    /// What a socket that is none of TCP has as well.
    pub(crate) fn apply_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }
}

/// No timeout of the kernel's is longer: what `TCP_KEEPIDLE` takes, in seconds (tcp(7)).
const MAX_KERNEL: Duration = Duration::from_secs(32_767);

/// What the kernel is told in whole seconds cannot be shorter.
const MIN_KERNEL: Duration = Duration::from_secs(1);

/// The sizes of a socket's buffers: a positive `int`.
const MAX_BUFFER: usize = i32::MAX as usize;
