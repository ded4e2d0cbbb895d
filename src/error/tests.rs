//! What every error says.

use std::error::Error as StdError;
use std::time::Duration;

use super::*;
use crate::failure::{Decision, HandshakeError, ProxyError, TlsError};

const WHY: &str = "the reason why";
const FORGED: &str = "the reason why\n[ERROR root] forged\u{1b}[2J\u{202e}";

fn io() -> io::Error {
    io::Error::other(FORGED)
}

fn boxed() -> Box<dyn StdError + Send + Sync> {
    FORGED.into()
}

fn handshakes() -> Vec<(HandshakeError, &'static str)> {
    let all = vec![
        (HandshakeError::TimedOut { timeout: Duration::from_secs(7) }, "within 7s"),
        (HandshakeError::Io(io()), WHY),
        (HandshakeError::Eof, "ended the stream"),
        (HandshakeError::NotHttp(WHY.into()), WHY),
        (HandshakeError::HeadersTooLarge { limit: 65_536 }, "65536"),
        (HandshakeError::TooManyHeaders { limit: 100 }, "100"),
        (HandshakeError::BadUpgrade(WHY.into()), WHY),
        (HandshakeError::NoAnswer, "no answer to the offer"),
        (HandshakeError::BadRedirect(WHY.into()), WHY),
    ];
    // a new variant does not compile here: add it above, too
    all.iter().for_each(|(error, _)| match error {
        HandshakeError::TimedOut { .. }
        | HandshakeError::Io(_)
        | HandshakeError::Eof
        | HandshakeError::NotHttp(_)
        | HandshakeError::HeadersTooLarge { .. }
        | HandshakeError::TooManyHeaders { .. }
        | HandshakeError::BadUpgrade(_)
        | HandshakeError::NoAnswer
        | HandshakeError::BadRedirect(_) => {}
    });
    all
}

fn proxies() -> Vec<(ProxyError, &'static str)> {
    let (status, schemes) = (http::StatusCode::FORBIDDEN, vec!["Basic".into()]);
    let body = crate::failure::Body::default();
    let all = vec![
        (ProxyError::Rejected { status, reason: WHY.into(), schemes, body }, WHY),
        (ProxyError::Socks { code: 2, reason: WHY }, WHY),
        (ProxyError::Credentials, "credentials"),
        (ProxyError::Io(io()), WHY),
        (ProxyError::Malformed(boxed()), WHY),
        (ProxyError::Unusable(boxed()), WHY),
    ];
    all.iter().for_each(|(error, _)| match error {
        ProxyError::Rejected { .. }
        | ProxyError::Socks { .. }
        | ProxyError::Credentials
        | ProxyError::Io(_)
        | ProxyError::Malformed(_)
        | ProxyError::Unusable(_) => {}
    });
    all
}

fn tls() -> Vec<(TlsError, &'static str)> {
    let all = vec![
        (TlsError::Certificate { check: "it has expired", source: boxed() }, "it has expired"),
        (TlsError::OwnCertificate { what: "rejects it", source: boxed() }, "rejects it"),
        (TlsError::NoCommonProtocol(boxed()), WHY),
        (TlsError::Protocol(boxed()), WHY),
        (TlsError::NotTls(boxed()), WHY),
        (TlsError::Broken(boxed()), WHY),
    ];
    all.iter().for_each(|(error, _)| match error {
        TlsError::Certificate { .. }
        | TlsError::OwnCertificate { .. }
        | TlsError::NoCommonProtocol(_)
        | TlsError::NotTls(_)
        | TlsError::Protocol(_)
        | TlsError::Broken(_) => {}
    });
    all
}

/// Every failure, and words of its reason.
fn failures() -> Vec<(Failure, &'static str)> {
    let address = ([127, 0, 0, 1], 9).into();
    let frame = || Some(CloseFrame::new(CloseCode(4000), FORGED));
    let mut all = vec![
        (Failure::Dns { host: "host".into(), source: io() }, WHY),
        (Failure::Connect { address, source: io() }, WHY),
        (Failure::Connector(io()), WHY),
        (Failure::LocalAddress { address, source: io() }, WHY),
        (
            Failure::Rejected {
                status: http::StatusCode::FORBIDDEN,
                headers: Box::default(),
                retry_after: None,
                waits: None,
                body: crate::failure::Body::default(),
            },
            "403 Forbidden",
        ),
        (Failure::Login { decision: Some(Decision::GiveUp), source: boxed() }, WHY),
        (Failure::Request(boxed()), WHY),
        (Failure::Io(io()), WHY),
        (Failure::ClosedAbnormally, "without a close frame"),
        (Failure::EndOfStream { inside_message: true, cut_off: false }, "inside a message"),
        (Failure::EndOfStream { inside_message: false, cut_off: true }, "without ending TLS"),
        (Failure::Closed(frame()), WHY),
        (Failure::ClosedHere(frame()), WHY),
        (
            Failure::HeartbeatTimeout { silence: Duration::from_secs(7), unanswered: 2 },
            "for 7.0s (2 pings unanswered)",
        ),
        (Failure::WriteTimeout { timeout: Duration::from_secs(7) }, "7s"),
        (Failure::Protocol { code: CloseCode(1002), reason: FORGED.into() }, WHY),
        (Failure::Framing { reason: FORGED.into() }, WHY),
        (Failure::Panicked { place: "handler", message: FORGED.into() }, WHY),
        (Failure::Thread(io()), WHY),
        (Failure::Ended(FORGED.into()), WHY),
        (Failure::ReconnectRequested, "requested by the program"),
        (Failure::TooSlow, "too slow"),
        (Failure::NotResumed, "could not be resumed"),
        (Failure::Evicted, "evicted"),
        (Failure::Aborted, "aborted"),
        (Failure::Interrupted, "close"),
    ];
    all.extend(handshakes().into_iter().map(|(error, why)| (Failure::Handshake(error), why)));
    all.extend(proxies().into_iter().map(|(error, why)| (Failure::Proxy(error), why)));
    all.extend(tls().into_iter().map(|(error, why)| (Failure::Tls(error), why)));
    all.iter().for_each(|(failure, _)| match failure {
        Failure::Dns { .. }
        | Failure::Connect { .. }
        | Failure::Handshake(_)
        | Failure::Connector(_)
        | Failure::Proxy(_)
        | Failure::Tls(_)
        | Failure::LocalAddress { .. }
        | Failure::Rejected { .. }
        | Failure::Login { .. }
        | Failure::Request(_)
        | Failure::Io(_)
        | Failure::ClosedAbnormally
        | Failure::EndOfStream { .. }
        | Failure::Closed(_)
        | Failure::ClosedHere(_)
        | Failure::HeartbeatTimeout { .. }
        | Failure::WriteTimeout { .. }
        | Failure::Protocol { .. }
        | Failure::Framing { .. }
        | Failure::Panicked { .. }
        | Failure::Thread(_)
        | Failure::Ended(_)
        | Failure::ReconnectRequested
        | Failure::TooSlow
        | Failure::NotResumed
        | Failure::Evicted
        | Failure::Aborted
        | Failure::Interrupted => {}
    });
    all
}

/// Every error, and words of its reason.
fn errors() -> Vec<(Error, &'static str)> {
    let (reason, setting) = (|| FORGED.to_owned(), "setting");
    let mut all = vec![
        (Error::InvalidUrl { reason: reason() }, WHY),
        (Error::TlsUnavailable { scheme: "wss" }, "wss"),
        (Error::InvalidSetting { setting, reason: reason() }, WHY),
        (Error::InvalidOption { key: "outbox.bytes".into(), reason: FORGED.into() }, WHY),
        (Error::InvalidHeader { name: "a\nb\u{1b}".into(), reason: reason() }, WHY),
        (Error::InvalidClose { reason: reason() }, WHY),
        (Error::MessageTooLarge { size: 2, limit: 1 }, "2 bytes"),
        (Error::Unsendable { reason: WHY }, WHY),
        (Error::TopicRefused { reason: WHY }, WHY),
        (Error::Full, "full"),
        (Error::Unconfirmed { count: 3 }, "3 messages"),
        (Error::Unconfirmable, "no confirmations"),
        (Error::WouldWaitForever { reason: WHY }, WHY),
        (Error::on_own_thread(), "a thread of the program's own"),
        (Error::NotConnected, "not connected"),
        (Error::KeyInUse, "no answer yet"),
        (Error::NoMoreAnswers, "no more answers"),
        (Error::Timeout, "timed out"),
        (Error::Closed, "closed"),
        (Error::Bind(io()), WHY),
        (Error::Refused { reason: WHY }, WHY),
        (Error::Thread(io()), WHY),
    ];
    for (why, words) in [
        (Undelivered::Lost, "lost"),
        (Undelivered::Dropped, "dropped"),
        (Undelivered::Expired, "expired"),
        (Undelivered::TooLarge, "too large"),
        (Undelivered::Poison, "too often"),
        (Undelivered::LinkEnded, "its link ended"),
        (Undelivered::Withdrawn, "withdrawn"),
        (Undelivered::Cleared, "taken out"),
        (Undelivered::Closed, "closed"),
    ] {
        all.push((Error::Undelivered(why), words));
    }
    all.extend(failures().into_iter().map(|(failure, why)| (Error::Connect(failure.into()), why)));
    all.extend(failures().into_iter().map(|(failure, why)| (Error::GaveUp(failure.into()), why)));
    all.iter().for_each(|(error, _)| match error {
        Error::InvalidUrl { .. }
        | Error::TlsUnavailable { .. }
        | Error::InvalidSetting { .. }
        | Error::InvalidOption { .. }
        | Error::InvalidHeader { .. }
        | Error::InvalidClose { .. }
        | Error::Connect(_)
        | Error::MessageTooLarge { .. }
        | Error::Unsendable { .. }
        | Error::TopicRefused { .. }
        | Error::Full
        | Error::Unconfirmed { .. }
        | Error::Unconfirmable
        | Error::Undelivered(_)
        | Error::Timeout
        | Error::GaveUp(_)
        | Error::WouldWaitForever { .. }
        | Error::NotConnected
        | Error::KeyInUse
        | Error::NoMoreAnswers
        | Error::Closed
        | Error::Bind(_)
        | Error::Refused { .. }
        | Error::Thread(_) => {}
    });
    all
}

fn assert_says(error: &(dyn StdError + 'static), why: &str) {
    let line = error.to_string();
    assert!(line.contains(why), "{error:?} does not say why: {line}");
    let is_plain = |c: char| !c.is_control() && c != '\u{202e}';
    assert!(line.chars().all(is_plain), "{line:?}");
    assert_eq!(line.matches(why).count(), 1, "said twice: {line}");
    assert!(!line.contains("http://") && !line.contains("https://"), "a link: {line}");
}

#[test]
fn every_error_says_why_on_one_line() {
    for (error, why) in errors() {
        assert_says(&error, why);
    }
    for (failure, why) in failures() {
        assert_says(&failure, why);
    }
    handshakes().iter().for_each(|(error, why)| assert_says(error, why));
    proxies().iter().for_each(|(error, why)| assert_says(error, why));
    tls().iter().for_each(|(error, why)| assert_says(error, why));
}

#[test]
fn the_sources_are_there_too() {
    let source = io::Error::from(io::ErrorKind::ConnectionRefused);
    let failure = Failure::Connect { address: ([127, 0, 0, 1], 9).into(), source };
    let error = Error::Connect(Arc::new(failure));
    let failure = error.source().expect("the failure");
    let source = failure.source().expect("what the system said");
    let kind = source.downcast_ref::<io::Error>().map(io::Error::kind);
    assert_eq!(kind, Some(io::ErrorKind::ConnectionRefused));
    let line = "the first attempt failed: could not connect to 127.0.0.1:9: connection refused";
    assert_eq!(error.to_string(), line);
}
