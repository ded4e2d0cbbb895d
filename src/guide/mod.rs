//! The guide: one page for each question that comes up.
//!
//! | | |
//! | --- | --- |
//! | [quick start](quick_start) | A client that stays connected, and a server for it to talk to. |
//! | [`heartbeats`] | How dead peers are noticed, and which values to choose. |
//! | [`backoff`] | When the next attempt is made, and what happens when a thousand clients lose their server at once. |
//! | [`delivery`] | What happens to messages when a link dies. |
//! | [`sessions`] | Sessions that survive their connection: nothing lost, nothing twice, both ways. |
//! | [`calls`] | Questions and answers: OCPP, JSON-RPC, Redis. |
//! | [`protocols`] | Other people's protocols: which pieces NATS, MQTT, Redis, PostgreSQL, XMPP and others need. |
//! | [`login`] | Proving who you are, on every link anew. |
//! | [`compression`] | permessage-deflate (RFC 7692): when it helps, what it costs, when it is dangerous. |
//! | [`tls`] | `wss://` and `tcps://`: private authorities, client certificates, and certificates that change. |
//! | [`proxies`] | Through HTTP and SOCKS5 proxies, and behind reverse proxies. |
//! | [framed tcp](framed_tcp) | `tcp://` and `tcps://`: everything but the WebSocket. |
//! | [`server`] | The accepting side. |
//! | [`threads`] | Which thread does what, what wakes it, and what an idle connection costs. |
//! | [`systems`] | What differs between Linux, macOS, Windows and others. |
//! | [`closing`] | How links end, what the codes mean, and what follows. |
//! | [`watching`] | Events, status, counters and logs. |
//! | [`testing`] | What does your program do when the connection dies? Try it. |
//! | [from tungstenite](from_tungstenite) | Moving from raw tungstenite. |
//! | [from tokio tungstenite](from_tokio_tungstenite) | Moving from tokio-tungstenite, for a program that has no other use for an async runtime. |
//! | [from ezsockets](from_ezsockets) | Moving from ezsockets, which reconnects too, on tokio. |
//! | [from c](from_c) | C, C++ and Python; moving from IXWebSocket and from websocket-client. |
//! | [several servers](several_servers) | More than one server process. |
//!
//! The programs in it are compiled, and most of them run, as tests.

#[doc = include_str!("quick_start.md")]
pub mod quick_start {}

#[doc = include_str!("heartbeats.md")]
pub mod heartbeats {}

#[doc = include_str!("backoff.md")]
pub mod backoff {}

#[doc = include_str!("delivery.md")]
pub mod delivery {}

#[doc = include_str!("sessions.md")]
pub mod sessions {}

#[doc = include_str!("calls.md")]
pub mod calls {}

#[doc = include_str!("protocols.md")]
pub mod protocols {}

#[doc = include_str!("login.md")]
pub mod login {}

#[cfg(feature = "deflate")]
#[doc = include_str!("compression.md")]
pub mod compression {}

#[cfg(feature = "tls")]
#[doc = include_str!("tls.md")]
pub mod tls {}

#[doc = include_str!("proxies.md")]
pub mod proxies {}

#[doc = include_str!("framed_tcp.md")]
pub mod framed_tcp {}

#[doc = include_str!("server.md")]
pub mod server {}

#[doc = include_str!("threads.md")]
pub mod threads {}

#[doc = include_str!("systems.md")]
pub mod systems {}

#[doc = include_str!("closing.md")]
pub mod closing {}

#[doc = include_str!("watching.md")]
pub mod watching {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("from_tungstenite.md")]
pub mod from_tungstenite {}

#[doc = include_str!("from_tokio_tungstenite.md")]
pub mod from_tokio_tungstenite {}

#[doc = include_str!("from_ezsockets.md")]
pub mod from_ezsockets {}

#[doc = include_str!("from_c.md")]
pub mod from_c {}

#[doc = include_str!("several_servers.md")]
pub mod several_servers {}
