//! What the log of a server says of its clients speaks of them. Alone in its file, for the logger is
//! the whole process's.
#![cfg(feature = "tls")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use everlink::config::Tls;
use everlink::rustls::pki_types::PrivateKeyDer;
use everlink::rustls::server::WebPkiClientVerifier;
use everlink::rustls::{self, RootCertStore, ServerConfig};
use everlink::{Answer, Client, Server, ServerBuilder};
use log::{LevelFilter, Log, Metadata, Record};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{PATIENCE, eventually};

struct Captured(Mutex<Vec<String>>);

static CAPTURED: Captured = Captured(Mutex::new(Vec::new()));

impl Log for Captured {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("everlink")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(format!("{}: {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority) -> (rcgen::Certificate, KeyPair) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

/// Trusts the authority, and wants a certificate of its own from every client.
fn mutual(authority: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (cert, key) = issue(authority);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The record about the client that has come from there.
fn record_of(server: &Server, port: impl Into<Option<u16>>) -> String {
    let port = port.into();
    let mut found = None;
    eventually("a record", || {
        let mut captured = CAPTURED.0.lock().unwrap();
        let about = |line: &String| {
            line.contains("did not open")
                && port.is_none_or(|port| line.contains(&format!("127.0.0.1:{port} ")))
        };
        found = captured.iter().position(about).map(|index| captured.remove(index));
        found.as_ref().map(drop).ok_or(server.stats().accepted)
    });
    found.unwrap()
}

fn says(server: &Server, port: impl Into<Option<u16>>, words: &str) {
    let line = record_of(server, port);
    assert!(line.contains(words), "{words:?} is not said: {line}");
    for wrong in ["the server", "identity_pem", "our certificate"] {
        assert!(!line.contains(wrong), "about the wrong party: {line}");
    }
}

fn start(builder: ServerBuilder) -> (Server, SocketAddr) {
    let server = builder.bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let address = server.local_addr();
    (server, address)
}

/// Connects, says that much and no more; returns from which port.
fn scan(address: SocketAddr, said: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(said).unwrap();
    stream.local_addr().unwrap().port()
}

#[test]
fn the_records_of_a_server_speak_of_the_client() {
    log::set_logger(&CAPTURED).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let ours = authority("ours");
    let (server, address) = start(Server::builder().tls(mutual(&ours)));
    let dial = |tls: Tls| {
        let url = format!("wss://localhost:{}", address.port());
        let client = Client::builder(&url).connect_to(address).tls(tls).max_attempts(1).start();
        client.unwrap().wait_connected(PATIENCE)
    };
    let trusting = || Tls::new().root_certificates_pem(ours.pem().as_bytes());
    let _ = dial(trusting());
    says(&server, None, "the peer's certificate is rejected: there is none");
    let stranger = authority("a stranger");
    let (cert, key) = issue(&stranger);
    let identity = (cert.pem(), key.serialize_pem());
    let _ = dial(trusting().identity_pem(identity.0.as_bytes(), identity.1.as_bytes()));
    says(&server, None, "the peer's certificate is rejected: no trusted authority has signed it");
    let _ = dial(trusting().alpn(["mqtt"]));
    says(&server, None, "no application protocol in common");
    says(&server, scan(address, b""), "DEBUG: ");
    says(&server, scan(address, b"\x16"), "INFO: ");
    // of the certificates too, and of no key
    let (own, other) = (issue(&ours), issue(&ours).1.serialize_pem());
    let identity = |key: &str| Tls::new().identity_pem(own.0.pem().as_bytes(), key.as_bytes());
    server.set_tls(identity(&other)).unwrap_err();
    server.set_tls(identity(&own.1.serialize_pem())).unwrap();
    {
        let captured = CAPTURED.0.lock().unwrap();
        for (level, words) in
            [("WARN", "certificates stay as they were"), ("INFO", "certificates have changed")]
        {
            let is_it = |line: &&String| line.starts_with(level) && line.contains(words);
            let said: Vec<_> = captured.iter().filter(is_it).collect();
            assert_eq!(said.len(), 1, "{words:?}: {captured:?}");
            assert!(!said[0].contains(other.lines().nth(1).unwrap()), "{said:?}");
        }
    }

    let (server, address) = start(
        Server::builder().on_request(|_| Answer::reject(everlink::http::StatusCode::NOT_FOUND)),
    );
    let get = |request: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        stream.local_addr().unwrap().port()
    };
    says(&server, scan(address, b""), "DEBUG: ");
    says(&server, scan(address, b"G"), "INFO: ");
    says(&server, get("SSH-2.0-x\r\n\r\n"), "the peer does not speak HTTP/1.1");
    says(&server, get("GET / HTTP/1.1\r\n\r\n"), "no Host");
    says(&server, get("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "answered 404");
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    says(&server, get(&long), "headers over");
}
