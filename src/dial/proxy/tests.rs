use std::io::{self, Read, Write};
use std::time::Duration;

use ::http::StatusCode;
use proptest::prelude::*;

use super::*;

/// A peer that has said all it will say, and writes down what it hears.
struct Script<'a> {
    says: &'a [u8],
    heard: Vec<u8>,
}

impl Read for Script<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.says.read(buf)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.heard.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Script<'_> {
    fn hurry(&mut self, _: Duration) {}
}

fn talk(proxy: &str, says: &[u8]) -> (Result<(), Failure>, Vec<u8>, Vec<u8>) {
    let mut script = Script { says, heard: Vec::new() };
    let result = Proxy::new(proxy).unwrap().open(&mut script, "feed.test", 443);
    let mut left = Vec::new();
    let result = result.map(|rest| left = rest);
    left.extend_from_slice(script.says);
    (result, script.heard, left)
}

#[test]
fn http_connect_leaves_what_follows_alone() {
    let answer = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nhello";
    let (result, heard, left) = talk("http://us%3Aer:pw@proxy:3128", answer);
    result.unwrap();
    assert_eq!(
        String::from_utf8(heard).unwrap(),
        "CONNECT feed.test:443 HTTP/1.1\r\nHost: feed.test:443\r\n\
         Proxy-Authorization: Basic dXM6ZXI6cHc=\r\n\r\n"
    );
    assert_eq!(left, b"hello");
}

#[test]
fn a_refusal_of_http_carries_its_status() {
    let (result, ..) = talk("proxy:3128", b"HTTP/1.1 407 Who are you\r\n\r\n");
    let failure = result.unwrap_err();
    let is_407 = |status: &StatusCode| status.as_u16() == 407;
    assert!(
        matches!(&failure, Failure::Proxy(ProxyError::Rejected { status, .. }) if is_407(status))
    );
    assert_eq!(failure.decision(), crate::failure::Decision::GiveUp);
    let (result, ..) = talk("proxy:3128", b"HTTP/1.1 502 No\r\n\r\n");
    assert_eq!(result.unwrap_err().decision(), crate::failure::Decision::Retry);
}

#[test]
fn a_refusal_of_http_says_what_the_proxy_said() {
    let answer = b"HTTP/1.1 407 Log\x1b in\r\nProxy-Authenticate: Basic realm=\"a, b\", x = y\r\n\
                   Proxy-Authenticate: NTLM\r\nContent-Length: 9\r\n\r\nask Ellen, more";
    let (result, ..) = talk("proxy:3128", answer);
    assert!(matches!(result, Err(Failure::Proxy(ProxyError::Malformed(_)))), "{result:?}");
    let answer = String::from_utf8(answer.to_vec()).unwrap().replace("\u{1b}", " first");
    let (result, ..) = talk("proxy:3128", answer.as_bytes());
    let failure = result.unwrap_err();
    let Failure::Proxy(ProxyError::Rejected { reason, schemes, body, .. }) = &failure else {
        panic!("{failure:?}")
    };
    assert_eq!((reason.as_str(), body.as_bytes()), ("Log first in", &b"ask Ellen"[..]));
    assert_eq!(schemes[0], "Basic");
    assert!(schemes.contains(&"NTLM".to_owned()), "{schemes:?}");
    let report = failure.to_string();
    for words in ["407", "Log first in", "Basic", "NTLM"] {
        assert!(report.contains(words), "{report}");
    }
}

#[test]
fn interim_responses_of_a_proxy_are_skipped() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
                   HTTP/1.1 200 OK\r\n\r\nhello";
    let (result, _, left) = talk("proxy:3128", answer);
    result.unwrap();
    assert_eq!(left, b"hello");
}

#[test]
fn a_proxy_that_goes_away_has_not_broken_its_protocol() {
    for says in [&b""[..], b"HTTP/1.1 200 OK\r\nVia: ", b"HTTP/1.1 200 OK\r\n"] {
        let (result, ..) = talk("http://proxy", says);
        assert!(matches!(result, Err(Failure::Proxy(ProxyError::Io(_)))), "{result:?}");
    }
    for says in [&b""[..], &[5], &[5, 0], &[5, 0, 5, 0, 0, 1]] {
        let (result, ..) = talk("socks5://proxy", says);
        assert!(matches!(result, Err(Failure::Proxy(ProxyError::Io(_)))), "{result:?}");
    }
    for (proxy, says) in [
        ("http://proxy", &b"SSH-2.0-x\r\n"[..]),
        ("socks5://proxy", &[4, 0]),
        ("socks5://proxy", &[5, 0, 4, 0, 0, 1]),
        ("socks5://proxy", b"HTTP/1.1 400 No"),
    ] {
        let (result, ..) = talk(proxy, says);
        assert!(matches!(result, Err(Failure::Proxy(ProxyError::Malformed(_)))), "{result:?}");
    }
}

#[test]
fn socks5_with_and_without_a_password() {
    let reply = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let (result, heard, left) = talk("socks5://proxy", &[&[5, 0][..], &reply, b"hello"].concat());
    result.unwrap();
    let connect = [&[5, 1, 0, 3, 9][..], b"feed.test", &443_u16.to_be_bytes()].concat();
    assert_eq!(heard, [&[5, 1, 0][..], &connect].concat());
    assert_eq!(left, b"hello");

    let (result, heard, _) = talk("socks5h://u:pw@proxy", &[&[5, 2, 1, 0][..], &reply].concat());
    result.unwrap();
    assert_eq!(heard, [&[5, 2, 0, 2, 1, 1, b'u', 2, b'p', b'w'][..], &connect].concat());
}

#[test]
fn a_refusal_of_socks5_says_why() {
    let (result, ..) = talk("socks5://proxy", &[5, 0, 5, 5, 0, 1]);
    let failure = result.unwrap_err();
    assert!(failure.to_string().contains("connection refused"), "{failure:?}");
    assert_eq!(failure.decision(), crate::failure::Decision::Retry);
    for says in [&[5, 0xff][..], &[5, 2, 1, 1]] {
        let (result, ..) = talk("socks5://u:p@proxy", says);
        assert_eq!(result.unwrap_err().decision(), crate::failure::Decision::GiveUp);
    }
}

#[test]
fn secrets_are_not_shown_and_nonsense_is_refused() {
    let proxy = Proxy::new("http://user:hunter2@proxy:3128").unwrap();
    assert_eq!(format!("{proxy:?}"), "Proxy(Http proxy:3128)");
    for (url, words) in [
        ("", "no host"),
        ("ftp://hunter2@proxy", "ftp"),
        ("http://", "no host"),
        ("socks4://proxy", "socks4"),
        ("socks://proxy:1080", "socks5"),
        ("https://user:hunter2@proxy", "TLS"),
        ("http://user:hunter2@proxy:99999", "port"),
        ("proxy:abc", "port"),
        ("socks5://proxy:0", "port"),
        ("http://user:hunter2@pro xy:1", "' '"),
    ] {
        let error = Proxy::new(url).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("hunter2"), "{url:?}: {error}");
    }
}

proptest! {
    #[test]
    fn arbitrary_answers_are_no_panic(
        start in prop::sample::select(vec![&b""[..], b"HTTP/1.1 200 x\r\n", &[5, 2, 1, 0, 5, 0]]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        for proxy in ["http://u:p@proxy", "socks5://u:p@proxy"] {
            let _ = talk(proxy, &[start, &rest].concat());
        }
    }
}
