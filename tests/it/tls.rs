//! `wss://` and `tcps://`: certificates, both directions at once, and how a stream ends.
#![cfg(feature = "tls")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::*;
use everlink::chaos::{FaultProxy, Faults};
use everlink::config::{CodecError, Framing, Heartbeat, Packet, Timeouts, Tls};
use everlink::failure::{HandshakeError, TlsError};
use everlink::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use everlink::rustls::{
    self, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use everlink::{Client, ClientBuilder, Error, Failure, Message, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A certificate authority of this test's own.
pub struct Authority {
    pub issuer: CertifiedIssuer<'static, KeyPair>,
}

pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub chain_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Self {
        init_log();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "everlink tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        identity(&cert, &key)
    }

    pub fn tls(&self) -> Tls {
        Tls::new().root_certificates_pem(self.issuer.pem().as_bytes())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }
}

pub fn identity(cert: &rcgen::Certificate, key: &KeyPair) -> Identity {
    Identity {
        chain: vec![cert.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        chain_pem: cert.pem(),
        key_pem: key.serialize_pem(),
    }
}

impl Identity {
    pub fn config(self) -> Arc<ServerConfig> {
        self.config_with(rustls::ALL_VERSIONS)
    }

    fn config_with(
        self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A client of the server at this address, which it knows as `localhost`.
pub fn client(address: std::net::SocketAddr, tls: Tls) -> ClientBuilder {
    Client::builder(format!("wss://localhost:{}", address.port()))
        .connect_to(address)
        .backoff(everlink::config::Backoff::fixed(ms(1)))
        .tls(tls)
}

fn echo_server(config: Arc<ServerConfig>) -> Server {
    Server::builder().tls(config).bind("127.0.0.1:0", echo_all).unwrap()
}

/// The server's end of a TLS connection that is not everlink's.
fn accept_tls(
    listener: &Listener,
    config: &Arc<ServerConfig>,
) -> StreamOwned<ServerConnection, TcpStream> {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    StreamOwned::new(connection, listener.accept_raw())
}

#[test]
fn messages_of_every_size_travel_both_ways() {
    let authority = Authority::new();
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let config = authority.issue("localhost", |_| {}).config_with(versions);
        let server = echo_server(config);
        let client = client(server.local_addr(), authority.tls()).connect().unwrap();
        for size in [0, 1, 16_383, 16_384, 16_385, 65_536, 1 << 20] {
            let message = Message::from(vec![5; size]);
            client.send(message.clone()).unwrap();
            assert_eq!(client.recv_timeout(PATIENCE).unwrap(), message);
        }
        assert!(client.close().ended);
    }
}

#[test]
fn both_directions_saturated_at_once_finish() {
    const SIZE: usize = 64 * 1024;
    const COUNT: usize = 100 * 1024 * 1024 / SIZE;
    let authority = Authority::new();
    let server = Server::builder()
        .tls(authority.issue("localhost", |_| {}).config())
        .bind("127.0.0.1:0", |session| {
            let sends = thread::spawn({
                let session = session.clone();
                move || (0..COUNT).try_for_each(|_| session.send(vec![1; SIZE]))
            });
            for _ in 0..COUNT {
                assert_eq!(session.recv_timeout(PATIENCE).unwrap().len(), SIZE);
            }
            sends.join().unwrap().unwrap();
            session.send("all received").unwrap();
            // until the client has had enough
            for _ in session.iter() {}
        })
        .unwrap();
    let client = client(server.local_addr(), authority.tls()).connect().unwrap();
    let sends = thread::spawn({
        let client = client.clone();
        let message = Message::from(vec![2; SIZE]);
        move || (0..COUNT).try_for_each(|_| client.send(message.clone()))
    });
    for _ in 0..COUNT {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().len(), SIZE);
    }
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("all received"));
    sends.join().unwrap().unwrap();
    assert!(client.close().ended);
}

#[test]
fn a_rejected_certificate_is_permanent_and_says_which_check_failed() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let future = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2100, 1, 1);
        params.not_after = rcgen::date_time_ymd(2101, 1, 1);
    };
    // as `openssl req -x509` makes them
    let is_ca = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        identity(&params.self_signed(&key).unwrap(), &key)
    };
    for (identity, words) in [
        (authority.issue("localhost", expired), "expired"),
        (authority.issue("localhost", future), "not valid yet"),
        (authority.issue("elsewhere.test", |_| {}), "another name"),
        (self_signed, "no trusted authority"),
        (authority.issue("localhost", is_ca), "basicConstraints"),
    ] {
        let server = echo_server(identity.config());
        let (builder, watch) = watch(client(server.local_addr(), authority.tls()));
        let _client = builder.start().unwrap();
        let cause = watch.gave_up();
        assert!(matches!(&*cause, Failure::Tls(TlsError::Certificate { .. })), "{cause:?}");
        let text = cause.to_string();
        assert!(text.contains(words), "{text:?} does not say {words:?}");
    }
}

#[test]
fn the_dangerous_option_accepts_any_certificate() {
    let authority = Authority::new();
    let server = echo_server(authority.issue("elsewhere.test", |_| {}).config());
    let tls = Tls::new().danger_accept_any_certificate();
    let client = client(server.local_addr(), tls).connect().unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("hello"));
}

#[test]
fn a_server_that_never_answers_the_hello_fails_at_the_deadline() {
    let listener = Listener::new();
    let builder =
        client(listener.address(), Tls::new()).timeouts(Timeouts::new().handshake(ms(200)));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let _silent = listener.accept_raw();
    let cause = watch.attempt_failed();
    assert!(matches!(&*cause, Failure::Handshake(HandshakeError::TimedOut { .. })), "{cause:?}");
    let _silent = listener.accept_raw();
    let begun = std::time::Instant::now();
    assert!(client.close().ended);
    assert!(begun.elapsed() < CLOSE_BOUND, "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_does_not_speak_tls_is_permanent() {
    let listener = Listener::new();
    let (builder, watch) = watch(client(listener.address(), Tls::new()));
    let _client = builder.start().unwrap();
    let mut stream = listener.accept_raw();
    std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    let cause = watch.gave_up();
    assert!(matches!(&*cause, Failure::Tls(TlsError::NotTls(_))), "{cause:?}");
    let text = cause.to_string();
    assert!(text.contains("not TLS") && text.contains("ws://"), "{text}");
}

impl Identity {
    pub fn tls(&self) -> Tls {
        Tls::new().identity_pem(self.chain_pem.as_bytes(), self.key_pem.as_bytes())
    }
}

fn serve(tls: Tls) -> Server {
    let server = Server::builder().tls(tls);
    let server = server.bind("127.0.0.1:0", |session| {
        let _ =
            session.send(session.tls().map_or(0, |tls| tls.peer_certificates().len()).to_string());
        let _ = session.recv();
    });
    server.unwrap()
}

#[test]
fn a_server_can_ask_for_the_clients_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let known = authority.issue("me", |_| {});
    let me = |tls: Tls, identity: &Identity| {
        tls.identity_pem(identity.chain_pem.as_bytes(), identity.key_pem.as_bytes())
    };
    let tls = authority.issue("localhost", |_| {}).tls();
    let tls = tls.client_authorities_pem(authority.issuer.pem().as_bytes());
    let server = serve(tls.clone());
    let client = |server: &Server, tls| client(server.local_addr(), tls).connect();
    let said = |client: Client| client.recv_timeout(PATIENCE).unwrap().to_string();
    assert_eq!(said(client(&server, me(authority.tls(), &known)).unwrap()), "1");
    let Error::Connect(cause) = client(&server, authority.tls()).unwrap_err() else {
        panic!("wrong error")
    };
    let text = cause.to_string();
    assert!(text.contains("CertificateRequired"), "{text}");

    let server = serve(tls.client_certificate_optional());
    assert_eq!(said(client(&server, authority.tls()).unwrap()), "0");
    assert_eq!(said(client(&server, me(authority.tls(), &known)).unwrap()), "1");
    let stranger = other.issue("me", |_| {});
    assert!(client(&server, me(authority.tls(), &stranger)).is_err());
}

#[test]
fn a_certificate_comes_from_files_too() {
    let authority = Authority::new();
    let identity = authority.issue("localhost", |_| {});
    let folder = std::env::temp_dir().join(format!("everlink-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (both, root) = (folder.join("both.pem"), folder.join("root.pem"));
    std::fs::write(&both, format!("{}{}", identity.key_pem, identity.chain_pem)).unwrap();
    std::fs::write(&root, authority.issuer.pem()).unwrap();
    let server = serve(Tls::new().identity_files(&both, &both).client_authorities_file(&root));
    let tls = Tls::new().root_certificates_file(&root).identity_files(&both, &both);
    let client = client(server.local_addr(), tls).connect().unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "1");
    std::fs::remove_dir_all(&folder).unwrap();

    let missing = Tls::new().identity_files(&both, &both);
    let error = Server::builder().tls(missing).bind("127.0.0.1:0", |_| {}).unwrap_err();
    assert!(error.to_string().contains("both.pem"), "{error}");
}

#[test]
fn what_one_side_of_tls_does_not_have_is_refused_there() {
    let authority = Authority::new();
    let pem = authority.issuer.pem();
    let own = || authority.issue("localhost", |_| {}).tls();
    let setting = |error| match error {
        Error::InvalidSetting { setting, reason } => (setting, reason),
        other => panic!("{other:?}"),
    };
    let of_server =
        |tls| setting(Server::builder().tls(tls).bind("127.0.0.1:0", |_| {}).unwrap_err());
    let of_client = |tls| setting(Client::builder("wss://localhost").tls(tls).start().unwrap_err());
    let config = || authority.issue("localhost", |_| {}).config();
    for (name, (setting, reason)) in [
        ("Tls::root_certificates_pem", of_server(own().root_certificates_pem(pem.as_bytes()))),
        ("Tls::danger_accept_any_certificate", of_server(own().danger_accept_any_certificate())),
        ("Tls::client_certificate_optional", of_server(own().client_certificate_optional())),
        ("Tls::alpn", of_server(Tls::from(config()).alpn(["x"]))),
        ("Tls::client_authorities_pem", of_client(own().client_authorities_pem(pem.as_bytes()))),
    ] {
        assert_eq!(setting, name, "{reason}");
        assert!(reason.contains("can have no effect"), "{reason}");
    }
    for ((setting, reason), word) in
        [(of_server(Tls::new()), "identity_files"), (of_client(Tls::from(config())), "of a server")]
    {
        assert_eq!(setting, "tls", "{reason}");
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn name_protocol_and_session_are_told_and_resumed() {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let client = client(listener.address(), authority.tls()).start().unwrap();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut peer = tungstenite::accept(accept_tls(&listener, &config)).unwrap();
        // a message makes sure that the client has read the ticket before it
        peer.send("hello".into()).unwrap();
        client.recv_timeout(PATIENCE).unwrap();
        let connection = &peer.get_ref().conn;
        assert_eq!(connection.server_name(), Some("localhost"));
        assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(connection.handshake_kind(), Some(kind));
    }
}

/// What becomes of a client whose server ends the stream, after a `close_notify` or without.
fn ended(scheme: &str, polite: bool) -> Arc<Failure> {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let (builder, watch) = watch(
        Client::builder(format!("{scheme}://localhost:{}", listener.address().port()))
            .connect_to(listener.address())
            .heartbeat(Heartbeat::ping_pong())
            .tls(authority.tls()),
    );
    let client = builder.start().unwrap();
    let mut stream = accept_tls(&listener, &config);
    if scheme == "wss" {
        let mut peer = tungstenite::accept(stream).unwrap();
        peer.send(tungstenite::Message::text("hello")).unwrap();
        stream = peer.into_inner();
    } else {
        std::io::Write::write_all(&mut stream, b"hello\n").unwrap();
    }
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("hello"));
    if polite {
        stream.conn.send_close_notify();
        std::io::Write::flush(&mut stream).unwrap();
    }
    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    watch.disconnected()
}

#[test]
fn a_stream_that_is_cut_off_reads_as_on_plain_tcp_and_says_so_in_plain_words() {
    for polite in [false, true] {
        let cause = ended("tcps", polite);
        let is_cut = !polite;
        assert!(
            matches!(
                &*cause,
                Failure::EndOfStream { inside_message: false, cut_off, .. } if *cut_off == is_cut
            ),
            "{cause:?}"
        );
        assert_eq!(cause.to_string().contains("cut off"), is_cut, "{cause}");
        // a WebSocket that has ended has said goodbye by itself
        let cause = ended("wss", polite);
        assert!(matches!(&*cause, Failure::ClosedAbnormally), "{cause:?}");
        assert!(!cause.to_string().contains("http"), "{}", cause);
    }
}

#[test]
fn the_end_of_a_websocket_carries_a_close_notify() {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let (builder, watch) = watch(client(listener.address(), authority.tls()));
    let client = builder.start().unwrap();
    let server = thread::spawn(move || {
        let mut peer = tungstenite::accept(accept_tls(&listener, &config)).unwrap();
        while let Ok(message) = peer.read() {
            if message.is_close() {
                break;
            }
        }
        let _ = peer.flush();
        // the goodbye of the transport follows that of the protocol
        let mut rest = Vec::new();
        std::io::Read::read_to_end(peer.get_mut(), &mut rest).map(|_| rest)
    });
    watch.connected();
    assert!(client.close().ended);
    let rest = server.join().unwrap();
    assert!(rest.is_ok_and(|rest| rest.is_empty()), "no close_notify");
}

#[test]
fn a_record_that_comes_piece_by_piece_is_a_sign_of_life() {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let message = Message::from(vec![7; 12_000]);
    let reply = message.clone();
    let answer = move |session: everlink::Session| {
        for _ in session.iter() {
            let _ = session.send(reply.clone());
        }
    };
    let server = Server::builder().tls(config).bind("127.0.0.1:0", answer).unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let heartbeat = Heartbeat::every(ms(200)).dead_after(ms(600));
    let (builder, watch) = watch(client(proxy.address(), authority.tls()).heartbeat(heartbeat));
    let client = builder.connect().unwrap();
    watch.connected();
    // one record, more than twice as long on its way as the limit, and pongs come behind it
    proxy.set(Faults::none().throttle(8_000)).unwrap();
    client.send("go").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), message);
    assert!(watch.rest().is_empty());
}

#[test]
fn key_updates_of_the_peer_are_followed() {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let client = client(listener.address(), authority.tls()).start().unwrap();
    let mut peer = tungstenite::accept(accept_tls(&listener, &config)).unwrap();
    for number in 0..20 {
        peer.get_mut().conn.refresh_traffic_keys().unwrap();
        peer.send(format!("down {number}").into()).unwrap();
        let message = client.recv_timeout(PATIENCE).unwrap();
        assert_eq!(message.as_text(), Some(format!("down {number}").as_str()));
        client.send(format!("up {number}")).unwrap();
        assert_eq!(peer.read().unwrap(), tungstenite::Message::text(format!("up {number}")));
    }
}

#[test]
fn what_is_queued_survives_outages_in_order() {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let (builder, watch) = watch(client(listener.address(), authority.tls()));
    let client = builder.start().unwrap();
    let mut seen = Vec::<u32>::new();
    let mut number = 0;
    for _ in 0..5 {
        for _ in 0..50 {
            client.send(number.to_string()).unwrap();
            number += 1;
        }
        let mut peer = tungstenite::accept(accept_tls(&listener, &config)).unwrap();
        for _ in 0..50 {
            let tungstenite::Message::Text(text) = peer.read().unwrap() else { panic!("no text") };
            seen.push(text.parse().unwrap());
        }
        drop(peer);
        watch.disconnected();
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "reordered or sent twice");
}

#[test]
fn framed_tcp_over_tls_and_a_redirect_that_would_lose_it() {
    let authority = Authority::new();
    let server = Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::ping_pong())
        .tls(authority.issue("localhost", |_| {}).config())
        .bind("127.0.0.1:0", echo_all)
        .unwrap();
    let address = server.local_addr();
    let lines = Client::builder(format!("tcps://localhost:{}", address.port()))
        .heartbeat(Heartbeat::ping_pong())
        .connect_to(address)
        .tls(authority.tls())
        .connect()
        .unwrap();
    lines.send("hello").unwrap();
    assert_eq!(lines.recv_timeout(PATIENCE).unwrap().as_text(), Some("hello"));
    assert!(lines.close().ended);

    let redirecting = Server::builder()
        .tls(authority.issue("localhost", |_| {}).config())
        .on_request(|_| {
            everlink::Answer::reject(everlink::http::StatusCode::FOUND)
                .header("Location", "ws://localhost/")
        })
        .bind("127.0.0.1:0", |_| {})
        .unwrap();
    let (builder, watch) = watch(client(redirecting.local_addr(), authority.tls()));
    let _client = builder.start().unwrap();
    let cause = watch.gave_up();
    assert!(cause.to_string().contains("from TLS to"), "{}", cause);
}

#[test]
fn a_server_that_speaks_tls_lets_in_no_page_that_came_without() {
    let authority = Authority::new();
    let server = echo_server(authority.issue("localhost", |_| {}).config());
    let host = format!("localhost:{}", server.local_addr().port());
    for (scheme, is_let_in) in [("https", true), ("http", false), ("chrome-extension", false)] {
        let builder = client(server.local_addr(), authority.tls());
        let builder = builder.header("Origin", &format!("{scheme}://{host}")).max_attempts(1);
        assert_eq!(builder.connect().is_ok(), is_let_in, "{scheme}");
    }
}

#[test]
fn what_is_no_certificate_is_refused_at_once() {
    let error = |tls| match Client::builder("wss://localhost").tls(tls).start() {
        Err(Error::InvalidSetting { setting: "tls", reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(error(Tls::new().root_certificates_pem(b"nonsense")).contains("no certificate"));
    assert!(error(Tls::new().identity_pem(b"nonsense", b"")).contains("no certificate"));
    assert!(error(Tls::new().root_certificate_der(b"nonsense")).contains("root certificates"));
}

#[test]
fn a_client_that_is_refused_leaves_no_thread_behind() {
    if !alone("tls::a_client_that_is_refused_leaves_no_thread_behind") {
        return;
    }
    let builder = Client::builder("wss://localhost");
    let tls = Tls::new().root_certificates_pem(b"nonsense");
    let refused = builder.tls(tls).start_with_channel();
    assert!(matches!(refused, Err(Error::InvalidSetting { setting: "tls", .. })), "{refused:?}");
    assert_eq!(everlink_threads(), [""; 0]);
}

/// A server's configuration that asks for a certificate that the authority has signed.
fn mutual(
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        authority.roots(),
        Arc::clone(&provider),
    )
    .build()
    .unwrap();
    let Identity { chain, key, .. } = authority.issue("localhost", |_| {});
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// Goes on reading after what is wrong was said, so that no reset takes it away.
fn serve_to_the_end(listener: &Listener, config: &Arc<ServerConfig>) {
    let mut peer = accept_tls(listener, config);
    let _ = std::io::Read::read(&mut peer, &mut [0; 100]);
    let mut socket = peer.sock;
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = std::io::copy(&mut socket, &mut std::io::sink());
}

#[test]
fn a_server_that_wants_a_certificate_is_permanent_in_every_version() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (is_given, word) in [(false, "identity_pem"), (true, "rejects")] {
            let listener = Listener::new();
            let config = mutual(&authority, version);
            let mut tls = authority.tls();
            if is_given {
                let expired = |params: &mut CertificateParams| {
                    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
                };
                let Identity { chain_pem, key_pem, .. } = authority.issue("me", expired);
                tls = tls.identity_pem(chain_pem.as_bytes(), key_pem.as_bytes());
            }
            let (builder, watch) = watch(client(listener.address(), tls));
            let server = thread::spawn(move || serve_to_the_end(&listener, &config));
            let client = builder.start().unwrap();
            let cause = watch.gave_up();
            assert!(
                matches!(&*cause, Failure::Tls(TlsError::OwnCertificate { .. })),
                "{version:?}: {cause:?}"
            );
            assert!(cause.to_string().contains(word), "{}", cause);
            client.close();
            server.join().unwrap();
        }
    }
}

/// The application protocols that the next client offers.
fn offered(listener: &Listener) -> Vec<Vec<u8>> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut stream = listener.accept_raw();
    loop {
        acceptor.read_tls(&mut stream).unwrap();
        if let Some(accepted) = acceptor.accept().unwrap() {
            let hello = accepted.client_hello();
            let protocols = hello.alpn().into_iter().flatten();
            return protocols.map(<[u8]>::to_vec).collect();
        }
    }
}

#[test]
fn brokers_are_offered_no_application_protocol_unless_the_program_says_so() {
    for (scheme, tls, expected) in [
        ("wss", Tls::new(), &[&b"http/1.1"[..]][..]),
        ("tcps", Tls::new(), &[]),
        ("tcps", Tls::new().alpn(["mqtt"]), &[b"mqtt"]),
        ("wss", Tls::new().alpn(["a", "b"]), &[b"a", b"b"]),
    ] {
        let listener = Listener::new();
        let url = format!("{scheme}://localhost:{}", listener.address().port());
        let builder = Client::builder(&url).connect_to(listener.address()).tls(tls);
        let client = builder.heartbeat(Heartbeat::off()).start().unwrap();
        assert_eq!(offered(&listener), expected, "{scheme}");
        client.close();
    }
    let endless = Client::builder("wss://h").tls(Tls::new().alpn(["x".repeat(256)])).start();
    assert!(matches!(endless, Err(Error::InvalidSetting { setting: "tls", .. })), "{endless:?}");
}

#[test]
fn a_server_without_a_common_protocol_is_named_as_that() {
    let authority = Authority::new();
    let mut config = Arc::unwrap_or_clone(authority.issue("localhost", |_| {}).config());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = Listener::new();
    let builder = client(listener.address(), authority.tls());
    let server = thread::spawn(move || serve_to_the_end(&listener, &Arc::new(config)));
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    assert!(matches!(&*cause, Failure::Tls(TlsError::NoCommonProtocol(_))), "{cause:?}");
    server.join().unwrap();
}

#[test]
fn the_clients_certificate_stays_with_the_origin_that_the_program_named() {
    let authority = Authority::new();
    let (home, other) = (Listener::new(), Listener::new());
    let [home_address, other_address] = [home.address(), other.address()];
    let Identity { chain_pem, key_pem, .. } = authority.issue("me", |_| {});
    let tls = authority.tls().identity_pem(chain_pem.as_bytes(), key_pem.as_bytes());
    let port = home_address.port();
    let builder = Client::builder(format!("wss://localhost:{port}")).tls(tls).resolver(
        move |_: &str, port: u16| {
            let known = [home_address, other_address];
            Ok(known.into_iter().filter(|address| address.port() == port).collect())
        },
    );
    let verifier = {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::server::WebPkiClientVerifier::builder_with_provider(authority.roots(), provider)
            .allow_unauthenticated()
            .build()
            .unwrap()
    };
    let Identity { chain, key, .. } = authority.issue("localhost", |_| {});
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
    let config = Arc::new(config);
    let server = thread::spawn(move || {
        let mut shown = Vec::new();
        for (listener, location) in [
            (&home, format!("https://localhost:{}/same", home_address.port())),
            (&home, format!("https://localhost:{}/other", other_address.port())),
            (&other, String::new()),
        ] {
            let mut peer = accept_tls(listener, &config);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                std::io::Read::read_exact(&mut peer, &mut byte).unwrap();
                request.push(byte[0]);
            }
            shown.push(peer.conn.peer_certificates().is_some());
            let status = if location.is_empty() { "403 No" } else { "302 Found" };
            let answer =
                format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            std::io::Write::write_all(&mut peer, answer.as_bytes()).unwrap();
            peer.conn.send_close_notify();
            let _ = std::io::Write::flush(&mut peer);
        }
        shown
    });
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    assert!(matches!(&*cause, Failure::Rejected { .. }), "{cause:?}");
    assert_eq!(server.join().unwrap(), [true, true, false]);
}

#[test]
fn a_server_that_wants_a_certificate_is_permanent_without_a_handshake_of_messages_too() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let listener = Listener::new();
        let config = mutual(&authority, version);
        let url = format!("tcps://localhost:{}", listener.address().port());
        let builder = Client::builder(&url)
            .connect_to(listener.address())
            .heartbeat(Heartbeat::off())
            .backoff(everlink::config::Backoff::fixed(ms(1)))
            .tls(authority.tls());
        let (builder, watch) = watch(builder);
        let server = thread::spawn(move || serve_to_the_end(&listener, &config));
        let client = builder.start().unwrap();
        let cause = watch.gave_up();
        assert!(
            matches!(&*cause, Failure::Tls(TlsError::OwnCertificate { .. })),
            "{version:?}: {cause:?}"
        );
        client.close();
        server.join().unwrap();
    }
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

/// A record of data that nobody has encrypted, and so much behind it that a socket which is closed
/// without reading it is reset.
fn junk() -> Vec<u8> {
    let mut bytes = vec![0; 200_000];
    bytes[..5].copy_from_slice(&[23, 3, 3, 0, 64]);
    bytes
}

/// The client's end of a TLS connection that is not everlink's.
fn connect_tls(
    address: std::net::SocketAddr,
    authority: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
    protocol: &str,
) -> StreamOwned<rustls::ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(connection, stream)
}

/// What everlink says of TLS before it hangs up. `None`: nothing, or a reset has taken it away.
fn alert_in(error: &std::io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        other => panic!("{other:?}"),
    }
}

/// Reads what comes, as long as that is messages; returns their numbers, and the alert behind them.
fn read_numbers<S: std::io::Read + std::io::Write>(
    peer: &mut tungstenite::WebSocket<S>,
    numbers: &mut Vec<u64>,
) -> Option<rustls::AlertDescription> {
    let mut is_said = false;
    loop {
        match peer.read() {
            Ok(tungstenite::Message::Text(text)) => numbers.push(text.parse().unwrap()),
            Ok(_) => {}
            // rustls says it at once, and has the data before it all the same
            Err(tungstenite::Error::Io(_)) if !std::mem::replace(&mut is_said, true) => {}
            Err(tungstenite::Error::Io(error)) => return alert_in(&error),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_server_that_is_not_trusted_reads_why() {
    let authority = Authority::new();
    for version in VERSIONS {
        let config = authority.issue("localhost", |_| {}).config_with(&[version]);
        let listener = Listener::new();
        let (builder, watch) = watch(client(listener.address(), Tls::new()));
        let client = builder.start().unwrap();
        let mut connection = ServerConnection::new(config).unwrap();
        let mut stream = listener.accept_raw();
        while !connection.wants_write() {
            connection.read_tls(&mut stream).unwrap();
            connection.process_new_packets().unwrap();
        }
        while connection.wants_write() {
            connection.write_tls(&mut stream).unwrap();
        }
        std::io::Write::write_all(&mut stream, &junk()).unwrap();
        let error = connection.complete_io(&mut stream).unwrap_err();
        assert_eq!(alert_in(&error), Some(rustls::AlertDescription::UnknownCA), "{error}");
        drop(stream);
        let cause = watch.gave_up();
        assert!(matches!(&*cause, Failure::Tls(TlsError::Certificate { .. })), "{cause:?}");
        client.close();
    }
}

#[test]
fn a_client_that_is_not_let_in_reads_why() {
    use rustls::AlertDescription::{CertificateRequired, NoApplicationProtocol};
    let authority = Authority::new();
    for version in VERSIONS {
        let open = authority.issue("localhost", |_| {}).config_with(&[version]);
        for (config, expected) in
            [(open, NoApplicationProtocol), (mutual(&authority, version), CertificateRequired)]
        {
            let server = echo_server(config);
            let mut stream = connect_tls(server.local_addr(), &authority, version, "h2");
            let mut hello = Vec::new();
            stream.conn.write_tls(&mut hello).unwrap();
            if expected == NoApplicationProtocol {
                hello.extend(junk());
            }
            std::io::Write::write_all(&mut stream.sock, &hello).unwrap();
            // in TLS 1.3 the handshake is over for a client before the server has looked
            let error = std::io::Read::read(&mut stream, &mut [0; 1]).unwrap_err();
            assert_eq!(alert_in(&error), Some(expected), "{version:?}: {error}");
        }
    }
}

#[test]
fn a_server_whose_record_does_not_decrypt_reads_an_alert_and_no_message_is_lost_by_it() {
    let authority = Authority::new();
    for version in VERSIONS {
        let config = authority.issue("localhost", |_| {}).config_with(&[version]);
        let listener = Listener::new();
        let (builder, watch) = watch(client(listener.address(), authority.tls()));
        let client = builder.start().unwrap();
        // during the opening
        let mut stream = accept_tls(&listener, &config);
        std::io::Read::read(&mut stream, &mut [0; 10]).unwrap();
        let _ = std::io::Write::write_all(&mut stream.sock, &junk());
        let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
        assert_eq!(alert_in(&error), Some(rustls::AlertDescription::BadRecordMac));
        drop(stream);
        let cause = watch.attempt_failed();
        assert!(matches!(&*cause, Failure::Tls(TlsError::Broken(_))), "{cause:?}");
        // and later, with a writer that is at work all the time
        let sender = client.clone();
        let sending = thread::spawn(move || {
            (0_u64..).map_while(|n| sender.send(n.to_string()).ok()).for_each(drop);
        });
        let mut numbers = Vec::new();
        for _ in 0..20 {
            let mut peer = tungstenite::accept(accept_tls(&listener, &config)).unwrap();
            numbers.push(peer.read().unwrap().to_text().unwrap().parse().unwrap());
            let _ = std::io::Write::write_all(&mut peer.get_mut().sock, &junk());
            let alert = read_numbers(&mut peer, &mut numbers);
            assert_eq!(alert, Some(rustls::AlertDescription::BadRecordMac), "{version:?}");
            drop(peer);
            let cause = watch.disconnected();
            assert!(matches!(&*cause, Failure::Tls(TlsError::Broken(_))), "{cause:?}");
        }
        client.close();
        sending.join().unwrap();
        // all before the alert was read, and nothing was written behind it
        let jumps: Vec<_> = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).collect();
        assert!(jumps.is_empty(), "{version:?}: {jumps:?}");
    }
}

#[test]
fn a_client_whose_record_does_not_decrypt_reads_an_alert() {
    let authority = Authority::new();
    for version in VERSIONS {
        let (ended, ends) = crossbeam_channel::unbounded();
        let config = authority.issue("localhost", |_| {}).config_with(&[version]);
        let server = Server::builder()
            .tls(config)
            .bind("127.0.0.1:0", move |session| {
                (0_u64..).map_while(|n| session.send(n.to_string()).ok()).for_each(drop);
                let _ = ended.send(session.failure());
            })
            .unwrap();
        let address = server.local_addr();
        // during the opening
        let mut stream = connect_tls(address, &authority, version, "http/1.1");
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n").unwrap();
        std::io::Write::write_all(&mut stream.sock, &junk()).unwrap();
        let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
        assert_eq!(alert_in(&error), Some(rustls::AlertDescription::BadRecordMac));
        // and later
        for _ in 0..20 {
            let stream = connect_tls(address, &authority, version, "http/1.1");
            let (mut peer, _) = tungstenite::client("wss://localhost/", stream).unwrap();
            peer.read().unwrap();
            let _ = std::io::Write::write_all(&mut peer.get_mut().sock, &junk());
            let mut numbers = Vec::new();
            let alert = read_numbers(&mut peer, &mut numbers);
            assert_eq!(alert, Some(rustls::AlertDescription::BadRecordMac), "{version:?}");
            drop(peer);
            let cause = ends.recv_timeout(PATIENCE).unwrap().expect("the session is over");
            assert!(matches!(&*cause, Failure::Tls(TlsError::Broken(_))), "{cause:?}");
        }
    }
}

#[test]
fn what_came_before_a_record_that_does_not_decrypt_is_received() {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let client = client(listener.address(), authority.tls()).start().unwrap();
    for number in 0..10 {
        let stream = tungstenite::accept(accept_tls(&listener, &config)).unwrap();
        let StreamOwned { mut conn, mut sock } = stream.into_inner();
        let mut bytes = Vec::new();
        std::io::Write::write_all(&mut conn.writer(), &[0x81, 1, b'0' + number]).unwrap();
        conn.write_tls(&mut bytes).unwrap();
        bytes.extend(&junk()[..100]);
        std::io::Write::write_all(&mut sock, &bytes).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), [b'0' + number]);
    }
}

/// Greets in the clear, says how, and goes on with TLS.
fn greet_and_secure(listener: &Listener, config: &Arc<ServerConfig>, more: &str) -> Option<String> {
    let mut plain = listener.accept_raw();
    plain.write_all(format!("INFO tls_required\n{more}").as_bytes()).unwrap();
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut secure = StreamOwned::new(connection, plain);
    let mut said = [0; 64];
    let count = secure.read(&mut said).ok().filter(|count| *count > 0)?;
    secure.write_all(b"+OK\nfirst\n").unwrap();
    Some(String::from_utf8_lossy(&said[..count]).into_owned())
}

#[test]
fn a_login_hook_begins_tls_behind_a_greeting_in_the_clear() {
    let authority = Authority::new();
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let builder = |name: &'static str| {
        Client::builder(format!("tcp://{}", listener.address()))
            .heartbeat(Heartbeat::off())
            .tls(authority.tls())
            .login(move |login| {
                login.recv_matching(|line| *line == *"INFO tls_required")?;
                login.start_tls(name)?;
                login.send("CONNECT secret")?;
                login.recv_matching(|line| *line == *"+OK")?;
                Ok(())
            })
    };
    let server = thread::scope(|scope| {
        let server = scope.spawn(|| greet_and_secure(&listener, &config, ""));
        let client = builder("localhost").connect().unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "first");
        server.join().unwrap()
    });
    assert_eq!(server.as_deref(), Some("CONNECT secret\n"));
    // another name than its certificate's, and words that somebody between could have put in
    for (name, more, kind) in [("example.org", "", "tls"), ("localhost", "INJECTED\n", "lost")] {
        thread::scope(|scope| {
            let server = scope.spawn(|| greet_and_secure(&listener, &config, more));
            let error = builder(name).connect().unwrap_err();
            let Error::Connect(cause) = &error else { panic!("{error:?}") };
            assert!(matches!(&**cause, Failure::Login { .. }), "{kind}: {cause:?}");
            assert_eq!(server.join().unwrap(), None, "the secret was told");
        });
    }
}

/// What a server hears in the clear from a client that was told this, and what became of the attempt.
fn heard_in_the_clear(
    builder: ClientBuilder,
    listener: &Listener,
    greeting: &[u8],
) -> (String, Arc<Failure>) {
    let (builder, watch) = watch(builder.heartbeat(Heartbeat::off()));
    let client = builder.start().unwrap();
    client.send("queued").unwrap();
    let mut plain = listener.accept_raw();
    plain.write_all(greeting).unwrap();
    let cause = watch.attempt_failed();
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard);
    (String::from_utf8_lossy(&heard).into_owned(), cause)
}

#[test]
fn nothing_goes_out_in_the_clear_when_tls_does_not_begin() {
    let authority = Authority::new();
    for (name, greeting, word) in [
        ("localhost", "INFO\nINJECTED\n", "said more"),
        ("localhost", "INFO\nINJ", "said more"),
        ("", "INFO\n", "Name"),
        ("not a name!", "INFO\n", "Name"),
    ] {
        for is_told in [true, false] {
            let listener = Listener::new();
            let errors = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&errors);
            let builder = Client::builder(format!("tcp://{}", listener.address()))
                .tls(authority.tls())
                .login(move |login| {
                    login.recv()?;
                    // a hook that does not look
                    let failed = login.start_tls(name);
                    let sent = login.send("PASS secret");
                    told.lock().unwrap().push((format!("{failed:?}"), sent.is_err()));
                    if is_told { Ok(failed?) } else { Ok(()) }
                });
            let (heard, cause) = heard_in_the_clear(builder, &listener, greeting.as_bytes());
            assert_eq!(heard, "", "{name:?} {greeting:?}");
            assert!(matches!(&*cause, Failure::Login { .. }), "{cause:?}");
            let (failed, is_refused) = errors.lock().unwrap()[0].clone();
            assert!(failed.contains(word) && is_refused, "{failed}");
        }
    }
    // where there is TLS, or nothing that could have it
    let config = authority.issue("localhost", |_| {}).config();
    let listener = Listener::new();
    let (builder, watch) = watch(client(listener.address(), authority.tls()).login(|login| {
        let _ = login.start_tls("localhost");
        Ok(())
    }));
    let client = builder.start().unwrap();
    let _server = tungstenite::accept(accept_tls(&listener, &config)).unwrap();
    assert!(matches!(&*watch.attempt_failed(), Failure::Login { .. }));
    drop(client);
}

#[test]
fn a_packet_that_is_passed_over_does_not_reach_into_tls() {
    // lines, and packets to be skipped: a # and how much follows
    let decode = |bytes: &[u8]| -> Result<Option<Packet>, CodecError> {
        Ok(match bytes.iter().position(|byte| *byte == b'\n') {
            _ if bytes[0] == b'#' => {
                bytes.get(1).map(|size| Packet::new(2 + usize::from(*size - b'0')).skipped())
            }
            end => end.map(|end| Packet::new(end + 1).payload(0..end).text()),
        })
    };
    let encode = |_: &Message, _: &mut Vec<u8>| -> Result<(), CodecError> { Ok(()) };
    let listener = Listener::new();
    let builder = Client::builder(format!("tcp://{}", listener.address()))
        .tls(Authority::new().tls())
        .framing(Framing::custom(move || (decode, encode)))
        .login(|login| {
            login.recv()?;
            assert!(login.recv_timeout(ms(50)).is_err());
            Ok(login.start_tls("localhost")?)
        });
    let (heard, cause) = heard_in_the_clear(builder, &listener, b"INFO\n#7");
    assert!(heard.is_empty(), "it has begun TLS");
    assert!(format!("{cause:?}").contains("said more"), "{cause:?}");
}
