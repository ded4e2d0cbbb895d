//! What becomes of messages that a dead link had taken.

use std::sync::Arc;

use crate::message::Message;

/// What the program does with a message that will not be sent any more.
pub(crate) type OnDropped = Arc<dyn Fn(Message, Undelivered) + Send + Sync>;

/// What the program makes of a message that is sent again.
pub(crate) type OnResend = Arc<dyn Fn(&Message) -> Message + Send + Sync>;

/// What becomes of messages that were written to a link which died before the peer confirmed
/// them.
///
/// A pong proves that the peer's endpoint has taken everything that was written before its
/// ping: TCP and WebSocket keep the order (RFC 6455 section 5.5.3; a peer may answer only the
/// latest of several pings, which then stands for all). On framed TCP the heartbeat's answer
/// proves the same.
///
/// | | `AtMostOnce` | `AtLeastOnce` |
/// | --- | --- | --- |
/// | order of first arrivals | kept | kept |
/// | loss | some of what was unconfirmed at an outage; the event says how much at most | none, while the client lives, but for a message that ends [link after link](crate::ClientBuilder::max_deliveries) |
/// | duplicates | none | what was unconfirmed at an outage |
/// | the peer must | nothing | answer pings, after what came before them; one that does not is said in [`Event::ConfirmationsMissing`](crate::Event::ConfirmationsMissing) |
/// | costs | nothing | a ping now and then while there is traffic; the unconfirmed messages count in the outbox's bounds |
///
/// Confirmations come in the same stream as messages. A program that waits in `send` for room and
/// leaves the inbox full meanwhile waits for itself: receive on another thread or with a handler,
/// or give the inbox room for all that the outbox can provoke.
///
/// **Not guaranteed** by either: that the application behind the endpoint has processed a
/// message. An intermediary that answers pings itself (some proxies and gateways do) confirms for
/// itself, not for the server behind it. For effects that happen exactly once, give each message
/// an idempotency key and have the receiver ignore keys that it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Delivery {
    /// They are not sent again (the default).
    #[default]
    AtMostOnce,
    /// They are sent again on the next link, first and in order, after the login hook.
    AtLeastOnce,
    /// The same, and what a message is confirmed by is the program's matter: it hears from the service that a
    /// message has arrived, and says so with [`Sender::confirm`](crate::Sender::confirm). Pings confirm
    /// nothing. For services that acknowledge messages themselves: MQTT's `PUBACK`, STOMP's `RECEIPT`.
    /// A question of [`Calls`](crate::Calls) is confirmed by its last answer, and one that was given up is not
    /// sent again. A message without a [key](crate::config::SendOptions::key) is confirmed by number only
    /// ([`Sender::confirm_up_to`](crate::Sender::confirm_up_to), which counts all messages), and sent again on
    /// each link until then. Send what the service never acknowledges
    /// [for its link only](crate::config::SendOptions::this_link_only): it is not sent again.
    UntilConfirmed,
}

impl Delivery {
    /// Whether what a dead link had taken is sent again.
    pub(crate) fn resends(self) -> bool {
        self != Self::AtMostOnce
    }
}

/// Why a message is not, or not surely, with the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Undelivered {
    /// The link died after the message was written and before the peer confirmed it, and it is not
    /// sent again: [`Delivery::AtMostOnce`](crate::config::Delivery::AtMostOnce) never does that, and with
    /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) its time to live was over first, or a
    /// full outbox dropped it. The peer may or may not have it.
    #[error("lost with its link")]
    Lost,
    /// The outbox's overflow policy dropped it.
    #[error("dropped by the outbox's policy")]
    Dropped,
    /// Its time to live was over before it could be written.
    #[error("expired before it was written")]
    Expired,
    /// The peer has closed a link with 1009, "message too big", and this was the largest message on
    /// it that was not confirmed.
    #[error("the peer found it too large")]
    TooLarge,
    /// It was the first message that was not confirmed when a link ended, on as many links as
    /// [`ClientBuilder::max_deliveries`](crate::ClientBuilder::max_deliveries) allows: it seems to
    /// end the peer. The peer may or may not have it.
    #[error("its links ended too often while it was under way")]
    Poison,
    /// A codec of the program's ([`Framing::custom`](crate::config::Framing::custom)) did not encode it.
    #[error("the framing's codec did not encode it")]
    Refused,
    /// It was for the link that was up at the time
    /// ([`SendOptions::this_link_only`](crate::config::SendOptions::this_link_only)), and that ended before
    /// it was written whole.
    #[error("not written before its link ended")]
    LinkEnded,
    /// It was a question, and nobody waited for the answer any more ([`Calls`](crate::Calls)).
    #[error("withdrawn by the call that sent it")]
    Withdrawn,
    /// The program has taken it back: [`Sender::clear_outbox`](crate::Sender::clear_outbox).
    #[error("taken out of the outbox")]
    Cleared,
    /// The client or session was closed before the peer confirmed it.
    #[error("not delivered before the connection was closed")]
    Closed,
}
