//! What a client says of itself, and how it proves who it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::config::{Backoff, Heartbeat, Timeouts};
use everlink::failure::{Decision, FailureKind};
use everlink::{
    Answer, Client, ClientStatus, Error, Event, Failure, LoginError, OpeningRequest, Server, State,
};

#[test]
fn the_status_of_a_client_is_all_that_is_known() {
    let listener = Listener::new();
    let builder = listener.client().subprotocols(["v1.chat"]).backoff(Backoff::fixed(PATIENCE));
    let (builder, watch) = watch(builder);
    let begun = Instant::now();
    let client = builder.start().unwrap();
    let (attempt, endpoint) = watch.until(|event| match event {
        Event::Connecting { attempt, endpoint, .. } => Some((*attempt, endpoint.clone())),
        _ => None,
    });
    assert_eq!(attempt, 1);
    let status = client.status();
    assert_eq!(status.state, State::Connecting);
    assert_eq!(status.endpoint, endpoint);
    assert!(status.last_failure.is_none() && status.response.is_none());

    let peer = listener.accept_with(|_, response| {
        response.headers_mut().insert("sec-websocket-protocol", "v1.chat".parse().unwrap());
    });
    watch.connected();
    let status = client.status();
    assert_eq!((status.state, status.subprotocol()), (State::Connected, Some("v1.chat")));
    assert!(status.since >= begun && status.since <= Instant::now());
    assert_eq!(status.response.unwrap().status(), 101);
    assert!(status.next_attempt.is_none());

    reset(peer);
    watch.disconnected();
    eventually("the wait", || match client.status().state {
        State::BackingOff => Ok(()),
        state => Err(state),
    });
    let status = client.status();
    let cause = status.last_failure.as_ref().expect("there is one");
    assert_eq!(cause.kind(), FailureKind::Lost, "{cause}");
    assert!(status.next_attempt.unwrap() > Instant::now());
    assert!(status.subprotocol().is_none());
    client.close();
    let status = client.status();
    assert_eq!((status.state, status.next_attempt), (State::Closed, None));
}

#[test]
fn a_state_and_its_details_change_together() {
    const LINKS: u16 = 100;
    let links = AtomicU16::new(0);
    let server = Server::builder()
        .subprotocols(["v1.chat"])
        .on_request(move |_| {
            let link = links.fetch_add(1, SeqCst) + 1;
            Answer::accept().header("X-Link", &link.to_string()).with(link)
        })
        .bind("127.0.0.1:0", |session| {
            let link = *session.get::<u16>().unwrap();
            let _ = session.close_with(4000 + link, "");
        })
        .unwrap();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .subprotocols(["v1.chat"])
        .backoff(Backoff::fixed(Duration::from_millis(1)))
        .start()
        .unwrap();
    let number = |status: &ClientStatus| -> Option<u16> {
        status.response.as_ref()?.headers().get("x-link")?.to_str().ok()?.parse().ok()
    };
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut seen) = (0, 0);
    while last < LINKS {
        assert!(Instant::now() < deadline, "{last} links");
        let status = client.status();
        assert_eq!(status.response.is_some(), status.state == State::Connected, "{status:?}");
        assert_eq!(status.next_attempt.is_some(), status.state == State::BackingOff, "{status:?}");
        match status.state {
            State::Connected => {
                last = number(&status).expect("the number of the link");
                assert_eq!(status.subprotocol(), Some("v1.chat"));
                seen += 1;
            }
            State::Disconnected if last > 0 => {
                let cause = status.last_failure.expect("why it is gone");
                if let Some(frame) = cause.close_frame() {
                    assert!(frame.code.0 >= 4000 + last, "{cause} after link {last}");
                }
            }
            _ => {}
        }
    }
    assert!(seen > 0);
    client.close();

    for _ in 0..30 {
        let client = Client::builder(format!("ws://{}", server.local_addr())).start().unwrap();
        client.wait_connected(PATIENCE).unwrap();
        let status = client.status();
        assert!(status.state != State::Connected || status.response.is_some(), "{status:?}");
    }
}

#[test]
fn events_and_states_read_as_people_say_it() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    let connected = watch.connected().to_string();
    let place = format!("ws://{}/", listener.address());
    assert_eq!(connected, format!("connected to {place} (attempt 1)"));
    // read and not confirmed: nobody asks for that on this link
    client.send("x").unwrap();
    assert_eq!(peer.read().unwrap().to_text().unwrap(), "x");
    reset(peer);
    let disconnected =
        watch.until(|event| matches!(event, Event::Disconnected { .. }).then(|| event.to_string()));
    assert!(disconnected.starts_with("disconnected after "), "{disconnected}");
    assert!(disconnected.ends_with("; 1 unconfirmed; redial in 1.0ms"), "{disconnected}");
    client.close();
    assert_eq!(
        watch.until(|event| matches!(event, Event::Closed { .. }).then(|| event.to_string())),
        "closed"
    );
    assert_eq!(State::BackingOff.to_string(), "backing off");

    // of its own: the other may have a last attempt of the first client waiting
    let listener = Listener::new();
    let at_once = listener.client().backoff(Backoff::fixed(Duration::ZERO));
    let (builder, watch) = crate::support::watch(at_once);
    let client = builder.start().unwrap();
    reset(listener.accept());
    let disconnected =
        watch.until(|event| matches!(event, Event::Disconnected { .. }).then(|| event.to_string()));
    assert!(disconnected.ends_with("; redial at once"), "{disconnected}");
    client.close();
}

#[test]
fn what_a_login_hook_does_not_want_the_program_receives_first() {
    for handler in [false, true] {
        let listener = Listener::new();
        let (tell, told) = crossbeam_channel::unbounded();
        let mut builder = listener.client().login(|session| {
            let first = session.recv()?;
            session.keep(first);
            session.recv_matching(|message| message.as_text() == Some("welcome"))?;
            Ok(())
        });
        if handler {
            builder = builder.on_message(move |_, message| {
                let _ = tell.send(message.into_owned());
            });
        }
        let client = builder.start().unwrap();
        let mut peer = listener.accept();
        for text in ["a", "b", "welcome", "c"] {
            peer.send(text.into()).unwrap();
        }
        for expected in ["a", "b", "c"] {
            let message = if handler {
                told.recv_timeout(PATIENCE).unwrap()
            } else {
                client.recv_timeout(PATIENCE).unwrap()
            };
            assert_eq!((message.as_text(), message.link()), (Some(expected), Some(1)));
        }
        // each is counted once, as the answer is
        assert_eq!(client.stats().messages_received, 4);
        client.close();
    }
}

#[test]
fn a_login_error_is_an_error_and_any_error_ends_a_login() {
    let error = LoginError::permanent(std::io::Error::other("denied"));
    assert!(error.is_permanent() && error.to_string() == "denied");
    assert!(std::error::Error::source(&error).is_some());
    let cause = |hook: fn() -> Result<(), Box<dyn std::error::Error + Send + Sync>>| {
        let listener = Listener::new();
        let client = listener.client().login(move |_| hook()).max_attempts(1);
        let (builder, watch) = watch(client);
        let client = builder.start().unwrap();
        let _peer = listener.accept();
        let cause = watch.attempt_failed();
        client.close();
        cause
    };
    let permanent = cause(|| Err(LoginError::permanent("no"))?);
    assert!(
        matches!(&*permanent, Failure::Login { decision: Some(Decision::GiveUp), .. }),
        "{permanent:?}"
    );
    let passing = cause(|| Ok("x".parse::<u8>().map(drop)?));
    assert!(matches!(&*passing, Failure::Login { decision: None, .. }), "{passing:?}");
    assert_eq!(passing.kind(), FailureKind::Login);
}

/// The header with which the client proves who it is.
fn authorization(listener: &Listener) -> String {
    let mut seen = String::new();
    let peer = listener.accept_with(|request, _| {
        let value = request.headers().get("authorization").expect("it is there");
        seen = value.to_str().unwrap().to_owned();
    });
    drop(peer);
    seen
}

#[test]
fn basic_and_bearer_authentication_go_by_their_names() {
    let listener = Listener::new();
    let client = listener.client().basic_auth("alice", "p:w").start().unwrap();
    assert_eq!(authorization(&listener), "Basic YWxpY2U6cDp3");
    client.close();
    let listener = Listener::new();
    let client = listener.client().bearer_auth("t0ken").start().unwrap();
    assert_eq!(authorization(&listener), "Bearer t0ken");
    client.close();

    let listener = Listener::new();
    let count = Arc::new(AtomicU32::new(0));
    let ours = Arc::clone(&count);
    let builder = listener.client().bearer_auth_with(move || match ours.fetch_add(1, SeqCst) {
        0 => Err("no token yet".into()),
        number => Ok(format!("t{number}")),
    });
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let cause = watch.attempt_failed();
    assert!(matches!(&*cause, Failure::Request(_)), "{cause:?}");
    assert_eq!(authorization(&listener), "Bearer t1");
    assert_eq!(authorization(&listener), "Bearer t2");
    client.close();

    // a token that is refused is permanent, unless the next one may be better
    let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let listener = Listener::new();
    let (builder, events) = crate::support::watch(listener.client().bearer_auth("stale"));
    let client = builder.start().unwrap();
    listener.answer(refused);
    events.gave_up();
    client.close();
    let listener = Listener::new();
    let count = AtomicU32::new(0);
    let builder = listener.client().backoff(everlink::config::Backoff::fixed(ms(1)));
    let builder = builder.bearer_auth_with(move || Ok(format!("t{}", count.fetch_add(1, SeqCst))));
    let client = builder.start().unwrap();
    for expected in ["authorization: bearer t0", "authorization: bearer t1"] {
        let (_, request) = listener.answer(refused);
        assert!(request.to_lowercase().contains(expected), "{request}");
    }
    assert_eq!(authorization(&listener), "Bearer t2");
    client.close();

    for wrong in [
        Client::builder("ws://127.0.0.1:9").basic_auth("a:b", "c"),
        Client::builder("ws://127.0.0.1:9").bearer_auth("a\nb"),
        Client::builder("tcp://127.0.0.1:9").basic_auth("a", "b"),
    ] {
        let error = wrong.start().unwrap_err();
        assert!(matches!(error, Error::InvalidHeader { .. }), "{error:?}");
    }
    let framed = Client::builder("tcp://127.0.0.1:9").bearer_auth_with(|| Ok("x".into()));
    assert!(matches!(
        framed.start(),
        Err(Error::InvalidSetting { setting: "bearer_auth_with", .. })
    ));
    let _: fn(&mut OpeningRequest, &str, &str) -> Result<(), Error> = OpeningRequest::basic_auth;
}

#[test]
fn a_callback_that_does_not_return_is_said_while_it_holds_the_client_up() {
    let listener = Listener::new();
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let client = listener
        .client()
        .heartbeat(Heartbeat::every(ms(20)).dead_after(PATIENCE))
        .on_event(move |_, event| {
            if matches!(event, Event::Disconnected { .. }) {
                let _ = held.recv();
            }
        })
        .start()
        .unwrap();
    let mut events = client.subscribe();
    reset(listener.accept());
    let said = events.find(|event| matches!(event, Event::CallbackStalled { .. }));
    let Some(Event::CallbackStalled { callback, waiting, .. }) = said else { panic!("{said:?}") };
    assert_eq!((callback, waiting), ("event callback", ms(20)));
    drop(hold);
    let again = events.find(|event| matches!(event, Event::Connecting { .. }));
    assert!(again.is_some());
}

#[test]
fn a_hook_of_an_attempt_that_does_not_return_is_said_while_it_holds_the_client_up() {
    let listener = Listener::new();
    for place in ["token closure", "request closure", "login hook"] {
        let (hold, held) = crossbeam_channel::bounded::<()>(0);
        let hang = move |here: &str| {
            if here == place {
                let _ = held.recv();
            }
        };
        let (token, request, login) = (hang.clone(), hang.clone(), hang);
        let client = listener
            .client()
            .heartbeat(Heartbeat::every(ms(20)).dead_after(PATIENCE))
            .timeouts(Timeouts::new().login(ms(50)))
            .bearer_auth_with(move || {
                token("token closure");
                Ok("token".into())
            })
            .on_request(move |_| {
                request("request closure");
                Ok(())
            })
            .login(move |_| {
                login("login hook");
                Ok(())
            })
            .start()
            .unwrap();
        let mut events = client.subscribe();
        let peer = (place == "login hook").then(|| listener.accept());
        let said = events.find(|event| matches!(event, Event::CallbackStalled { .. }));
        let Some(Event::CallbackStalled { callback, waiting, .. }) = said else {
            panic!("{said:?}")
        };
        // a login has its own time
        let expected = if place == "login hook" { ms(50) } else { ms(20) };
        assert_eq!((callback, waiting), (place, expected));
        drop((hold, peer));
        let peer = listener.accept();
        let up = events.find(|event| matches!(event, Event::Connected { .. }));
        assert!(up.is_some());
        drop(client);
        drop(peer);
    }
}
