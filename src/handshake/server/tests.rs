use super::*;
use crate::handshake::Gate;
use proptest::prelude::*;

const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\
                    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    Sec-WebSocket-Protocol: a, b\r\n\r\n";

fn answer(request: &str, subprotocol: Option<&str>) -> String {
    let (request, rest) = read_request(&mut request.as_bytes()).unwrap();
    assert!(rest.is_empty());
    let mut response = Vec::new();
    let upgrade = Gate::default()
        .check(&request)
        .and_then(|()| accept(&request, subprotocol, &Headers::default(), None, false));
    match upgrade {
        Ok(upgrade) => upgrade.write(&mut response).unwrap(),
        Err(wrong) => drop(refuse(&mut response, &request, wrong)),
    }
    String::from_utf8(response).unwrap()
}

#[test]
fn the_example_of_the_rfc_is_answered_as_there() {
    let response = answer(GOOD, Some("b"));
    assert_eq!(
        response,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: b\r\n\r\n"
    );
    assert!(!answer(GOOD, Some("c")).contains("Protocol:"), "c was not offered");
}

#[test]
fn a_wrong_request_is_answered_with_what_is_wrong() {
    for (from, to, status) in [
        ("GET", "POST", "405"),
        ("HTTP/1.1", "HTTP/1.0", "400"),
        ("Upgrade: WebSocket\r\n", "", "426"),
        ("keep-alive, Upgrade", "close", "400"),
        ("Version: 13", "Version: 8", "426"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", "400"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", "400"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j-Q==", "400"),
        ("Host: h\r\n", "", "400"),
        ("Host: h\r\n", "Host: h\r\nHost: h\r\n", "400"),
        ("/chat", "*", "400"),
        ("/chat", "h:80", "400"),
        ("/chat", "h", "400"),
        ("GET /chat", "OPTIONS *", "405"),
        ("GET /chat", "CONNECT h:80", "405"),
        ("Host: h\r\n", "Host: h/x\r\n", "400"),
        ("Host: h\r\n", "Host: u@h\r\n", "400"),
        ("Host: h\r\n", "Host: h\r\nContent-Length: 5\r\n", "400"),
        ("Host: h\r\n", "Host: h\r\nTransfer-Encoding: chunked\r\n", "400"),
        ("Host: h\r\n", "Host: h\r\nSec-WebSocket-Version: 13\r\n", "400"),
        ("Host: h\r\n", "Host: h\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "400"),
        ("Version: 13", "Version: 13, 8", "426"),
        ("Protocol: a, b", "Protocol: a b", "400"),
        ("Protocol: a, b", "Protocol: \u{e9}", "400"),
        ("Host: h\r\n", "Host: h\r\nOrigin: http://evil.example\r\n", "403"),
    ] {
        let response = answer(&GOOD.replacen(from, to, 1), None);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{to:?}: {response}");
        assert!(response.contains("\r\nDate: "), "{response}");
        assert!(!response.contains("a b") && !response.contains("evil"), "{response}");
    }
}

#[test]
fn what_is_right_is_not_refused() {
    for (from, to) in [
        // as some clients make them, and as RFC 6455 does in section 1.2
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR=="),
        ("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC=="),
        ("Host: h\r\n", "Host: h\r\nContent-Length: 0\r\n"),
        ("Host: h\r\n", "Host: h\r\nOrigin: https://h\r\n"),
        ("Host: h\r\n", "Host:\r\n"),
        ("Host: h\r\n", "Host: h:\r\n"),
        ("Host: h\r\n", "Host: a_b.example.:8080\r\n"),
        ("Protocol: a, b", "Protocol: a,, b,"),
    ] {
        let response = answer(&GOOD.replacen(from, to, 1), None);
        assert!(response.starts_with("HTTP/1.1 101"), "{to:?}: {response}");
    }
}

#[test]
fn an_answer_has_the_headers_of_its_status_and_a_body_only_where_there_is_one() {
    let post = answer(&GOOD.replacen("GET", "POST", 1), None);
    assert!(post.contains("\r\nAllow: GET\r\n"), "{post}");
    let plain = answer("GET / HTTP/1.1\r\nHost: h\r\n\r\n", None);
    for line in ["Connection: Upgrade, close", "Upgrade: websocket", "Version: 13"] {
        assert!(plain.contains(line), "{plain}");
    }
    let head = answer(&GOOD.replacen("GET", "HEAD", 1), None);
    assert!(head.contains("Content-Length: 33") && head.ends_with("\r\n\r\n"), "{head}");
    let mut response = Vec::new();
    let (status, none) = (StatusCode::NO_CONTENT, Headers::default());
    respond(&mut response, &Method::GET, status, &none, b"never").unwrap();
    let response = String::from_utf8(response).unwrap();
    assert!(!response.contains("Content-Length"), "{response}");
    assert!(response.ends_with("\r\n\r\n"), "{response}");
}

#[test]
fn a_request_that_cannot_be_read_is_complained_about_and_not_repeated() {
    let of = |request: &str| {
        let error = read_request(&mut request.as_bytes()).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        complaint(&error).map(|status| status.as_u16())
    };
    let cookie = format!("GET / HTTP/1.1\r\nCookie: {}\r\n\r\n", "a".repeat(66_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(200));
    assert_eq!(of("hunter2\r\n\r\n"), Some(400));
    assert_eq!(of("GET /?token=hunter2 HTTP/1.1\r\nfoo bar\r\n\r\n"), Some(400));
    assert_eq!(of("GET /hunter2 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n"), Some(400));
    assert_eq!(of("GET /?token=hunter2 HTTP/3.7\r\n\r\n"), Some(400));
    assert_eq!(of(&cookie), Some(431));
    assert_eq!(of(&many), Some(431));
    assert_eq!(of("GET / HT"), None);
}

proptest! {
    #[test]
    fn arbitrary_requests_are_no_panic(
        start in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", GOOD]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start.as_bytes(), &rest].concat();
        if let Ok((request, _)) = read_request(&mut &bytes[..]) {
            let _ = accept(&request, None, &Headers::default(), None, false);
        }
    }
}
