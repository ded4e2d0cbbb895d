//! The server's side of sessions on framed TCP: the same promises, without opcodes and close frames.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::support::bare::*;
use crate::support::resumed::{keep, resuming_server};
use crate::support::speaker::*;
use crate::support::*;
use crossbeam_channel::{Receiver, unbounded};
use everlink::config::{Framing, Limits, Prefix, Timeouts};
use everlink::{Error, Failure, Server, ServerBuilder, Session};

struct Framed {
    server: Server,
    sessions: Receiver<Session>,
    carrier: Carrier,
    is_tls: bool,
}

const ALL: [(Carrier, bool); 4] = [
    (Carrier::Lines, false),
    (Carrier::Prefixed, false),
    (Carrier::Lines, true),
    (Carrier::Prefixed, true),
];

/// `None` where this is built without TLS.
fn framed(
    (carrier, is_tls): (Carrier, bool),
    set: impl Fn(ServerBuilder) -> ServerBuilder,
) -> Option<Framed> {
    let framing = match carrier {
        Carrier::Lines => Framing::lines(),
        _ => Framing::length_prefixed(Prefix::U32),
    };
    let builder = set(resuming_server().framing(framing));
    let builder = if is_tls { tls(builder)? } else { builder };
    let (sender, sessions) = unbounded();
    let server = builder.bind("127.0.0.1:0", move |session: Session| {
        let _ = sender.send(session.clone());
        keep(&session);
    });
    Some(Framed { server: server.unwrap(), sessions, carrier, is_tls })
}

#[cfg(feature = "tls")]
fn tls(builder: ServerBuilder) -> Option<ServerBuilder> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = everlink::config::Tls::new()
        .identity_pem(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes());
    Some(builder.tls(identity))
}

#[cfg(not(feature = "tls"))]
fn tls(_: ServerBuilder) -> Option<ServerBuilder> {
    None
}

impl Framed {
    /// Nothing is said yet.
    fn connect(&self) -> Speaker {
        let socket = connect(self.server.local_addr());
        if self.is_tls {
            let stream = secured(socket.try_clone().unwrap());
            return Speaker::mute(self.carrier, stream, socket);
        }
        Speaker::over(self.carrier, socket)
    }

    fn begin(&self) -> (Speaker, Session) {
        let client = self.connect().begin();
        (client, self.sessions.recv_timeout(PATIENCE).expect("a session begins"))
    }

    fn resume(&self, kept: &mut Kept) -> Speaker {
        self.connect().go_on(kept)
    }

    fn is_forgotten(&self, kept: &mut Kept) {
        let mut link = self.connect();
        link.claim(&kept.offer(), kept);
        assert_eq!(link.counted, None);
    }
}

#[cfg(feature = "tls")]
fn secured(socket: TcpStream) -> Box<dyn Stream> {
    use everlink::rustls::{
        self, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    #[derive(Debug)]
    struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            let provider = rustls::crypto::ring::default_provider();
            provider.signature_verification_algorithms.supported_schemes()
        }
    }

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    Box::new(StreamOwned::new(connection, socket))
}

#[cfg(not(feature = "tls"))]
fn secured(_: TcpStream) -> Box<dyn Stream> {
    unreachable!()
}

fn detached(session: &Session) {
    eventually("the loss", || if session.is_connected() { Err(()) } else { Ok(()) });
}

fn over(session: &Session) -> Arc<Failure> {
    let mut cause = None;
    eventually("the end", || {
        cause = session.failure();
        cause.clone().map(drop).ok_or(())
    });
    cause.unwrap()
}

fn received(session: &Session) -> String {
    let message = session.recv_timeout(PATIENCE).unwrap();
    String::from_utf8(message.as_bytes().to_vec()).unwrap()
}

#[test]
fn a_session_goes_on_over_framed_tcp() {
    for kind in ALL {
        let Some(framed) = framed(kind, |builder| builder) else { continue };
        let (mut client, session) = framed.begin();
        for text in ["0", "1", "", "3"] {
            session.send(text).unwrap();
        }
        assert_eq!(client.recv(), "0");
        client.send("a");
        client.send("");
        assert_eq!([received(&session), received(&session)], ["a", ""]);
        assert!(session.incoming().is_none() && session.subprotocol().is_none());
        let mut kept = client.reset();
        detached(&session);
        // a stale offer, and one that cannot be, get sessions of their own
        for offer in ["attempt=0 received=1", "attempt=1 received=9"] {
            let mut other = framed.connect();
            other.claim(&format!("s {} {offer}", kept.token), &kept);
            assert_eq!(other.counted, None);
        }
        let mut client = framed.resume(&mut kept);
        assert_eq!(client.counted, Some(2));
        assert_eq!([client.recv(), client.recv(), client.recv()], ["1", "", "3"]);
        // it takes over while the old link is up
        let mut newer = framed.resume(&mut client.kept);
        let _ = client.try_say("mlost");
        newer.send("b");
        assert_eq!(received(&session), "b");
        assert!(framed.sessions.is_empty());
    }
}

#[test]
fn ends_are_said_and_answered_over_framed_tcp() {
    for kind in ALL {
        let Some(framed) = framed(kind, |builder| builder) else { continue };
        // the client's
        let (mut client, session) = framed.begin();
        session.send("never read").unwrap();
        client.send("last");
        let rest = client.end(1000);
        let end = rest.len() - 3;
        let said = [Said::text("r 1"), Said::text("e 1000"), Said::End(End::InOrder)];
        assert_eq!(rest[end..], said, "{kind:?}");
        assert_eq!(received(&session), "last");
        assert!(matches!(session.recv(), Err(Error::Closed)));
        for _ in 0..2 {
            let mut again = framed.resume(&mut client.kept);
            assert_eq!(again.counted, Some(1), "{kind:?}: {}", again.answer);
            assert_eq!(again.end(1000), said, "{kind:?}");
        }
        // the server's, answered and lost
        let (mut client, session) = framed.begin();
        let closing = thread::spawn(move || session.close_with(4000, "enough").unwrap());
        assert_eq!(client.hear(), Said::text("r 0"));
        assert_eq!(client.hear(), Said::text("e 4000 enough"));
        assert!(client.is_quiet(ms(50)), "{kind:?}");
        let mut client = framed.resume(&mut client.kept);
        assert_eq!(client.hear(), Said::text("r 0"));
        assert_eq!(client.hear(), Said::text("e 4000 enough"));
        assert_eq!(client.end(4000), [Said::End(End::InOrder)], "{kind:?}");
        closing.join().unwrap();
        // the end of the stream is none
        let (mut client, session) = framed.begin();
        client.socket.shutdown(Shutdown::Write).unwrap();
        client.rest();
        detached(&session);
        assert!(session.failure().is_none(), "{kind:?}");
        assert_eq!(framed.resume(&mut client.kept).counted, Some(0));
    }
}

#[test]
fn violations_end_the_session_over_framed_tcp() {
    for kind in ALL {
        let Some(framed) = framed(kind, |builder| builder) else { continue };
        for wrong in ["", "zebra", "r 1", "r x", "g 999999999999999", "s new", "e 100", "a "] {
            let (mut client, session) = framed.begin();
            client.send("a");
            client.say(wrong);
            let rest = client.rest();
            let is_end = |said: &Said| matches!(said, Said::Text(text) if text.starts_with('e'));
            assert!(!rest.iter().any(is_end), "{kind:?} {wrong:?}: {rest:?}");
            over(&session);
            framed.is_forgotten(&mut client.kept);
        }
        for first in ["", "hello", "s", "r 0", "s new ", "m"] {
            let mut client = framed.connect();
            client.say(first);
            assert_eq!(client.rest(), [Said::End(End::InOrder)], "{kind:?} {first:?}");
        }
    }
}

#[test]
fn a_message_that_is_too_large_ends_the_session_over_framed_tcp() {
    for kind in ALL {
        let limits = |builder: ServerBuilder| builder.limits(Limits::new().message(1000));
        let Some(framed) = framed(kind, limits) else { continue };
        let (mut client, session) = framed.begin();
        // at the limit, without its letter
        let largest = "x".repeat(1000);
        client.send(&largest);
        assert_eq!(received(&session), largest);
        session.send(&*largest).unwrap();
        assert_eq!(client.recv(), largest);
        client.send(&"x".repeat(1001));
        let mut said = client.hear();
        while !matches!(&said, Said::Text(text) if text.starts_with('r')) {
            assert!(!matches!(said, Said::End(_)), "{kind:?}: {said:?}");
            said = client.hear();
        }
        assert_eq!(said, Said::text("r 1"), "{kind:?}");
        assert_eq!(client.hear(), Said::text("e 1009"), "{kind:?}");
        let rest = client.end(1009);
        assert_eq!(rest, [Said::End(End::InOrder)], "{kind:?}");
        over(&session);
        let mut again = framed.connect();
        again.claim(&client.kept.offer(), &client.kept);
        assert_eq!(again.counted, Some(1), "{kind:?}");
        again.report();
        let said = [Said::text("r 1"), Said::text("e 1009"), Said::End(End::InOrder)];
        assert_eq!(again.end(1009), said, "{kind:?}");
    }
}

#[test]
fn what_lines_cannot_carry_is_refused_before_it_has_a_number() {
    let framed = framed((Carrier::Lines, false), |builder| builder).unwrap();
    let (mut client, session) = framed.begin();
    for wrong in ["a\nb", "a\r", "\r"] {
        assert!(session.send(wrong).is_err(), "{wrong:?}");
    }
    session.send(b"\xff\r\xfe".to_vec()).unwrap();
    assert_eq!(client.hear(), Said::Binary(b"m\xff\r\xfe".to_vec()));
    client.kept.received = 1;
    client.report();
    session.send("next").unwrap();
    assert_eq!(client.recv(), "next");
    assert_eq!(client.kept.received, 2);
}

#[test]
fn who_says_nothing_on_framed_tcp_is_cut() {
    for kind in ALL {
        let short = |builder: ServerBuilder| builder.timeouts(Timeouts::new().handshake(ms(300)));
        let Some(framed) = framed(kind, short) else { continue };
        let mut client = framed.connect();
        let _ = client.socket.flush();
        if !framed.is_tls {
            assert!(matches!(client.rest()[..], [Said::End(_)]));
        }
        let mut client = framed.connect();
        client.offer("s new");
        assert!(matches!(client.rest()[..], [Said::End(_)]));
        assert!(framed.sessions.is_empty());
    }
}
