//! All that a connection lives through, in a few seconds under valgrind.
//!
//! ```text
//! cargo build --example lifecycle
//! valgrind --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=1 \
//!     target/debug/examples/lifecycle
//! ```
//!
//! Client and server are both in this process, over plain TCP and over TLS, without a session and
//! with one: they connect, echo 1,000 messages, lose the connection five times meanwhile, and close.
//! Every message has to come back; without a session the few that a cut took are sent again.

use std::sync::Arc;
use std::time::Duration;

use everlink::config::{Backoff, Delivery, Heartbeat, Resume, Timeouts, Tls};
use everlink::rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
use everlink::rustls::pki_types::PrivateKeyDer;
use everlink::rustls::{self, ServerConfig};
use everlink::{Client, Event, Server, Session};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const MESSAGES: u32 = 1_000;
const RECONNECTS: u32 = 5;

/// valgrind runs one thread at a time, fifty times as slow.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    env_logger::init();
    for is_secure in [false, true] {
        for has_session in [false, true] {
            live(is_secure, has_session)?;
        }
    }
    Ok(())
}

fn live(is_secure: bool, has_session: bool) -> Result<()> {
    let timeouts = Timeouts::new().handshake(PATIENCE).close(PATIENCE);
    let heartbeat = Heartbeat::every(PATIENCE / 2).dead_after(PATIENCE);
    let mut server = Server::builder().timeouts(timeouts).heartbeat(heartbeat.clone());
    let mut tls = Tls::new();
    if is_secure {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        tls = tls.root_certificate_der(certified.cert.der());
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let mut provider = rustls::crypto::ring::default_provider();
        // valgrind takes the tags of ring's AES-GCM for uninitialised: it loses track in its assembly
        provider.cipher_suites = vec![TLS13_CHACHA20_POLY1305_SHA256];
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)?;
        server = server.tls(Arc::new(config));
    }
    if has_session {
        server = server.resume(Resume::within(PATIENCE));
    }
    let server = server.bind("127.0.0.1:0", echo)?;
    let address = server.local_addr();
    let scheme = if is_secure { "wss" } else { "ws" };
    let mut client = Client::builder(format!("{scheme}://localhost:{}", address.port()))
        .connect_to(address)
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .timeouts(timeouts)
        .heartbeat(heartbeat)
        .delivery(Delivery::AtLeastOnce)
        .tls(tls);
    if has_session {
        client = client.resume(Resume::new());
    }
    let client = client.connect()?;
    for number in 0..MESSAGES {
        if number % (MESSAGES / RECONNECTS) == MESSAGES / RECONNECTS / 2 {
            let mut events = client.subscribe();
            client.reconnect()?;
            events.find(|event| matches!(event, Event::Connected { .. }));
        }
        let text = number.to_string();
        client.send(text.as_str())?;
        // what is sent again is echoed again
        while client.recv_timeout(PATIENCE)?.as_text() != Some(&text) {}
    }
    let reconnects = client.stats().reconnects;
    let is_closed = client.close().ended && server.shutdown(PATIENCE).stuck == 0;
    println!("{scheme}, session: {has_session}: {MESSAGES} echoed, {reconnects} reconnects");
    if !is_closed || reconnects < u64::from(RECONNECTS) {
        return Err(format!("closed: {is_closed}, {reconnects} reconnects").into());
    }
    Ok(())
}

fn echo(session: Session) {
    for message in &session {
        if session.send(message).is_err() {
            return;
        }
    }
}
