//! Which settings can have an effect on which connections. What cannot have any is refused at the
//! start: whoever has set it expects something of it.

use super::ClientBuilder;
use crate::client::route::Route;
use crate::error::Error;
use crate::settings::no_effect;

/// What a client's connections are like, as far as settings depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) is_websocket: bool,
    /// Whether one of the endpoints wants TLS.
    pub(super) is_tls: bool,
}

impl ClientBuilder {
    /// Refuses what was set and cannot have an effect. Headers on `tcp://` are refused before.
    pub(super) fn check_effects(&self, kind: Kind) -> Result<(), Error> {
        let Kind { is_websocket, is_tls } = kind;
        let settings = &self.settings;
        let timeouts = settings.timeouts.unwrap_or_default();
        let limits = settings.limits.unwrap_or_default();
        let socket = settings.socket();
        let goes_through = matches!(self.route, Route::Through(_));
        let goes_as_env_says = matches!(self.route, Route::AsTheEnvironmentSays(_));
        // the program may name another endpoint before each attempt
        let may_be_tls =
            is_tls || self.request_hook.is_some() || is_websocket && settings.max_redirects() > 0;
        let has_proxy = self.connector.is_none() && (goes_through || goes_as_env_says);
        if is_websocket {
            let why = "ws:// has a framing of its own";
            no_effect(why, &[("framing", settings.framing.is_some())])?;
        } else {
            let why = "tcp:// has no opening handshake";
            no_effect(
                why,
                &[
                    ("bearer_auth_with", self.token_hook.is_some()),
                    ("keep_cookies", self.cookies),
                    ("max_redirects", settings.max_redirects.is_some()),
                    ("max_retry_after", settings.max_retry_after.is_some()),
                    ("resume", settings.resume.is_some()),
                ],
            )?;
            no_effect(
                "tcp:// has no frames",
                &[
                    ("compression", settings.compression.is_some()),
                    ("Limits::frame", limits.frame.is_some()),
                    ("Limits::fragment", limits.fragment.is_some()),
                ],
            )?;
        }
        #[cfg(feature = "tls")]
        if !may_be_tls {
            let why = "no endpoint wants TLS, and nothing leads to one that does";
            no_effect(why, &[("tls", self.tls.is_some())])?;
        }
        if !(is_websocket || may_be_tls || has_proxy) {
            let why = "plain tcp:// without a proxy shakes no hands";
            no_effect(why, &[("Timeouts::handshake", timeouts.handshake.is_some())])?;
        }
        let lookup =
            [("resolver", self.resolve.is_some()), ("Timeouts::dns", timeouts.dns.is_some())];
        if self.connect_to.is_some() {
            no_effect("connect_to says which address is dialed", &lookup)?;
        }
        if self.connector.is_some() {
            let why = "the connector makes the connections, and knows nothing of it";
            no_effect(why, &lookup)?;
            no_effect(
                why,
                &[
                    ("connect_to", self.connect_to.is_some()),
                    ("proxy", goes_through),
                    ("proxy_from_env", goes_as_env_says),
                    ("SocketOptions::keepalive", socket.keepalive.is_some()),
                    ("SocketOptions::user_timeout", socket.user_timeout.is_some()),
                    ("SocketOptions::send_buffer", socket.send_buffer.is_some()),
                    ("SocketOptions::receive_buffer", socket.receive_buffer.is_some()),
                    ("SocketOptions::local_address", socket.local_address.is_some()),
                ],
            )?;
        }
        if self.login_hook.is_none() {
            let why = "there is no login hook";
            no_effect(why, &[("Timeouts::login", timeouts.login.is_some())])?;
        }
        if self.on_message.is_some() {
            let why = "with on_message nothing is queued to be received";
            let inbox = [("inbox", settings.inbox.is_some()), ("channel", settings.has_channel)];
            no_effect(why, &inbox)?;
        }
        if !settings.resume() {
            let why = "without resume(true) no session is kept";
            no_effect(why, &[("unconfirmed", settings.unconfirmed.is_some())])?;
        }
        Ok(())
    }
}
