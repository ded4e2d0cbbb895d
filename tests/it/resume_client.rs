//! The client's side of sessions that survive their connection, against servers made by hand.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use crate::support::bare::*;
use crate::support::resumed::{in_doubt, resumed, start, text};
use crate::support::*;
use everlink::config::{Backoff, Delivery};
use everlink::failure::Next;
use everlink::{Client, Event, Failure, SessionStart};

const TOKEN: &str = "0123456789abcdefghijkl-_";
const OTHER: &str = "another-token-0123456789";

/// A server's end of a link, once the request has come.
struct Bare {
    stream: TcpStream,
    request: String,
    received: u64,
}

impl Bare {
    fn accept(listener: &Listener) -> Self {
        let mut stream = listener.accept_raw();
        let request = read_head(&mut stream);
        Self { stream, request, received: 0 }
    }

    /// What the client asks for.
    fn offer(&self) -> Option<&str> {
        self.request.lines().find_map(|line| line.strip_prefix("Everlink-Resume: "))
    }

    fn answer(&mut self, session: Option<&str>) {
        let mut answer = upgraded(&self.request);
        if let Some(session) = session {
            let line = format!("\r\nEverlink-Resume: {session}\r\n\r\n");
            answer = answer.replacen("\r\n\r\n", &line, 1);
        }
        self.stream.write_all(answer.as_bytes()).unwrap();
    }

    /// Accepts, and answers with this.
    fn open(listener: &Listener, session: &str) -> Self {
        let mut server = Self::accept(listener);
        server.answer(Some(session));
        server
    }

    fn report(&mut self, received: u64) {
        let payload = [b"ELR1".as_slice(), &received.to_be_bytes()].concat();
        self.stream.write_all(&frame(PONG, &payload)).unwrap();
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(&frame(TEXT, text.as_bytes())).unwrap();
    }

    /// The next frame that is no ping.
    fn next(&mut self) -> (u8, Vec<u8>) {
        loop {
            match read_frame(&mut self.stream).expect("a frame") {
                (PING, _) => {}
                other => return other,
            }
        }
    }

    /// The next text, whatever is reported meanwhile.
    fn recv(&mut self) -> String {
        loop {
            match self.next() {
                (TEXT, payload) => {
                    self.received += 1;
                    return String::from_utf8(payload).unwrap();
                }
                (PONG, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the client reports next.
    fn reported(&mut self) -> u64 {
        let (first, payload) = self.next();
        assert_eq!((first, &payload[..4]), (PONG, &b"ELR1"[..]));
        u64::from_be_bytes(payload[4..].try_into().unwrap())
    }

    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

fn new() -> String {
    format!("{TOKEN}; window=60")
}

fn goes_on(received: u64) -> String {
    format!("{TOKEN}; window=60; received={received}")
}

fn next_offer(listener: &Listener) -> (Bare, String) {
    let server = Bare::accept(listener);
    let offer = server.offer().expect("an offer").to_owned();
    (server, offer)
}

/// A client that holds a session, and the server's end of its link.
fn held(listener: &Listener, delivery: Delivery) -> (Client, Watch, Bare) {
    let (builder, events) =
        watch(listener.client().resume(everlink::config::Resume::new()).delivery(delivery));
    let client = builder.start().unwrap();
    let mut server = Bare::accept(listener);
    assert_eq!(server.offer(), Some("new"));
    server.answer(Some(&new()));
    assert_eq!(start(&events), SessionStart::New);
    assert_eq!(server.reported(), 0, "the first frame");
    (client, events, server)
}

#[test]
fn a_server_made_by_hand_goes_on_where_it_was() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener, Delivery::AtMostOnce);
    server.send("a");
    assert_eq!(text(&client.recv_timeout(PATIENCE).unwrap()), "a");
    for number in 0..5 {
        client.send(number.to_string()).unwrap();
    }
    while server.received < 5 {
        server.recv();
    }
    server.reset();
    let (mut server, offer) = next_offer(&listener);
    assert_eq!(offer, format!("{TOKEN}; received=1"));
    // three of the five, it says
    server.answer(Some(&goes_on(3)));
    assert_eq!(resumed(start(&events)), 2);
    assert_eq!(server.reported(), 1);
    assert_eq!([server.recv(), server.recv()], ["3", "4"]);
    server.report(5);
    client.flush(PATIENCE).unwrap();
    // the program sees no token
    let answers = events.rest();
    assert!(!format!("{answers:?}").contains(TOKEN));
}

#[test]
fn nothing_new_goes_before_what_the_server_lacks() {
    let listener = Listener::new();
    let (client, events, server) = held(&listener, Delivery::AtMostOnce);
    client.send("0").unwrap();
    client.wait_sent(PATIENCE).unwrap();
    server.reset();
    events.disconnected();
    for number in 1..100 {
        client.send(number.to_string()).unwrap();
    }
    let mut server = Bare::open(&listener, &goes_on(0));
    for number in 0..100 {
        assert_eq!(server.recv(), number.to_string());
    }
}

#[test]
fn an_answer_that_does_not_fit_ends_the_session_and_the_client_asks_for_another_at_once() {
    for wrong in [
        // the header was cut out on the way, and the server may believe in a session
        None,
        // more than was sent, or less than was reported
        Some(goes_on(3)),
        Some(goes_on(0)),
        // another one goes on, or this one is new
        Some(format!("{OTHER}; window=60; received=2")),
        Some(new()),
        // no header at all
        Some(format!("{TOKEN}; received=2")),
    ] {
        let listener = Listener::new();
        // so long that nobody could take it for "at once"
        let builder = listener
            .client()
            .resume(everlink::config::Resume::new())
            .delivery(Delivery::AtLeastOnce);
        let (builder, events) = watch(builder.backoff(Backoff::fixed(ms(2000))));
        let client = builder.start().unwrap();
        let mut server = Bare::open(&listener, &new());
        start(&events);
        client.send("0").unwrap();
        client.send("1").unwrap();
        assert_eq!([server.recv(), server.recv()], ["0", "1"]);
        server.report(1);
        eventually("the report", || match client.stats().outbox_messages {
            1 => Ok(()),
            other => Err(other),
        });
        server.reset();
        let (mut server, offer) = next_offer(&listener);
        assert_eq!(offer, format!("{TOKEN}; received=0"));
        server.answer(wrong.as_deref());
        let at = Instant::now();
        let (cause, next) = events.until(|event| match event {
            Event::AttemptFailed { cause, next, .. } => Some((Arc::clone(cause), *next)),
            _ => None,
        });
        assert!(matches!(&*cause, Failure::NotResumed), "{wrong:?}: {cause}");
        assert!(matches!(next, Next::Redial { delay, .. } if delay.is_zero()), "{next:?}");
        assert_eq!(server.next_or_end(), None, "it hangs up");
        let (mut server, offer) = next_offer(&listener);
        assert!(at.elapsed() < ms(1000), "{:?}", at.elapsed());
        assert_eq!(offer, "new");
        server.answer(Some(&format!("{OTHER}; window=60")));
        assert_eq!(in_doubt(start(&events)), 1, "{wrong:?}");
        assert_eq!(server.recv(), "1", "at least once");
    }
}

impl Bare {
    /// `None` at the end of the stream.
    fn next_or_end(&mut self) -> Option<u8> {
        loop {
            match read_frame(&mut self.stream) {
                Ok((PING | PONG, _)) => {}
                Ok((first, _)) => return Some(first),
                Err(_) => return None,
            }
        }
    }
}

#[test]
fn a_new_session_replaces_the_one_that_was_asked_for() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener, Delivery::AtMostOnce);
    client.send("0").unwrap();
    assert_eq!(server.recv(), "0");
    server.reset();
    let mut server = Bare::open(&listener, &format!("{OTHER}; window=60"));
    assert_eq!(in_doubt(start(&events)), 1);
    assert_eq!(server.reported(), 0, "counting begins anew");
    client.send("1").unwrap();
    assert_eq!(server.recv(), "1", "at most once");
    server.reset();
    assert_eq!(next_offer(&listener).1, format!("{OTHER}; received=0"));
}

#[test]
fn failures_of_attempts_end_no_session() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener, Delivery::AtMostOnce);
    server.send("a");
    assert_eq!(text(&client.recv_timeout(PATIENCE).unwrap()), "a");
    server.reset();
    let asks = format!("{TOKEN}; received=1");
    for answer in ["HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 x\r\n", ""] {
        let (mut server, offer) = next_offer(&listener);
        assert_eq!(offer, asks);
        server.stream.write_all(answer.as_bytes()).unwrap();
        drop(server);
        events.attempt_failed();
    }
    let mut server = Bare::open(&listener, &goes_on(0));
    assert_eq!(resumed(start(&events)), 0);
    assert_eq!(server.reported(), 1);
}

#[test]
fn close_frames_end_a_session_and_other_ends_do_not() {
    for (ends, goes_on) in [
        (frame(CLOSE, &close_body(1000, "")), false),
        (frame(CLOSE, &close_body(1012, "restart")), false),
        // a violation: a masked frame
        (masked(TEXT, b"x"), false),
        (Vec::new(), true),
    ] {
        let listener = Listener::new();
        let builder = listener
            .client()
            .resume(everlink::config::Resume::new())
            .decide(|_, _| everlink::failure::Decision::Retry);
        let (builder, events) = watch(builder);
        let client = builder.start().unwrap();
        let mut server = Bare::open(&listener, &new());
        start(&events);
        server.stream.write_all(&ends).unwrap();
        server.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let resumable = events.until(|event| match event {
            Event::Disconnected { resumable, .. } => Some(*resumable),
            _ => None,
        });
        assert_eq!(resumable, goes_on, "{ends:?}");
        drop(server);
        let (_server, offer) = next_offer(&listener);
        assert_eq!(offer != "new", goes_on, "{ends:?}: {offer}");
        drop(client);
    }
}

#[test]
fn a_report_of_what_was_never_sent_is_a_violation() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener, Delivery::AtMostOnce);
    server.report(1);
    let cause = events.disconnected();
    assert!(matches!(&*cause, Failure::Protocol { code, .. } if code.0 == 1002), "{cause}");
    drop(client);
}

#[test]
fn a_report_goes_before_pongs_and_before_the_close_frame() {
    let listener = Listener::new();
    let (client, _events, mut server) = held(&listener, Delivery::AtMostOnce);
    server.send("a");
    server.stream.write_all(&frame(PING, b"1")).unwrap();
    assert_eq!(server.reported(), 1);
    assert_eq!(server.next(), (PONG, b"1".to_vec()));
    server.send("b");
    assert_eq!(text(&client.recv_timeout(PATIENCE).unwrap()), "a");
    assert_eq!(text(&client.recv_timeout(PATIENCE).unwrap()), "b");
    let closing = std::thread::spawn(move || client.close());
    assert_eq!(server.reported(), 2);
    assert_eq!(server.next().0, CLOSE);
    drop(server);
    closing.join().unwrap();
}

#[test]
fn a_gateway_that_answers_pings_is_unmasked_before_it_costs_anything_unsaid() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener, Delivery::AtMostOnce);
    client.send("0").unwrap();
    let ping = loop {
        if let (PING, payload) = read_frame(&mut server.stream).unwrap() {
            break payload;
        }
    };
    // no report: whatever answers here is not the end of the session
    server.stream.write_all(&frame(PONG, &ping)).unwrap();
    eventually("the session is given up", || match client.stats().outbox_messages {
        0 => Ok(()),
        other => Err(other),
    });
    server.reset();
    let resumable = events.until(|event| match event {
        Event::Disconnected { resumable, .. } => Some(*resumable),
        _ => None,
    });
    assert!(!resumable);
    let (mut server, offer) = next_offer(&listener);
    assert_eq!(offer, "new");
    server.answer(Some(&format!("{OTHER}; window=60")));
    in_doubt(start(&events));
}

#[test]
fn a_token_goes_to_its_origin_and_nowhere_else() {
    let [home, elsewhere] = [Listener::new(), Listener::new()];
    let redirect = |to: &Listener| {
        format!("HTTP/1.1 307 x\r\nLocation: {}/there\r\nContent-Length: 0\r\n\r\n", to.url())
    };
    // the session is where a redirect leads
    let (builder, events) = watch(home.client().resume(everlink::config::Resume::new()));
    let client = builder.start().unwrap();
    let (mut server, offer) = next_offer(&home);
    assert_eq!(offer, "new");
    server.stream.write_all(redirect(&elsewhere).as_bytes()).unwrap();
    let mut server = Bare::accept(&elsewhere);
    assert_eq!(server.offer(), Some("new"));
    server.answer(Some(&new()));
    start(&events);
    server.reset();
    // that is where the client goes first
    let (server, offer) = next_offer(&elsewhere);
    assert_eq!(offer, format!("{TOKEN}; received=0"));
    assert!(server.request.starts_with("GET /there "), "{}", server.request);
    drop(server);
    // and then where it began, without the token
    let (mut server, offer) = next_offer(&home);
    assert_eq!(offer, "new");
    server.stream.write_all(redirect(&elsewhere).as_bytes()).unwrap();
    let (mut server, offer) = next_offer(&elsewhere);
    assert_eq!(offer, format!("{TOKEN}; received=0"));
    server.answer(Some(&goes_on(0)));
    assert_eq!(resumed(start(&events)), 0);
    drop(client);
}

#[test]
fn a_fallback_gets_no_token_and_its_link_ends_the_session() {
    let [first, second] = [Listener::new(), Listener::new()];
    let builder = first.client().resume(everlink::config::Resume::new()).fallback(second.url());
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    let server = Bare::open(&first, &new());
    start(&events);
    client.send("0").unwrap();
    client.wait_sent(PATIENCE).unwrap();
    server.reset();
    let (server, offer) = next_offer(&first);
    assert_eq!(offer, format!("{TOKEN}; received=0"), "the first attempt goes where it was");
    drop(server);
    // an attempt elsewhere that fails costs nothing
    let (server, offer) = next_offer(&second);
    assert_eq!(offer, "new");
    drop(server);
    let (server, offer) = next_offer(&first);
    assert_eq!(offer, format!("{TOKEN}; received=0"));
    drop(server);
    let (mut server, offer) = next_offer(&second);
    assert_eq!(offer, "new");
    server.answer(None);
    assert_eq!(in_doubt(start(&events)), 1, "over, and no other in its place");
    server.reset();
    // it held nothing any more
    let (_server, offer) = next_offer(&first);
    assert_eq!(offer, "new");
    drop(client);
}

#[test]
fn a_login_in_a_session_reports_before_it_answers_pings() {
    let listener = Listener::new();
    let (builder, events) =
        watch(listener.client().resume(everlink::config::Resume::new()).login(|session| {
            session.send("hello")?;
            session.recv()?;
            session.recv()?;
            Ok(())
        }));
    let client = builder.start().unwrap();
    let mut server = Bare::open(&listener, &new());
    assert_eq!(server.recv(), "hello");
    server.send("a");
    server.stream.write_all(&frame(PING, b"1")).unwrap();
    assert_eq!(server.reported(), 1);
    assert_eq!(server.next(), (PONG, b"1".to_vec()));
    server.send("b");
    start(&events);
    assert_eq!(server.reported(), 2, "what the login received counts");
    server.reset();
    let (mut server, offer) = next_offer(&listener);
    assert_eq!(offer, format!("{TOKEN}; received=2"));
    // nothing of the login has arrived: it is sent again, and the hook is not called
    server.answer(Some(&goes_on(0)));
    assert_eq!(resumed(start(&events)), 1);
    assert_eq!(server.recv(), "hello");
    drop(client);
}
