//! Clients and servers for `fork.py`, as a program in another language has them.

use std::ffi::{CStr, c_char};
use std::sync::Arc;
use std::time::Duration;

use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::rustls::ServerConfig;
use everlink::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use everlink::config::Tls;
use everlink::{Client, Server};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Both {
    server: Option<Server>,
    client: Option<Client>,
    /// What stands between the two.
    proxy: Option<FaultProxy>,
}

/// A server that echoes, and a client of it.
#[unsafe(no_mangle)]
pub extern "C" fn both_new(is_tls: bool) -> *mut Both {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = key.cert.der().clone();
    let mut builder = Server::builder();
    if is_tls {
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.clone()], private).unwrap();
        builder = builder.tls(Arc::new(config));
    }
    let server = builder.bind("127.0.0.1:0", |session| {
        for message in &session {
            if session.send(message).is_err() {
                break;
            }
        }
    });
    let server = server.unwrap();
    let scheme = if is_tls { "wss" } else { "ws" };
    let client = Client::builder(format!("{scheme}://localhost:{}", server.local_addr().port()));
    let tls = Tls::new().root_certificate_der(&certificate);
    let client = if is_tls { client.tls(tls) } else { client };
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client = client.connect_to(proxy.address()).connect().unwrap();
    Box::into_raw(Box::new(Both { server: Some(server), client: Some(client), proxy: Some(proxy) }))
}

fn both<'a>(both: *mut Both) -> &'a mut Both {
    // the program passes what it was given
    unsafe { &mut *both }
}

#[unsafe(no_mangle)]
pub extern "C" fn port(both_: *mut Both) -> u16 {
    both(both_).server.as_ref().map_or(0, |server| server.local_addr().port())
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_port(both_: *mut Both) -> u16 {
    both(both_).proxy.as_ref().map_or(0, |proxy| proxy.address().port())
}

/// Whether it was accepted.
#[unsafe(no_mangle)]
pub extern "C" fn send(both_: *mut Both, text: *const c_char) -> bool {
    let text = unsafe { CStr::from_ptr(text) }.to_str().unwrap();
    both(both_).client.as_ref().is_some_and(|client| client.send(text).is_ok())
}

/// Whether this is what comes next.
#[unsafe(no_mangle)]
pub extern "C" fn receives(both_: *mut Both, text: *const c_char) -> bool {
    let text = unsafe { CStr::from_ptr(text) }.to_str().unwrap();
    let next = both(both_).client.as_ref().map(|client| client.recv_timeout(PATIENCE));
    next.is_some_and(|next| next.is_ok_and(|message| message == text))
}

/// How many links there were.
#[unsafe(no_mangle)]
pub extern "C" fn links(both_: *mut Both) -> u64 {
    both(both_).client.as_ref().map_or(0, |client| client.stats().connects)
}

#[unsafe(no_mangle)]
pub extern "C" fn close(both_: *mut Both) {
    let both = both(both_);
    if let Some(proxy) = &both.proxy {
        let _ = proxy.set(Faults::none().refuse());
        proxy.cut(Cut::Reset);
    }
    if let Some(client) = &both.client {
        let _ = client.subscribe().recv_timeout(Duration::ZERO);
        let _ = (client.state(), client.status(), client.reconnect().is_err());
        client.close();
    }
    if let Some(server) = &both.server {
        for session in server.sessions() {
            session.close();
        }
        server.broadcast("from the child");
        server.shutdown(PATIENCE);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn drop_both(both_: *mut Both) {
    let both = both(both_);
    drop(both.client.take());
    drop(both.server.take());
    drop(both.proxy.take());
}
