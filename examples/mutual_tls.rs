//! TLS in which both sides prove who they are: the server asks each client for a certificate of the
//! company's own authority, and knows from it who is there.
//!
//! ```text
//! cargo run --example mutual_tls
//! ```
//!
//! The authority and all certificates are made on the spot; in a real program they are PEM files:
//! `identity_files`, `client_authorities_file`, `root_certificates_file`.

use std::time::Duration;

use everlink::config::Tls;
use everlink::failure::TlsError;
use everlink::{Client, Error, Failure, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
type Authority = CertifiedIssuer<'static, KeyPair>;

fn main() -> Result<()> {
    env_logger::init();
    let (company, stranger) = (authority("the company")?, authority("a stranger")?);
    let (certificate, key) = issue(&company, "localhost")?;
    // trusts the authority, and wants a certificate of it from every client
    let tls = Tls::new()
        .identity_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
        .client_authorities_pem(company.pem().as_bytes());
    let server = Server::builder().tls(tls).bind("127.0.0.1:0", |session| {
        // verified already: this only says which of the company's clients it is
        let names = session.tls().map(|tls| tls.peer_dns_names()).unwrap_or_default();
        let _ = session.send(format!("hello, {}", names.join(" and ")));
        let _ = session.recv();
    })?;
    let dial = |tls: Tls| {
        let url = format!("wss://localhost:{}", server.local_addr().port());
        // the certificate is for the name, and loopback has the address
        Client::builder(url).connect_to(server.local_addr()).tls(tls).connect()
    };
    let trusting = || Tls::new().root_certificates_pem(company.pem().as_bytes());

    let (certificate, key) = issue(&company, "pump-7")?;
    let client = dial(
        trusting().identity_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()),
    )?;
    let greeting = client.recv_timeout(Duration::from_secs(5))?;
    println!("with a certificate of the company: {greeting}");
    client.close();
    if greeting != "hello, pump-7" {
        return Err("the server has seen another certificate".into());
    }

    // in TLS 1.3 the verdict comes after the handshake; it is found all the same, and is final
    let (certificate, key) = issue(&stranger, "pump-7")?;
    for (who, tls) in [
        ("without a certificate", trusting()),
        (
            "with a stranger's certificate",
            trusting().identity_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()),
        ),
    ] {
        let error = match dial(tls) {
            Ok(client) => client.recv_timeout(Duration::from_secs(5)).err(),
            Err(error) => Some(error),
        };
        match error {
            Some(Error::Connect(cause) | Error::GaveUp(cause)) if is_about_us(&cause) => {
                println!("{who}: {cause}");
            }
            other => return Err(format!("{who}: expected a refusal, got {other:?}").into()),
        }
    }
    // and a server that the client does not trust gets nothing to read
    match dial(Tls::new().root_certificates_pem(stranger.pem().as_bytes())) {
        Err(Error::Connect(cause)) => println!("to whom it does not trust: {cause}"),
        other => return Err(format!("expected no connection, got {other:?}").into()),
    }
    Ok(())
}

fn is_about_us(cause: &Failure) -> bool {
    matches!(cause, Failure::Tls(TlsError::OwnCertificate { .. }))
}

fn authority(name: &str) -> Result<Authority> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn issue(authority: &Authority, name: &str) -> Result<(rcgen::Certificate, KeyPair)> {
    let params = CertificateParams::new(vec![name.to_owned()])?;
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, authority)?, key))
}
