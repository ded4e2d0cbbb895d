//! How long each step may take.

use std::time::Duration;

use super::durations::in_range;
use super::options::options;

options! {
    /// How long each step in the life of a connection may take, for either builder.
    ///
    /// Each is at least 1 ms and at most 1000 days.
    ///
    /// | | what | default | has an effect |
    /// | --- | --- | --- | --- |
    /// | [`dns`](Self::dns) | the name lookup | 10 s | for a client without a connector and `connect_to` |
    /// | [`connect`](Self::connect) | the TCP connection, all addresses of the host together | 10 s | for a client |
    /// | [`handshake`](Self::handshake) | the opening: a proxy's answer, TLS, the opening handshake, redirects | 10 s | unless it is plain `tcp://` without a proxy |
    /// | [`login`](Self::login) | the login hook | 10 s | for a client with a login hook |
    /// | [`write`](Self::write) | the peer takes no byte | 10 s | always |
    /// | [`close`](Self::close) | closing | 5 s | always |
    ///
    /// What can have no effect is refused at the start. With the feature `serde` it is read from a
    /// configuration, each timeout by its name in seconds: `{"handshake": 3, "close": 0.5}`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::config::Timeouts;
    /// use everlink::{Client, Server};
    ///
    /// let brisk = Timeouts::new().handshake(Duration::from_secs(3)).close(Duration::from_secs(1));
    /// let client = Client::builder("ws://localhost:9001").timeouts(brisk);
    /// let server = Server::builder().timeouts(brisk);
    /// # let _ = (client, server);
    /// ```
    Timeouts {
        /// How long the name lookup may take. Default 10 s.
        dns: Duration, set(timeout), serde with "crate::seconds::optional";

        /// How long the TCP connection may take, all addresses of the host together. Default 10 s.
        connect: Duration, set(timeout), serde with "crate::seconds::optional";

        /// How long the whole opening may take from the first connection on: a proxy's answer, TLS, the
        /// opening handshake, and every redirect that is followed. Default 10 s.
        handshake: Duration, set(timeout), serde with "crate::seconds::optional";

        /// How long the login hook's calls may take, all together. Default 10 s. It ends the calls of its
        /// [`LoginSession`](crate::LoginSession), and fails an attempt whose hook returns later; a hook that
        /// waits for something else cannot be interrupted.
        login: Duration, set(timeout), serde with "crate::seconds::optional";

        /// How long the peer may take no byte at all before the link is dead, if it sends none
        /// either. Default 10 s.
        write: Duration, set(timeout), serde with "crate::seconds::optional";

        /// How long closing may take: writing what is queued and the closing handshake (RFC 6455
        /// section 7.1.2) together. Default 5 s. A peer that has sent its own close frame gets at
        /// most 1 s of it to end the stream.
        close: Duration, set(timeout), serde with "crate::seconds::optional";
    }
}

impl Timeouts {
    /// The first option that is out of its range, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        for (option, value) in [
            ("Timeouts::dns", self.dns),
            ("Timeouts::connect", self.connect),
            ("Timeouts::handshake", self.handshake),
            ("Timeouts::login", self.login),
            ("Timeouts::write", self.write),
            ("Timeouts::close", self.close),
        ] {
            value.map_or(Ok(()), in_range).map_err(|reason| (option, reason))?;
        }
        Ok(())
    }

    pub(crate) fn resolved(&self) -> Resolved {
        let ten = Duration::from_secs(10);
        Resolved {
            dns: self.dns.unwrap_or(ten),
            connect: self.connect.unwrap_or(ten),
            handshake: self.handshake.unwrap_or(ten),
            login: self.login.unwrap_or(ten),
            write: self.write.unwrap_or(ten),
            close: self.close.unwrap_or(Duration::from_secs(5)),
        }
    }
}

/// The timeouts with their defaults filled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved {
    pub(crate) dns: Duration,
    pub(crate) connect: Duration,
    pub(crate) handshake: Duration,
    pub(crate) login: Duration,
    pub(crate) write: Duration,
    pub(crate) close: Duration,
}
