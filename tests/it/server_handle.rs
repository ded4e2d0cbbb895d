//! What handlers and other threads can do with a server, and what a request tells.

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::support::*;
use everlink::config::{Framing, Heartbeat, Timeouts};
use everlink::http::StatusCode;
use everlink::{Answer, Client, Error, Failure, Server, Session, State};

const LOOPBACK: &str = "127.0.0.1:0";

fn url(server: &Server) -> String {
    format!("ws://{}", server.local_addr())
}

#[test]
fn a_handle_broadcasts_counts_and_shuts_down_from_anywhere() {
    let server = Server::bind(LOOPBACK, |session| {
        for message in &session {
            // everybody but the one who says it
            let server = session.server();
            server.broadcast_where(message, |other| other.id() != session.id());
        }
    });
    let server = server.unwrap();
    let clients: Vec<_> = (0..3).map(|_| Client::connect(url(&server)).unwrap()).collect();
    let handle = server.handle();
    eventually("three sessions", || match handle.stats().sessions {
        3 => Ok(()),
        count => Err(count),
    });
    clients[0].send("hello").unwrap();
    for client in &clients[1..] {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("hello"));
    }
    assert!(clients[0].try_recv().unwrap().is_none());
    let (one, other) = (handle.clone(), handle.clone());
    let reports = [one, other].map(|handle| thread::spawn(move || handle.shutdown(PATIENCE)));
    for report in reports {
        assert!(report.join().unwrap().drained);
    }
    // the address is free again although handles are left
    let again = Server::bind(handle.local_addr(), |_| {}).unwrap();
    assert_eq!(again.local_addr(), handle.local_addr());
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < ms(1000), "it was shut down already");
}

#[test]
fn an_aborted_session_is_over_at_once_without_a_goodbye() {
    let (over, ended) = mpsc::channel();
    let server = Server::bind(LOOPBACK, move |session: Session| {
        while session.recv().is_ok() {}
        let _ = over.send(session.failure());
    });
    let server = server.unwrap();
    let (builder, watch) = watch(Client::builder(url(&server)));
    let client = builder.connect().unwrap();
    eventually("a session", || match server.sessions().first() {
        Some(session) => {
            session.abort();
            Ok(())
        }
        None => Err(()),
    });
    let cause = ended.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(matches!(&*cause, Failure::Aborted), "{cause:?}");
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::Io(_) | Failure::ClosedAbnormally), "{cause:?}");
    client.close();
}

/// On framed TCP the end of the stream would be a goodbye: what the peer sees is a reset, whether the
/// server is reading, is stuck in a write, or has something unread.
#[test]
fn the_peer_of_an_aborted_session_sees_no_goodbye() {
    for (case, queued) in [("reading", 0), ("writing", 32)].repeat(20) {
        let (begun, begins) = mpsc::channel();
        let server = Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::off());
        let server = server.bind(LOOPBACK, move |session: Session| {
            assert_eq!(session.recv().unwrap().as_text(), Some("here"));
            begun.send(session.clone()).unwrap();
            while session.recv().is_ok() {}
        });
        let server = server.unwrap();
        let mut peer = std::net::TcpStream::connect(server.local_addr()).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.write_all(b"here\n").unwrap();
        let session = begins.recv_timeout(PATIENCE).unwrap();
        for _ in 0..queued {
            session.send("x".repeat(256 * 1024)).unwrap();
        }
        if queued > 0 {
            eventually("a full socket", || match session.stats() {
                stats if stats.outbox_bytes > 1 << 20 => Ok(()),
                other => Err(Box::new(other)),
            });
        }
        session.abort();
        assert!(matches!(session.recv(), Err(Error::Closed)));
        let mut bytes = Vec::new();
        let end = peer.read_to_end(&mut bytes);
        match end {
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{case}"),
            // behind what could not be sent: no client takes that for a goodbye
            Ok(_) => assert!(!bytes.is_empty() && !bytes.ends_with(b"\n"), "{case}: a goodbye"),
        }
    }
}

/// The same while its handler sends, and returns as soon as it cannot.
#[test]
fn the_peer_of_a_session_that_is_aborted_while_it_sends_sees_no_goodbye() {
    let server = Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::off());
    let (begun, begins) = mpsc::channel();
    let server = server.bind(LOOPBACK, move |session: Session| {
        let _ = begun.send(session.clone());
        while session.send("x".repeat(50_000)).is_ok() {}
    });
    let server = server.unwrap();
    for round in 0..100 {
        let mut peer = std::net::TcpStream::connect(server.local_addr()).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let session = begins.recv_timeout(PATIENCE).unwrap();
        let aborting = thread::spawn(move || {
            let mut most = (&mut peer).take(200_000 + round * 7_000);
            std::io::copy(&mut most, &mut std::io::sink()).unwrap();
            session.abort();
            std::io::copy(&mut peer, &mut std::io::sink())
        });
        let end = aborting.join().unwrap();
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{round}");
    }
}

#[test]
fn a_close_that_nobody_waits_for_ends_within_its_time() {
    for framing in [None, Some(Framing::lines())] {
        for heartbeat in [Heartbeat::off(), Heartbeat::ping_pong()] {
            let (over, ended) = mpsc::channel();
            let mut builder =
                Server::builder().heartbeat(heartbeat).timeouts(Timeouts::new().close(ms(200)));
            if let Some(framing) = &framing {
                builder = builder.framing(framing.clone());
            }
            let server = builder.bind(LOOPBACK, move |session: Session| {
                let begun = Instant::now();
                session.send("bye").unwrap();
                session.start_close(4000, "go").unwrap();
                let returned = begun.elapsed();
                assert!(matches!(session.start_close(1005, ""), Err(Error::InvalidClose { .. })));
                // the peer says nothing more: the session is over all the same
                while session.recv().is_ok() {}
                let _ = over.send((returned, begun.elapsed(), session.failure()));
            });
            let server = server.unwrap();
            let mut stream = std::net::TcpStream::connect(server.local_addr()).unwrap();
            if framing.is_none() {
                let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
                     Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Version: 13\r\n\r\n";
                std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            }
            let (returned, time, failure) = ended.recv_timeout(PATIENCE).unwrap();
            assert!(returned < ms(150), "it waited for {returned:?}");
            assert!((ms(150)..ms(2000)).contains(&time), "over after {time:?}");
            assert!(matches!(failure.as_deref(), Some(Failure::ClosedHere(_))), "{failure:?}");
        }
    }
}

#[test]
fn a_client_can_start_to_close_and_go_on() {
    let server = Server::bind(LOOPBACK, |session| for _ in &session {}).unwrap();
    let (builder, watch) = watch(Client::builder(url(&server)));
    let client = builder.connect().unwrap();
    client.start_close(4000, "done").unwrap();
    let clean = watch.until(|event| match event {
        everlink::Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(clean);
    assert_eq!(client.state(), State::Closed);
}

#[derive(Debug, Clone, PartialEq)]
struct User(String);

#[test]
fn what_a_request_tells_goes_along_to_the_session() {
    let server = Server::builder()
        .subprotocols(["v2.chat", "v1.chat"])
        .on_request(|incoming| {
            assert_eq!((incoming.path(), incoming.query()), ("/room", Some("id=7")));
            assert!(incoming.peer_addr().ip().is_loopback());
            assert_eq!(incoming.origin(), None);
            assert_eq!(incoming.request().method().as_str(), "GET");
            let shown = format!("{incoming:?}");
            assert!(!shown.contains("p:w") && !shown.contains("id=7"), "{shown}");
            match (incoming.basic_auth(), incoming.bearer_auth()) {
                (Some((user, password)), None) if password == "p:w" => {
                    Answer::accept().with(User(user)).with(7_u32)
                }
                (None, Some("t0ken")) => Answer::accept(),
                _ => Answer::reject(StatusCode::UNAUTHORIZED),
            }
        })
        .bind(LOOPBACK, |session| {
            let chosen = session.subprotocol().unwrap_or("none").to_owned();
            let user = session.get::<User>().map_or("nobody", |user| user.0.as_str());
            assert_eq!(session.get::<u32>().is_some(), user != "nobody");
            assert_eq!(session.get::<String>(), None);
            session.send(format!("{user} speaks {chosen}")).unwrap();
            assert_eq!(session.incoming().unwrap().query(), Some("id=7"));
            let _ = session.recv();
        });
    let server = server.unwrap();
    let address = server.local_addr();
    let said = |userinfo: &str, header: Option<&str>, offered: &[&str]| {
        let mut builder = Client::builder(format!("ws://{userinfo}{address}/room?id=7"));
        builder = builder.subprotocols(offered);
        if let Some(value) = header {
            builder = builder.header("Authorization", value);
        }
        let client = builder.max_attempts(1).connect()?;
        let said = client.recv_timeout(PATIENCE)?;
        Ok::<_, Error>(said.as_text().unwrap_or_default().to_owned())
    };
    assert_eq!(
        said("alice:p%3Aw@", None, &["v1.chat", "v2.chat"]).unwrap(),
        "alice speaks v2.chat"
    );
    assert_eq!(said("alice:p%3Aw@", None, &["v1.chat"]).unwrap(), "alice speaks v1.chat");
    assert_eq!(said("", Some("bearer t0ken"), &[]).unwrap(), "nobody speaks none");
    assert_eq!(said("", Some("Bearer t0ken"), &["v3.chat"]).unwrap(), "nobody speaks none");
    for wrong in ["Basic !", "Basic YWxpY2U=", "Bearer other", "t0ken"] {
        let error = said("", Some(wrong), &[]).unwrap_err();
        assert!(error.to_string().contains("401"), "{wrong}: {error}");
    }
}

#[test]
fn subprotocols_are_tokens() {
    let error = Server::builder().subprotocols(["a b"]).bind(LOOPBACK, |_| {}).unwrap_err();
    assert!(error.to_string().contains("subprotocols"), "{error}");
}

#[cfg(feature = "tls")]
#[test]
fn who_has_shown_a_certificate_is_known_by_it() {
    use std::sync::Arc;

    use everlink::config::Tls;
    use everlink::rustls;
    use everlink::rustls::server::WebPkiClientVerifier;
    use everlink::rustls::{RootCertStore, ServerConfig};

    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.into()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let (certificate, key) = issue("localhost");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let (certificate, key) = issue("charger-7");
    let shown = certificate.der().to_vec();
    let tls = Tls::new()
        .root_certificates_pem(authority.pem().as_bytes())
        .identity_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
    let expected = shown.clone();
    let server = Server::builder()
        .tls(Arc::new(config))
        .on_request(move |incoming| {
            assert_eq!(incoming.tls().unwrap().peer_certificates()[0].as_ref(), expected);
            Answer::accept()
        })
        .bind(LOOPBACK, move |session| {
            assert_eq!(session.tls().unwrap().peer_certificates()[0].as_ref(), shown);
            session.send("known").unwrap();
            let _ = session.recv();
        })
        .unwrap();
    let url = format!("wss://localhost:{}", server.local_addr().port());
    let client = Client::builder(&url).connect_to(server.local_addr()).tls(tls);
    let client = client.connect().unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("known"));
}
