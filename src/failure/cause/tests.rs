use super::*;

fn rejected(status: u16, retry_after: Option<Duration>) -> Failure {
    let status = StatusCode::from_u16(status).unwrap();
    Failure::Rejected {
        status,
        headers: Box::default(),
        retry_after,
        waits: retry_after,
        body: Body::default(),
    }
}

fn closed(code: u16) -> Failure {
    Failure::Closed(Some(CloseFrame::new(CloseCode(code), "")))
}

#[test]
fn the_statuses_that_end_it() {
    for status in [400, 401, 403, 404, 410, 426, 200] {
        assert_eq!(rejected(status, None).decision(), Decision::GiveUp, "{status}");
    }
    for status in [408, 429, 500, 502, 503, 504] {
        assert_eq!(rejected(status, None).decision(), Decision::Retry, "{status}");
    }
}

#[test]
fn retry_after_counts_only_where_a_retry_makes_sense() {
    let delay = Duration::from_secs(7);
    assert_eq!(rejected(429, Some(delay)).decision(), Decision::RetryAfter(delay));
    assert_eq!(rejected(503, Some(delay)).decision(), Decision::RetryAfter(delay));
    assert_eq!(rejected(403, Some(delay)).decision(), Decision::GiveUp);
}

#[test]
fn the_close_codes_that_end_it() {
    for code in [1002, 1003, 1007, 1008, 1010, 3000, 3003] {
        assert_eq!(closed(code).decision(), Decision::GiveUp, "{code}");
    }
    for code in [1000, 1001, 1009, 1011, 1012, 1013, 3001, 4000, 4999] {
        assert_eq!(closed(code).decision(), Decision::Retry, "{code}");
    }
    assert_eq!(Failure::Closed(None).decision(), Decision::Retry);
    assert_eq!(Failure::ClosedAbnormally.decision(), Decision::Retry);
}

#[test]
fn a_panic_is_caught_with_its_words() {
    let failure = guarded("login hook", || panic!("no {}", "luck")).map(|(): ()| ());
    let text = failure.unwrap_err().to_string();
    assert_eq!(text, "login hook panicked: no luck");
}

#[test]
fn who_was_not_asked_has_not_left_questions_open() {
    let silence = Duration::from_millis(2024);
    let silent = |unanswered| Failure::HeartbeatTimeout { silence, unanswered }.to_string();
    assert_eq!(silent(0), "nothing heard from the peer for 2.0s");
    assert_eq!(silent(1), "nothing heard from the peer for 2.0s (1 ping unanswered)");
}

#[test]
fn a_failure_is_one_printable_line_whatever_the_sources_say() {
    let forged = "denied\n[ERROR root] forged\u{1b}[2J\u{202e}";
    let source = std::io::Error::other(forged);
    for failure in [
        Failure::Login { decision: Some(Decision::GiveUp), source: forged.into() },
        Failure::Request(forged.into()),
        Failure::Connector(std::io::Error::other(forged)),
        Failure::Dns { host: forged.into(), source },
        Failure::Panicked { place: "handler", message: forged.into() },
        Failure::Protocol { code: crate::message::CloseCode(1002), reason: forged.into() },
    ] {
        let line = failure.to_string();
        let is_plain = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(is_plain), "{line:?}");
    }
}

#[test]
fn a_failure_of_endless_words_ends() {
    let endless = "x".repeat(60_000);
    let failure = Failure::Login { decision: None, source: endless.into() };
    assert!(failure.to_string().len() < 1100);
}

#[derive(Debug, thiserror::Error)]
#[error("outer: {0}")]
struct SaysItsSource(#[source] std::io::Error);

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct LeavesItOut(#[source] std::io::Error);

#[test]
fn no_source_is_said_twice_and_none_is_left_out() {
    let inner = || std::io::Error::other("inner");
    for source in [
        Box::<dyn StdError + Send + Sync>::from(SaysItsSource(inner())),
        LeavesItOut(inner()).into(),
    ] {
        let failure = Failure::Login { decision: None, source };
        assert_eq!(failure.to_string(), "login failed: outer: inner");
    }
}

#[test]
fn a_login_hook_that_says_what_follows_is_believed_and_another_goes_by_its_source() {
    let denied = || Box::new(Failure::Closed(Some(CloseFrame::new(CloseCode(1008), "denied"))));
    let login = |decision| Failure::Login { decision, source: denied() };
    assert_eq!(login(None).decision(), Decision::GiveUp);
    assert_eq!(login(Some(Decision::Retry)).decision(), Decision::Retry);
    assert!(!format!("{:?}", login(None)).contains("Retry"), "nobody has said so");
}
