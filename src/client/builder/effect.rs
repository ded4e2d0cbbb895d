//! Which settings can have an effect on which connections. What cannot have any is refused at the
//! start: whoever has set it expects something of it.

use super::ClientBuilder;
use crate::client::route::Route;
use crate::error::Error;

/// Where a setting matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Always,
    /// On `ws://` and `wss://`, whose opening handshake is HTTP.
    Opening,
    /// On `ws://` and `wss://`, whose messages are frames.
    Frames,
    /// On `tcp://` and `tcps://`.
    Framed,
    /// Where there is TLS, or a redirect or the program may lead to it.
    Tls,
    /// Where anything is agreed on before messages travel: a proxy, TLS, an opening handshake.
    Handshake,
    /// Where this crate makes the connections, and not a connector of the program's.
    Dialing,
    /// Where names are looked up by this crate.
    Lookup,
    /// With a login hook.
    Login,
    /// Without a handler of messages.
    Inbox,
    /// Where sessions survive their links.
    Resuming,
}

/// Every setter of [`ClientBuilder`].
const EFFECTS: [(&str, Effect); 40] = [
    ("backoff", Effect::Always),
    ("basic_auth", Effect::Opening),
    ("bearer_auth", Effect::Opening),
    ("bearer_auth_with", Effect::Opening),
    ("channel", Effect::Inbox),
    ("compression", Effect::Frames),
    ("connect_to", Effect::Dialing),
    ("connector", Effect::Always),
    ("decide", Effect::Always),
    ("delivery", Effect::Always),
    ("fallback", Effect::Always),
    ("framing", Effect::Framed),
    ("header", Effect::Opening),
    ("heartbeat", Effect::Always),
    ("inbox", Effect::Inbox),
    ("keep_cookies", Effect::Opening),
    ("limits", Effect::Always),
    ("login", Effect::Always),
    ("max_attempts", Effect::Always),
    ("max_deliveries", Effect::Always),
    ("max_redirects", Effect::Opening),
    ("max_retry_after", Effect::Opening),
    ("name", Effect::Always),
    ("on_dropped", Effect::Always),
    ("on_event", Effect::Always),
    ("on_message", Effect::Always),
    ("outbox", Effect::Always),
    ("proxy", Effect::Dialing),
    ("proxy_from_env", Effect::Dialing),
    ("request", Effect::Always),
    ("resolver", Effect::Lookup),
    ("resume", Effect::Opening),
    // the endpoints may come from a list that happens to be short
    ("shuffle_endpoints", Effect::Always),
    ("socket", Effect::Always),
    ("stable_after", Effect::Always),
    ("stack_size", Effect::Always),
    ("subprotocol", Effect::Opening),
    ("timeouts", Effect::Always),
    ("tls", Effect::Tls),
    ("unconfirmed", Effect::Resuming),
];

/// Every option of the values that some setters take.
const OPTIONS: [(&str, Effect); 15] = [
    ("Timeouts::dns", Effect::Lookup),
    ("Timeouts::connect", Effect::Always),
    ("Timeouts::handshake", Effect::Handshake),
    ("Timeouts::login", Effect::Login),
    ("Timeouts::write", Effect::Always),
    ("Timeouts::close", Effect::Always),
    ("Limits::message", Effect::Always),
    ("Limits::frame", Effect::Frames),
    ("Limits::fragment", Effect::Frames),
    ("SocketOptions::keepalive", Effect::Dialing),
    ("SocketOptions::user_timeout", Effect::Dialing),
    ("SocketOptions::send_buffer", Effect::Dialing),
    ("SocketOptions::receive_buffer", Effect::Dialing),
    ("SocketOptions::local_address", Effect::Dialing),
    ("SocketOptions::writes", Effect::Always),
];

/// What a client's connections are like, as far as settings depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) is_websocket: bool,
    /// Whether one of the endpoints wants TLS.
    pub(super) is_tls: bool,
}

impl ClientBuilder {
    /// Refuses what was set and cannot have an effect.
    pub(super) fn check_effects(&self, kind: Kind) -> Result<(), Error> {
        self.settings.chosen.check(|setting| {
            let known = EFFECTS.iter().chain(&OPTIONS).find(|(name, _)| *name == setting);
            known.and_then(|(_, effect)| self.obstacle(*effect, kind))
        })
    }

    /// Why there can be no such effect, if that is so.
    fn obstacle(&self, effect: Effect, kind: Kind) -> Option<&'static str> {
        let Kind { is_websocket, is_tls } = kind;
        // the program may name another endpoint before each attempt
        let may_be_tls = is_tls
            || self.request_hook.is_some()
            || is_websocket && self.settings.max_redirects > 0;
        let has_proxy = self.connector.is_none() && !matches!(self.route, Route::Straight);
        let (is_possible, obstacle) = match effect {
            Effect::Always => (true, ""),
            Effect::Opening => (is_websocket, "tcp:// has no opening handshake"),
            Effect::Frames => (is_websocket, "tcp:// has no frames"),
            Effect::Framed => (!is_websocket, "ws:// has a framing of its own"),
            Effect::Tls => {
                (may_be_tls, "no endpoint wants TLS, and nothing leads to one that does")
            }
            Effect::Handshake => (
                is_websocket || may_be_tls || has_proxy,
                "plain tcp:// without a proxy shakes no hands",
            ),
            Effect::Dialing => (
                self.connector.is_none(),
                "the connector makes the connections, and knows nothing of it",
            ),
            Effect::Lookup if self.connect_to.is_some() => {
                (false, "connect_to says which address is dialed")
            }
            Effect::Lookup => return self.obstacle(Effect::Dialing, kind),
            Effect::Resuming => (self.settings.resume, "without resume(true) no session is kept"),
            Effect::Login => (self.login_hook.is_some(), "there is no login hook"),
            Effect::Inbox => {
                (self.on_message.is_none(), "with on_message nothing is queued to be received")
            }
        };
        (!is_possible).then_some(obstacle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The setters and their bodies, as they are written.
    fn setters() -> Vec<(&'static str, &'static str)> {
        let sources = [
            include_str!("mod.rs"),
            include_str!("route.rs"),
            include_str!("timing.rs"),
            include_str!("traffic.rs"),
            include_str!("../../settings/setters.rs"),
        ];
        let functions = sources.iter().flat_map(|source| source.split(" pub fn ").skip(1));
        functions
            .map(|function| (function.split('(').next().unwrap_or_default(), function))
            .collect()
    }

    #[test]
    fn every_setter_is_known_here_and_says_that_it_was_called() {
        let setters = setters();
        for (name, body) in &setters {
            let known = EFFECTS.iter().filter(|(known, _)| known == name).count();
            assert_eq!(known, 1, "say in EFFECTS where {name} matters");
            let note = format!("self.settings.chosen.add(\"{name}\");");
            assert!(body.contains(&note), "{name} does not note that it was called");
        }
        assert_eq!(setters.len(), EFFECTS.len(), "EFFECTS has a setter that is none");
        for (option, _) in OPTIONS {
            let (value, option) = option.split_once("::").unwrap();
            let source = match value {
                "Timeouts" => include_str!("../../policy/timeouts.rs"),
                "Limits" => include_str!("../../policy/limits.rs"),
                _ => include_str!("../../policy/socket.rs"),
            };
            assert!(source.contains(&format!("pub fn {option}(mut self")), "{value}::{option}");
        }
    }
}
