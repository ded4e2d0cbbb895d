//! Python aiohttp over TLS.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use everlink::config::{Heartbeat, Limits, Tls};
use everlink::rustls::pki_types::PrivateKeyDer;
use everlink::rustls::{self, ServerConfig};
use everlink::{Answer, Client, CloseFrame, Event, Failure, Message, Server};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

use super::{Deflate, Peer, SIZES, close_code};
use crate::support::peers::Program;
use crate::support::{PATIENCE, init_log, ms, watch};

const COUNT: usize = 500;

/// An authority of the test's own, the certificate that it signed for 127.0.0.1, and the folder from
/// which Python reads both.
struct Certificates {
    folder: PathBuf,
    authority: String,
    server: Arc<ServerConfig>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "everlink tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // new versions of Python insist on this, and on the identifier below
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();

        static CREATED: AtomicUsize = AtomicUsize::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("everlink-aiohttp-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self { folder, authority: issuer.pem(), server: Arc::new(server) }
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_client_of_a_server_of_python_aiohttp_over_tls() {
    client_against(Deflate::Off);
}

#[cfg(feature = "deflate")]
#[test]
fn a_compressing_client_of_a_server_of_python_aiohttp_over_tls() {
    client_against(Deflate::Takeover);
    client_against(Deflate::Alone);
}

fn client_against(deflate: Deflate) {
    init_log();
    let Some(mut command) = Peer::Aiohttp.command(deflate) else { return };
    let certificates = Certificates::new();
    let server = Program::start(command.arg("server").env("EVERLINK_TLS", &certificates.folder));
    let line = server.line();
    let url = line.strip_prefix("listening ").expect("where it listens");
    let (builder, watch) = watch(
        deflate
            .client(Client::builder(url))
            .tls(Tls::new().root_certificates_pem(certificates.authority.as_bytes()))
            .subprotocols(["v1", "v2"])
            .heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE)),
    );
    let client = builder.connect().unwrap();
    let Event::Connected { response, compression, .. } = watch.connected() else { unreachable!() };
    deflate.check(compression);
    assert_eq!(response.unwrap().headers()["sec-websocket-protocol"], "v2");
    client.send("subprotocol?").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("v2"));
    for size in SIZES {
        for message in [Message::from("t".repeat(size)), Message::from(vec![b'b'; size])] {
            client.send(message.clone()).unwrap();
            let echo = client.recv_timeout(PATIENCE).unwrap();
            assert!(echo == message, "{size} bytes came back as {echo:?}");
        }
    }
    for number in 0..COUNT {
        client.send(number.to_string()).unwrap();
    }
    for number in 0..COUNT {
        let echo = client.recv_timeout(PATIENCE).unwrap();
        assert_eq!(echo.as_text(), Some(&*number.to_string()));
    }
    client.flush(PATIENCE).unwrap();

    client.send("close 4000 going").unwrap();
    let cause = watch.disconnected();
    let Failure::Closed(Some(CloseFrame { code, reason, .. })) = &*cause else {
        panic!("{cause:?}")
    };
    assert_eq!((code.0, reason.as_str()), (4000, "going"));
    assert!(server.line().starts_with("closed 4000"));
    watch.connected();
    let report = client.close_with(4000, "bye").unwrap();
    assert!(report.ended && report.undelivered.is_empty(), "{report:?}");
    assert_eq!(server.line(), "closed 4000 bye");
}

/// Lets the peer do this as a client of a server over TLS. Returns how the session ended, or `None`
/// if the peer is not installed.
fn served(task: &str, deflate: Deflate) -> Option<Option<Arc<Failure>>> {
    init_log();
    let mut command = Peer::Aiohttp.command(deflate)?;
    let certificates = Certificates::new();
    let (ended, ends) = mpsc::channel();
    let server = deflate
        .server(Server::builder())
        .limits(Limits::new().message(64 << 20))
        .tls(Arc::clone(&certificates.server))
        .on_request(|_| Answer::accept().subprotocol("v2"))
        .heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE))
        .bind("127.0.0.1:0", move |session| {
            deflate.check(session.compression());
            for message in session.iter() {
                if message.as_text() == Some("close 4000 going") {
                    session.close_with(4000, "going").unwrap();
                } else if session.send(message).is_err() {
                    break;
                }
            }
            let _ = ended.send(session.failure());
        })
        .unwrap();
    let output = command
        .args([task, &format!("wss://{}", server.local_addr())])
        .env("EVERLINK_TLS", &certificates.folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(ends.recv_timeout(PATIENCE).unwrap())
}

#[test]
fn a_server_of_a_client_of_python_aiohttp_over_tls() {
    if let Some(cause) = served("client", Deflate::Off) {
        assert_eq!(close_code(cause), 4000);
    }
}

#[cfg(feature = "deflate")]
#[test]
fn a_compressing_server_of_a_client_of_python_aiohttp_over_tls() {
    for deflate in [Deflate::Takeover, Deflate::Alone] {
        if let Some(cause) = served("client", deflate) {
            assert_eq!(close_code(cause), 4000);
        }
    }
}

#[test]
fn python_aiohttp_sees_the_close_code_of_a_server_over_tls() {
    served("closed", Deflate::Off);
}

#[test]
fn python_aiohttp_answers_the_close_frame_of_a_server_over_tls() {
    if let Some(cause) = served("closed", Deflate::Off) {
        assert_eq!(close_code(cause), 4000);
    }
}
