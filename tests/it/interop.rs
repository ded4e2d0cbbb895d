//! Against implementations that nobody here wrote: Python `websockets` and `aiohttp`, Node `ws`, and
//! Chromium; compressed with each of them, too. And framed TCP: `ngircd` and `gpsd`.
//!
//! Says "skipped" unless they are in the folder that the README names.

#[cfg(feature = "tls")]
mod aiohttp;
#[cfg(feature = "deflate")]
mod chromium;
mod lines;
use std::process::Command;
use std::sync::{Arc, mpsc};

use crate::support::peers::{Program, node, python};
use crate::support::{PATIENCE, eventually, init_log, ms, watch};
use everlink::ServerBuilder;
#[cfg(feature = "deflate")]
use everlink::config::Compression;
use everlink::config::Heartbeat;
use everlink::config::{AgreedCompression, Limits};
use everlink::{Answer, Client, ClientBuilder, CloseFrame, Event, Failure, Message, Server};

const SIZES: [usize; 7] = [0, 1, 125, 126, 65_535, 65_536, 16 << 20];

#[derive(Debug, Clone, Copy)]
enum Peer {
    Python,
    #[cfg(feature = "tls")]
    Aiohttp,
    Node,
}

/// How messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deflate {
    /// As they are.
    Off,
    /// Compressed, with context takeover.
    #[cfg(feature = "deflate")]
    Takeover,
    /// Compressed, each by itself.
    #[cfg(feature = "deflate")]
    Alone,
}

impl Deflate {
    /// What the peers' programs are told.
    fn name(self) -> &'static str {
        match self {
            Self::Off => "",
            #[cfg(feature = "deflate")]
            Self::Takeover => "takeover",
            #[cfg(feature = "deflate")]
            Self::Alone => "alone",
        }
    }

    fn client(self, builder: ClientBuilder) -> ClientBuilder {
        #[cfg(feature = "deflate")]
        if let Some(compression) = self.compression() {
            return builder.compression(compression);
        }
        builder
    }

    fn server(self, builder: ServerBuilder) -> ServerBuilder {
        #[cfg(feature = "deflate")]
        if let Some(compression) = self.compression() {
            return builder.compression(compression);
        }
        builder
    }

    #[cfg(feature = "deflate")]
    fn compression(self) -> Option<Compression> {
        let compression = Compression::new().threshold(0);
        match self {
            Self::Off => None,
            Self::Takeover => Some(compression),
            Self::Alone => Some(compression.no_send_takeover().no_receive_takeover()),
        }
    }

    /// Panics unless that was agreed on.
    fn check(self, agreed: Option<AgreedCompression>) {
        let takeover = agreed.map(|agreed| (agreed.send_takeover, agreed.receive_takeover));
        let expected = match self {
            Self::Off => None,
            #[cfg(feature = "deflate")]
            Self::Takeover => Some((true, true)),
            #[cfg(feature = "deflate")]
            Self::Alone => Some((false, false)),
        };
        assert_eq!(takeover, expected);
    }
}

impl Peer {
    /// The peer's program, or `None` if it is not installed.
    fn command(self, deflate: Deflate) -> Option<Command> {
        let mut command = match self {
            Self::Python => python("websockets", "peer.py"),
            #[cfg(feature = "tls")]
            Self::Aiohttp => python("aiohttp", "aiohttp.py"),
            Self::Node => node("peer.mjs"),
        }?;
        command.env("EVERLINK_DEFLATE", deflate.name());
        Some(command)
    }
}

/// Everything that a client does with somebody else's server.
fn client_against(peer: Peer, deflate: Deflate) {
    init_log();
    let Some(mut command) = peer.command(deflate) else { return };
    let server = Program::start(command.arg("server"));
    let line = server.line();
    let url = line.strip_prefix("listening ").expect("where it listens");
    for fragment_size in [usize::MAX, 50_000] {
        let (builder, watch) = watch(
            deflate
                .client(Client::builder(url))
                .subprotocols(["v1", "v2"])
                .limits(Limits::new().fragment(fragment_size))
                // pings of ours between the fragments and the messages
                .heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE)),
        );
        let client = builder.connect().unwrap();
        let Event::Connected { response, compression, .. } = watch.connected() else {
            unreachable!()
        };
        deflate.check(compression);
        assert_eq!(response.unwrap().headers()["sec-websocket-protocol"], "v2");
        let ask = |question: &str| -> Message {
            client.send(question).unwrap();
            client.recv_timeout(PATIENCE).unwrap()
        };
        assert_eq!(ask("subprotocol?").as_text(), Some("v2"));
        for size in SIZES {
            let messages = [Message::from("t".repeat(size)), Message::from(vec![b'b'; size])];
            for message in messages {
                client.send(message.clone()).unwrap();
                let echo = client.recv_timeout(PATIENCE);
                let echo = echo.unwrap_or_else(|error| panic!("{error}: {:?}", watch.rest()));
                assert!(echo == message, "{size} bytes came back as {echo:?}");
            }
        }
        assert_eq!(ask("fragments 100000").as_text(), Some(&*"f".repeat(100_000)));
        assert_eq!(ask("pings?").as_text(), Some("answered"));
        client.flush(PATIENCE).unwrap();

        client.send("close 4002 going").unwrap();
        let cause = watch.disconnected();
        let Failure::Closed(Some(CloseFrame { code, reason, .. })) = &*cause else {
            panic!("{cause:?}")
        };
        assert_eq!((code.0, reason.as_str()), (4002, "going"));
        assert!(server.line().starts_with("closed 4002"));
        watch.connected();
        let report = client.close_with(4001, "bye").unwrap();
        assert!(report.ended && report.undelivered.is_empty(), "{report:?}");
        assert_eq!(server.line(), "closed 4001 bye");
    }
}

/// The code with which a session was closed, whoever was first.
fn close_code(cause: Option<Arc<Failure>>) -> u16 {
    match cause.as_deref() {
        Some(Failure::Closed(Some(frame)) | Failure::ClosedHere(Some(frame))) => frame.code.0,
        _ => panic!("{cause:?}"),
    }
}

/// Everything that somebody else's client does with a server.
fn server_against(peer: Peer, deflate: Deflate) {
    init_log();
    let Some(mut command) = peer.command(deflate) else { return };
    let (ended, ends) = mpsc::channel();
    let server = deflate
        .server(Server::builder())
        .limits(Limits::new().message(64 << 20))
        .on_request(|_| Answer::accept().subprotocol("v2"))
        .heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE))
        .bind("127.0.0.1:0", move |session| {
            deflate.check(session.compression());
            for message in session.iter() {
                if message.as_text() == Some("close 4002 going") {
                    session.close_with(4002, "going").unwrap();
                } else if session.send(message).is_err() {
                    break;
                }
            }
            let _ = ended.send(session.failure());
        })
        .unwrap();
    let output = command.args(["client", &format!("ws://{}", server.local_addr())]).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{peer:?}: {errors}");
    // the second session may be over before the first one has noticed its end
    let mut codes = [(); 2].map(|()| close_code(ends.recv_timeout(PATIENCE).unwrap()));
    codes.sort_unstable();
    assert_eq!(codes, [4001, 4002]);
}

/// Several of somebody else's clients get what is published, and send it back.
fn members(peer: Peer, deflate: Deflate) {
    init_log();
    let (said, heard) = mpsc::channel();
    let server = deflate
        .server(Server::builder())
        .limits(Limits::new().message(64 << 20))
        .on_request(|_| Answer::accept().subprotocol("v2"))
        .bind("127.0.0.1:0", move |session| {
            deflate.check(session.compression());
            for message in &session {
                match message.as_text() {
                    Some("here") => assert!(session.join("feed").unwrap()),
                    _ => drop(said.send((session.id(), message))),
                }
            }
        })
        .unwrap();
    let url = format!("ws://{}", server.local_addr());
    let mut programs = Vec::new();
    for _ in 0..3 {
        let Some(mut command) = peer.command(deflate) else { return };
        programs.push(Program::start(command.args(["member", &url])));
    }
    eventually("three members", || match server.members("feed").len() {
        3 => Ok(()),
        count => Err(count),
    });
    for size in SIZES {
        let messages = [Message::from("t".repeat(size)), Message::from(vec![b'b'; size])];
        for message in messages {
            assert_eq!(server.publish("feed", message.clone()), 3);
            let mut from = [(); 3].map(|()| {
                let (id, echo) = heard.recv_timeout(PATIENCE).unwrap();
                assert!(echo == message, "{size} bytes came back as {echo:?}");
                id
            });
            from.sort_unstable();
            assert!(from.is_sorted_by(|a, b| a < b), "each one once: {from:?}");
        }
    }
}

#[test]
fn a_client_of_a_server_of_python_websockets() {
    client_against(Peer::Python, Deflate::Off);
}

#[test]
fn a_client_of_a_server_of_node_ws() {
    client_against(Peer::Node, Deflate::Off);
}

#[test]
fn a_server_of_a_client_of_python_websockets() {
    server_against(Peer::Python, Deflate::Off);
}

#[test]
fn a_server_of_a_client_of_node_ws() {
    server_against(Peer::Node, Deflate::Off);
}

#[test]
fn members_with_python_websockets() {
    members(Peer::Python, Deflate::Off);
}

#[test]
fn members_with_node_ws() {
    members(Peer::Node, Deflate::Off);
}

#[cfg(feature = "deflate")]
mod compressed {
    use super::Deflate::{Alone, Takeover};
    use super::*;

    #[test]
    fn a_client_of_a_server_of_python_websockets() {
        client_against(Peer::Python, Takeover);
        client_against(Peer::Python, Alone);
    }

    #[test]
    fn a_client_of_a_server_of_node_ws() {
        client_against(Peer::Node, Takeover);
        client_against(Peer::Node, Alone);
    }

    #[test]
    fn a_server_of_a_client_of_python_websockets() {
        server_against(Peer::Python, Takeover);
        server_against(Peer::Python, Alone);
    }

    #[test]
    fn a_server_of_a_client_of_node_ws() {
        server_against(Peer::Node, Takeover);
        server_against(Peer::Node, Alone);
    }

    #[test]
    fn members_with_python_websockets() {
        members(Peer::Python, Takeover);
        members(Peer::Python, Alone);
    }

    #[test]
    fn members_with_node_ws() {
        members(Peer::Node, Takeover);
        members(Peer::Node, Alone);
    }
}
