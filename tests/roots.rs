//! The system's root certificates: a private authority is trusted when the system's store has it, and
//! only then. One of these features at a time, for each replaces or adds to what is trusted:
//!
//! ```text
//! cargo test --locked --features native-roots --test roots
//! cargo test --locked --features platform-verifier --test roots
//! ```
//!
//! On Linux both take the store from `SSL_CERT_FILE`, which is read once in a process: so each client
//! is a process of its own.
#![cfg(all(target_os = "linux", any(feature = "native-roots", feature = "platform-verifier")))]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use everlink::rustls::pki_types::PrivateKeyDer;
use everlink::rustls::{self, ServerConfig};
use everlink::{Client, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn server(authority: &Authority, name: &str) -> Server {
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let server = Server::builder().tls(Arc::new(config));
    server.bind("127.0.0.1:0", |session| drop(session.recv())).unwrap()
}

/// The system's store of a child, with this authority in it.
fn store(authority: &Authority, name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, authority.pem()).unwrap();
    path
}

/// What becomes of a client in a process whose system trusts what is in this file.
fn connected(address: SocketAddr, store: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_client_of_a_child", "--nocapture"])
        .env("EVERLINK_TEST_PORT", address.port().to_string())
        .env("SSL_CERT_FILE", store)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Does nothing but in the child.
#[test]
fn the_client_of_a_child() {
    let Ok(port) = std::env::var("EVERLINK_TEST_PORT") else { return };
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    let client = Client::builder(format!("wss://localhost:{port}")).connect_to(address).connect();
    match client {
        Ok(client) => println!("it is connected: {}", client.close().ended),
        Err(error) => println!("it is not: {error}"),
    }
}

#[test]
fn the_systems_store_decides_whom_to_trust() {
    let (ours, other) = (authority("everlink tests"), authority("somebody else"));
    let (with, without) = (store(&ours, "ours.pem"), store(&other, "other.pem"));
    let trusted = server(&ours, "localhost");
    let said = connected(trusted.local_addr(), &with);
    assert!(said.contains("it is connected: true"), "{said}");
    let said = connected(trusted.local_addr(), &without);
    assert!(said.contains("it is not") && said.contains("certificate is rejected"), "{said}");
    // the name is checked as well
    let misnamed = server(&ours, "elsewhere.invalid");
    let said = connected(misnamed.local_addr(), &with);
    assert!(said.contains("it is for another name"), "{said}");
}
