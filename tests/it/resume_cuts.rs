//! A whole session, cut once at each of its bytes, from the opening handshake, offer, answer and first
//! report to its end and the answer to that: nothing lost, nothing twice, both ways, and both ends know.

use crate::support::resumed::resuming_server;
use crate::support::*;
use crossbeam_channel::{Receiver, unbounded};
use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::config::{Backoff, Framing, Heartbeat, Prefix};
use everlink::{Client, ClientBuilder, Event, Server, ServerBuilder, Session};

const COUNT: usize = 5;

/// Behind length prefixes all is binary.
fn text(message: &everlink::Message) -> String {
    String::from_utf8(message.as_bytes().to_vec()).unwrap()
}

fn words(number: usize) -> String {
    format!("{number} {}", "abcdefghij".repeat(number))
}

/// Sends and receives all of them; what was received goes to the test, with the session's path.
fn server(builder: ServerBuilder) -> (Server, Receiver<(String, Vec<String>)>) {
    let (sender, results) = unbounded();
    let handler = move |session: Session| {
        let path = session.incoming().map(|incoming| incoming.path().to_owned());
        for number in 0..COUNT {
            let _ = session.send(words(number));
        }
        let received: Vec<String> =
            session.iter().take(COUNT).map(|message| text(&message)).collect();
        // one whose client is gone has received nothing
        if !received.is_empty() {
            let _ = sender.send((path.unwrap_or_default(), received));
        }
        // more than was sent is a result of its own, which nobody waits for
        let more: Vec<String> = session.iter().map(|message| text(&message)).collect();
        if !more.is_empty() {
            let _ = sender.send(("more than was sent".into(), more));
        }
    };
    let server = builder.bind("127.0.0.1:0", handler).expect("a port");
    (server, results)
}

fn cut_at_every(
    step: u64,
    scheme: &str,
    builder: ServerBuilder,
    prepare: impl Fn(ClientBuilder) -> ClientBuilder,
) {
    let (server, results) = server(builder);
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let expected: Vec<String> = (0..COUNT).map(words).collect();
    let (mut place, mut resumptions, mut cut_in_the_end) = (1, 0, 0);
    loop {
        // silence takes its time to be noticed
        let how = match place / step % 16 {
            0 => Cut::Silence,
            odd if odd % 2 == 1 => Cut::Reset,
            _ => Cut::EndOfStream,
        };
        proxy.set(Faults::none().cut_after(how, place).at_most(1)).unwrap();
        let before = proxy.cuts();
        let is_websocket = scheme.starts_with("ws");
        let expected_path = if is_websocket { format!("/{place}") } else { String::new() };
        let url = format!("{scheme}://{}{expected_path}", proxy.address());
        let client = Client::builder(&url)
            .resume(everlink::config::Resume::new())
            .backoff(Backoff::fixed(ms(1)))
            .timeouts(everlink::config::Timeouts::new().handshake(ms(300)))
            .heartbeat(Heartbeat::every(ms(30)).dead_after(ms(120)));
        let (client, events) = watch(prepare(client));
        let client = client.start().unwrap();
        for text in &expected {
            client.send(text.as_str()).unwrap();
        }
        let received: Vec<String> =
            (0..COUNT).map(|_| text(&client.recv_timeout(PATIENCE).unwrap())).collect();
        assert_eq!(received, expected, "at the client, {how:?} at {place}");
        client.flush(PATIENCE).unwrap();
        assert!(client.try_recv().unwrap().is_none(), "more than was sent, {how:?} at {place}");
        let was_cut_before = proxy.cuts() > before;
        let report = client.close();
        assert!(report.undelivered.is_empty(), "{report:?}, {how:?} at {place}");
        resumptions += client.stats().resumed;
        let is_clean = events.until(|event| match event {
            Event::Closed { clean, .. } => Some(*clean),
            _ => None,
        });
        assert!(is_clean, "the client does not know of the end, {how:?} at {place}");
        let (path, at_server) = results.recv_timeout(PATIENCE).unwrap();
        assert_eq!(path, expected_path);
        assert_eq!(at_server, expected, "at the server, {how:?} at {place}");
        match (was_cut_before, proxy.cuts() > before) {
            (true, _) => {}
            (false, true) => cut_in_the_end += 1,
            (false, false) => break,
        }
        place += step;
    }
    assert!(place > 300 && resumptions > 100 / step, "{place} bytes, {resumptions} resumptions");
    assert!(cut_in_the_end > 10 / step, "{cut_in_the_end} cuts in the end");
    eventually("no session waits for nobody", || match server.stats() {
        stats if stats.sessions == 0 && stats.detached == 0 => Ok(()),
        stats => Err(Box::new(stats)),
    });
    let stats = server.stats();
    assert_eq!((stats.expired, stats.evicted), (0, 0));
}

#[test]
fn at_each_byte() {
    cut_at_every(1, "ws", resuming_server(), |client| client);
}

#[test]
fn at_each_byte_of_fragments() {
    cut_at_every(3, "ws", resuming_server(), |client| {
        client.limits(everlink::config::Limits::new().fragment(4))
    });
}

#[cfg(feature = "deflate")]
#[test]
fn at_each_byte_of_what_is_compressed() {
    let compression = || everlink::config::Compression::new().threshold(1);
    let server = resuming_server().compression(compression());
    cut_at_every(3, "ws", server, move |client| client.compression(compression()));
}

#[test]
fn at_each_byte_of_lines() {
    let server = resuming_server().framing(Framing::lines());
    cut_at_every(1, "tcp", server, |client| client.framing(Framing::lines()));
}

#[test]
fn at_each_byte_of_what_has_its_length_before_it() {
    let framing = || Framing::length_prefixed(Prefix::U16).inclusive();
    let server = resuming_server().framing(framing());
    cut_at_every(1, "tcp", server, move |client| client.framing(framing()));
}

#[cfg(feature = "tls")]
#[test]
fn at_each_byte_of_tls() {
    let (server, tls) = secured(resuming_server());
    cut_at_every(11, "wss", server, move |client| client.tls(tls.clone()));
}

#[cfg(feature = "tls")]
#[test]
fn at_each_byte_of_lines_in_tls() {
    let (server, tls) = secured(resuming_server().framing(Framing::lines()));
    cut_at_every(11, "tcps", server, move |client| {
        client.framing(Framing::lines()).tls(tls.clone())
    });
}

/// The server with a certificate, and what its clients need for that.
#[cfg(feature = "tls")]
fn secured(server: ServerBuilder) -> (ServerBuilder, everlink::config::Tls) {
    use everlink::rustls::ServerConfig;
    use everlink::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let identity = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let certificate: CertificateDer<'static> = identity.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let tls = everlink::config::Tls::new().root_certificates_pem(identity.cert.pem().as_bytes());
    (server.tls(std::sync::Arc::new(config)), tls)
}
