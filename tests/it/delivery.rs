//! What became of the messages.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::chaos::{FaultProxy, Faults};
use everlink::config::{
    Backoff, Delivery, Framing, Heartbeat, Overflow, Queue, SendOptions, Timeouts,
};
use everlink::failure::Undelivered;
use everlink::{Client, ClientBuilder, Error, Event, SendError, Server, State};

/// Serves one connection after the other, each to its very end, and reports the numbers that
/// come.
fn collect_numbers() -> (SocketAddr, mpsc::Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, numbers) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut peer) = tungstenite::accept(stream) else { continue };
            while let Ok(message) = peer.read() {
                if let tungstenite::Message::Text(text) = message {
                    if sender.send(text.parse().unwrap()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    (address, numbers)
}

const TORTURE: u64 = 200_000;
const CUTS: u64 = 220;

struct Tortured {
    numbers: Vec<u64>,
    stats: everlink::stats::ClientStats,
    unconfirmed: u64,
    flushed: Result<(), Error>,
    cuts: u64,
}

/// Sends 200,000 numbers through a proxy that cuts more than 200 times.
fn torture(delivery: Delivery) -> Tortured {
    init_log();
    let (server, received) = collect_numbers();
    let within = if delivery == Delivery::AtLeastOnce { 20_000 } else { 10_000 };
    let proxy = FaultProxy::with_seed(server, 7).unwrap();
    proxy.set(Faults::none().cut_within(within).at_most(CUTS)).unwrap();
    let builder = Client::builder(format!("ws://{}", proxy.address()))
        .delivery(delivery)
        .heartbeat(Heartbeat::every(ms(30)).dead_after(ms(150)))
        .timeouts(Timeouts::new().handshake(ms(500)))
        .backoff(Backoff::fixed(ms(0)))
        // a proxy that cuts inside a handshake is no reason to stop
        .decide(|_, _| everlink::failure::Decision::Retry);
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    for number in 0..TORTURE {
        client.send(number.to_string()).unwrap();
        // without repetition a cut takes all that is under way with it: not too much at once, or
        // there is nothing left to cut
        if delivery == Delivery::AtMostOnce && number % 500 == 0 {
            let _ = client.flush(PATIENCE);
        }
    }
    let flushed = client.flush(Duration::from_secs(120));
    let mut numbers: Vec<u64> = Vec::new();
    // with AtMostOnce the last of them may be lost, so what comes is read until nothing does
    client.wait_sent(Duration::from_secs(60)).unwrap();
    while let Ok(number) = received.recv_timeout(ms(500)) {
        numbers.push(number);
    }
    let stats = client.stats();
    client.close();
    let unconfirmed = watch
        .rest()
        .iter()
        .map(|event| match event {
            Event::Disconnected { unconfirmed, will_be_resent, .. } => {
                assert_eq!(*will_be_resent, delivery == Delivery::AtLeastOnce);
                *unconfirmed
            }
            _ => 0,
        })
        .sum();
    Tortured { numbers, stats, unconfirmed, flushed, cuts: proxy.cuts() }
}

/// First arrivals in order, and how many arrivals were not the first.
fn firsts(numbers: &[u64]) -> (Vec<u64>, u64) {
    let mut seen = HashSet::new();
    let firsts: Vec<u64> = numbers.iter().copied().filter(|number| seen.insert(*number)).collect();
    let duplicates = numbers.len() - firsts.len();
    (firsts, duplicates as u64)
}

#[test]
fn at_least_once_loses_nothing_and_first_arrivals_are_in_order() {
    let Tortured { numbers, stats, flushed, cuts, .. } = torture(Delivery::AtLeastOnce);
    flushed.unwrap();
    assert!(cuts >= 200, "only {cuts} cuts");
    let (firsts, duplicates) = firsts(&numbers);
    assert!(firsts.iter().copied().eq(0..TORTURE), "{} of {TORTURE} arrived", firsts.len());
    assert!(duplicates <= stats.resent, "{duplicates} duplicates: {stats:?}");
    assert_eq!(stats.unconfirmed, 0);
    println!("{cuts} cuts, {duplicates} duplicates, {} resent", stats.resent);
}

#[test]
fn at_most_once_repeats_nothing_and_knows_what_may_be_lost() {
    let Tortured { numbers, stats, unconfirmed, cuts, .. } = torture(Delivery::AtMostOnce);
    assert!(cuts >= 200, "only {cuts} cuts");
    assert!(numbers.is_sorted_by(|a, b| a < b), "reordered or sent twice");
    let lost = TORTURE - numbers.len() as u64;
    assert!(lost <= unconfirmed, "{lost} lost, {unconfirmed} unconfirmed: {stats:?}");
    assert_eq!(stats.resent, 0);
    println!("{cuts} cuts, {lost} lost, {unconfirmed} unconfirmed");
}

/// Not a test of its own: the server of the next ones, in a process that is killed.
#[test]
fn child_number_server() {
    use std::io::Write;
    let Some(port) = std::env::var("EVERLINK_TEST_PORT").ok().and_then(|port| port.parse().ok())
    else {
        return;
    };
    let port: u16 = port;
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    println!("\nready");
    let mut output = std::io::stdout().lock();
    for stream in listener.incoming().flatten() {
        // a number is out of this process before its pong is: that goes with the next read
        let mut report = |message| {
            if let Ok(tungstenite::Message::Text(text)) = message {
                writeln!(output, "got {text}").and_then(|()| output.flush()).is_ok()
            } else {
                matches!(message, Ok(tungstenite::Message::Ping(_)))
            }
        };
        match std::env::var("EVERLINK_TEST_CERT") {
            Err(_) => {
                let Ok(mut peer) = tungstenite::accept(stream) else { continue };
                while report(peer.read()) {}
            }
            #[cfg(feature = "tls")]
            Ok(folder) => {
                let stream = secure::accept(stream, &folder);
                let Ok(mut peer) = tungstenite::accept(stream) else { continue };
                while report(peer.read()) {}
            }
            #[cfg(not(feature = "tls"))]
            Ok(_) => unreachable!(),
        }
    }
}

/// Sends numbers to a server that is killed and started again ten times.
fn survive_kills(url: impl Fn(u16) -> ClientBuilder, cert: Option<&str>) {
    use std::io::BufRead;
    init_log();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "delivery::child_number_server", "--nocapture"])
            .env("EVERLINK_TEST_PORT", port.to_string())
            .stdout(std::process::Stdio::piped());
        if let Some(folder) = cert {
            command.env("EVERLINK_TEST_CERT", folder);
        }
        let mut child = command.spawn().unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "ready"), "the child did not start");
        (child, lines)
    };
    let client = url(port)
        .delivery(Delivery::AtLeastOnce)
        .backoff(Backoff::fixed(ms(5)))
        .timeouts(Timeouts::new().handshake(ms(2000)))
        .decide(|_, _| everlink::failure::Decision::Retry)
        .start()
        .unwrap();
    // there is something to send as long as servers are killed
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let sends = thread::spawn({
        let client = client.clone();
        move || {
            let mut total = 0_u64;
            while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                client.send(total.to_string())?;
                total += 1;
            }
            client.flush(Duration::from_secs(60)).map(|()| total)
        }
    });
    let mut numbers = Vec::new();
    let number_of =
        |line: &str| line.strip_prefix("got ").and_then(|text| text.parse::<u64>().ok());
    for _ in 0..10 {
        let (mut child, mut lines) = start();
        numbers.extend(lines.by_ref().filter_map(|line| number_of(&line)).take(500));
        child.kill().unwrap();
        child.wait().unwrap();
        // what it had said before it died
        numbers.extend(lines.filter_map(|line| number_of(&line)));
    }
    let (mut child, lines) = start();
    let rest = thread::spawn(move || lines.filter_map(|line| number_of(&line)).collect::<Vec<_>>());
    client.send_confirmed("0").unwrap().wait(Duration::from_secs(60)).unwrap();
    drop(stop);
    let total = sends.join().unwrap().unwrap();
    let stats = client.stats();
    client.close();
    child.kill().unwrap();
    child.wait().unwrap();
    numbers.extend(rest.join().unwrap());
    let (firsts, duplicates) = firsts(&numbers);
    assert!(firsts.iter().copied().eq(0..total), "{} of {total} arrived", firsts.len());
    // one of them is the zero that was sent on purpose
    assert!(duplicates <= stats.resent + 1, "{duplicates} duplicates: {stats:?}");
    assert_eq!(stats.reconnects, 10);
}

#[test]
fn a_server_that_is_killed_and_restarted_costs_nothing() {
    survive_kills(|port| Client::builder(format!("ws://127.0.0.1:{port}")), None);
}

#[cfg(feature = "tls")]
mod secure {
    use std::net::TcpStream;
    use std::sync::Arc;

    use everlink::Client;
    use everlink::config::Tls;
    use everlink::rustls::pki_types::pem::PemObject;
    use everlink::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use everlink::rustls::{self, ServerConfig, ServerConnection, StreamOwned};

    pub fn accept(stream: TcpStream, folder: &str) -> StreamOwned<ServerConnection, TcpStream> {
        let cert = CertificateDer::from_pem_file(format!("{folder}/cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(format!("{folder}/key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream)
    }

    #[test]
    fn a_server_that_is_killed_and_restarted_costs_nothing_over_tls() {
        let folder = std::env::temp_dir().join(format!("everlink-delivery-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        let tls = Tls::new().root_certificates_pem(cert.pem().as_bytes());
        let builder = |port: u16| {
            Client::builder(format!("wss://localhost:{port}"))
                .connect_to(([127, 0, 0, 1], port).into())
                .tls(tls.clone())
        };
        super::survive_kills(builder, Some(folder.to_str().unwrap()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn flush_costs_one_round_trip_on_a_healthy_link() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let server = thread::spawn(move || echo(listener.accept()));
    client.wait_connected(PATIENCE).unwrap();
    client.flush(PATIENCE).unwrap();
    assert_eq!(client.stats().pings_sent, 0, "there was nothing to ask for");
    for number in 1..=3 {
        client.send("x").unwrap();
        client.flush(PATIENCE).unwrap();
        let stats = client.stats();
        assert_eq!((stats.pings_sent, stats.confirmed), (number, number), "one ping each");
    }
    client.close();
    server.join().unwrap();
}

#[test]
fn flush_on_a_half_open_link_fails_at_its_deadline() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let listener = Listener::new();
        let client = listener
            .client()
            .delivery(delivery)
            .timeouts(Timeouts::new().close(ms(50)))
            .start()
            .unwrap();
        let _silent = listener.accept();
        client.wait_connected(PATIENCE).unwrap();
        for _ in 0..3 {
            client.send("x").unwrap();
        }
        let begun = Instant::now();
        let error = client.flush(ms(200)).unwrap_err();
        assert!(matches!(error, Error::Unconfirmed { count: 3, .. }), "{error:?}");
        assert!(begun.elapsed() >= ms(200), "{:?}", begun.elapsed());
        // and not because the link had ended
        assert_eq!(client.state(), State::Connected);
    }
}

#[test]
fn flush_waits_across_an_outage_and_says_what_it_cost() {
    for (delivery, expected) in [(Delivery::AtMostOnce, Some(2)), (Delivery::AtLeastOnce, None)] {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client().delivery(delivery));
        let client = builder.start().unwrap();
        let silent = listener.accept();
        watch.connected();
        client.send("a").unwrap();
        client.send("b").unwrap();
        client.wait_sent(PATIENCE).unwrap();
        let flushing = thread::spawn({
            let client = client.clone();
            move || client.flush(PATIENCE)
        });
        // the ping of the flush is on its way, and nobody will answer it
        eventually("the ping", || match client.stats() {
            stats if stats.pings_sent > 0 => Ok(()),
            stats => Err(Box::new(stats)),
        });
        reset(silent);
        let mut peer = listener.accept();
        if delivery == Delivery::AtLeastOnce {
            assert_eq!((next_text(&mut peer), next_text(&mut peer)), ("a".into(), "b".into()));
            // has the pong sent
            let server = thread::spawn(move || echo(peer));
            flushing.join().unwrap().unwrap();
            // the peer can be faster than the client's own bookkeeping
            client.wait_sent(PATIENCE).unwrap();
            assert_eq!(client.stats().resent, 2);
            client.close();
            server.join().unwrap();
        } else {
            let error = flushing.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::Unconfirmed { count , .. } if Some(count) == expected));
        }
    }
}

#[test]
fn an_idle_link_carries_no_confirmation_pings_and_a_busy_one_few() {
    let listener = Listener::new();
    // the echoes go nowhere: a sender that waits for confirmations must not leave them unread
    let builder = listener.client().delivery(Delivery::AtLeastOnce).on_message(|_, _| {});
    let client = builder.start().unwrap();
    let server = thread::spawn(move || echo(listener.accept()));
    for _ in 0..20_000 {
        client.send("x".repeat(100)).unwrap();
    }
    client.flush(PATIENCE).unwrap();
    let busy = client.stats();
    assert!(busy.pings_sent < 500, "{busy:?}");
    assert_eq!((busy.confirmed, busy.unconfirmed, busy.outbox_messages), (20_000, 0, 0));
    thread::park_timeout(ms(100));
    assert_eq!(client.stats().pings_sent, busy.pings_sent);
    client.close();
    server.join().unwrap();
}

#[test]
fn unconfirmed_messages_count_in_the_bounds() {
    let listener = Listener::new();
    let client = listener
        .client()
        .delivery(Delivery::AtLeastOnce)
        .outbox(Queue::new().messages(10).overflow(Overflow::Fail))
        .timeouts(Timeouts::new().close(ms(100)))
        .start()
        .unwrap();
    let _silent = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    for number in 0..10 {
        client.send(number.to_string()).unwrap();
    }
    client.wait_sent(PATIENCE).unwrap();
    assert!(matches!(client.send("one too many"), Err(SendError { error: Error::Full, .. })));
    let undelivered = client.close().undelivered;
    assert_eq!(undelivered.len(), 10, "close hands back what was never confirmed");
    assert_eq!(undelivered[9].as_text(), Some("9"));
}

#[test]
fn a_clean_close_delivers_what_it_says() {
    let listener = Listener::new();
    let client = listener.client().delivery(Delivery::AtLeastOnce).start().unwrap();
    let server = thread::spawn(move || {
        let mut peer = listener.accept();
        let mut texts = 0;
        while let Ok(message) = peer.read() {
            texts += usize::from(message.is_text());
        }
        texts
    });
    client.wait_connected(PATIENCE).unwrap();
    let receipts: Vec<_> =
        (0..100).map(|number| client.send_confirmed(number.to_string()).unwrap()).collect();
    let report = client.close();
    assert!(report.undelivered.is_empty(), "{report:?}");
    assert_eq!(server.join().unwrap(), 100);
    assert!(receipts.iter().all(everlink::Receipt::is_confirmed));
}

#[test]
fn a_receipt_follows_its_message() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let client = builder.start().unwrap();
    let early = client.send_confirmed("queued").unwrap();
    assert!(matches!(early.wait(ms(10)), Err(Error::Timeout)));
    let peer = listener.accept();
    let server = thread::spawn(move || echo(peer));
    early.wait(PATIENCE).unwrap();
    assert!(early.is_confirmed());
    client.reconnect().unwrap();
    server.join().unwrap();
    watch.disconnected();
    let silent = listener.accept();
    let lost = client.send_confirmed("into the void").unwrap();
    client.wait_sent(PATIENCE).unwrap();
    reset(silent);
    let error = lost.wait(PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Undelivered(Undelivered::Lost)), "{error:?}");
    drop(listener);
    client.close();
}

#[test]
fn what_is_too_old_is_not_sent_any_more() {
    let address = Listener::new().address();
    let (builder, watch) = watch(
        Client::builder(format!("ws://{address}"))
            .backoff(Backoff::fixed(ms(1)))
            .outbox(Queue::new().message_ttl(ms(20))),
    );
    let client = builder.start().unwrap();
    watch.attempt_failed();
    client.send("stale").unwrap();
    let stale = client.send_confirmed("stale too").unwrap();
    let lasting = SendOptions::new().ttl(PATIENCE).timeout(PATIENCE);
    let fresh = client.sender().send_confirmed_with("fresh", lasting).unwrap();
    thread::park_timeout(ms(50));
    let listener = TcpListener::bind(address).expect("the port is still free");
    let server = thread::spawn(move || {
        let mut peer = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        let first = next_text(&mut peer);
        echo(peer);
        first
    });
    fresh.wait(PATIENCE).unwrap();
    let error = stale.wait(PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Undelivered(Undelivered::Expired)), "{error:?}");
    assert_eq!(client.stats().expired, 2);
    client.close();
    assert_eq!(server.join().unwrap(), "fresh");
}

#[test]
fn framed_tcp_confirms_with_its_beats_or_says_that_it_cannot() {
    let server = Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::ping_pong())
        .bind("127.0.0.1:0", |session| for _ in session.iter() {})
        .unwrap();
    let url = format!("tcp://{}", server.local_addr());
    let client = Client::builder(&url).heartbeat(Heartbeat::ping_pong());
    let client = client.delivery(Delivery::AtLeastOnce).connect().unwrap();
    for number in 0..1000 {
        client.send(number.to_string()).unwrap();
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!(client.stats().confirmed, 1000);
    client.send_confirmed("one more").unwrap().wait(PATIENCE).unwrap();

    let builder = || Client::builder(&url);
    for refused in [
        builder().heartbeat(Heartbeat::off()),
        builder().heartbeat(Heartbeat::listen(PATIENCE)),
        builder().heartbeat(Heartbeat::ping_pong()).framing(Framing::raw()),
    ] {
        let error = refused.delivery(Delivery::AtLeastOnce).start().unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { setting: "delivery", .. }), "{error:?}");
    }
    let mute = builder().heartbeat(Heartbeat::off()).connect().unwrap();
    assert!(matches!(mute.flush(PATIENCE), Err(Error::Unconfirmable)));
    assert!(matches!(mute.send_confirmed("x"), Err(SendError { error: Error::Unconfirmable, .. })));
}
