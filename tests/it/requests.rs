//! What a server says to requests of all sorts: browsers, probes, broken clients.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::*;
use everlink::http::StatusCode;
use everlink::{Answer, Client, Error, Failure, Server, ServerBuilder};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
                       Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n\r\n";

fn bind(builder: ServerBuilder) -> Server {
    init_log();
    builder.bind("127.0.0.1:0", |session| while session.recv().is_ok() {}).unwrap()
}

/// What the server says until it has nothing more to say.
fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // a WebSocket that ends without a close frame may be reset
    let _ = stream.read_to_end(&mut answer);
    let head = answer.split(|byte| *byte == 0x88).next().unwrap();
    String::from_utf8(head.to_vec()).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

#[test]
fn a_request_that_cannot_be_read_is_answered_and_the_answer_arrives() {
    let server = bind(Server::builder());
    let cookie = format!("Host: h\r\nCookie: {}\r\n", "a".repeat(66_000));
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    for (request, expected) in [
        ("hello\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nfoo bar\r\n\r\n".into(), "400"),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n folded\r\n\r\n".into(), "400"),
        (UPGRADE.replacen("Host: h\r\n", "", 1), "400"),
        (UPGRADE.replacen("Host: h\r\n", "Host: h\r\nHost: h\r\n", 1), "400"),
        (UPGRADE.replacen("Host: h\r\n", &cookie, 1), "431"),
        (UPGRADE.replacen("Host: h\r\n", &format!("Host: h\r\n{many}"), 1), "431"),
        ("\n".repeat(65_000) + UPGRADE, "400"),
        (UPGRADE.to_owned(), "101"),
    ] {
        let answer = ask(&server, &request);
        assert_eq!(status(&answer), expected, "{answer}");
    }
}

#[test]
fn each_status_comes_with_what_belongs_to_it() {
    let server = bind(Server::builder().on_request(|incoming| match incoming.path() {
        "/page" => Answer::page("text/plain", "hello").header("X-MiXed", "1"),
        "/nothing" => Answer::reject(StatusCode::NO_CONTENT).body("never"),
        "/interim" => Answer::reject(StatusCode::CONTINUE),
        _ => Answer::accept(),
    }));
    let page = ask(&server, "GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(page.contains("\r\nX-MiXed: 1\r\n") && page.ends_with("\r\n\r\nhello"), "{page}");
    assert!(page.contains("\r\nDate: "), "{page}");
    let head = ask(&server, "HEAD /page HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(head.contains("Content-Length: 5") && head.ends_with("\r\n\r\n"), "{head}");
    let nothing = ask(&server, "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&nothing), "204");
    assert!(!nothing.contains("Content-Length") && nothing.ends_with("\r\n\r\n"), "{nothing}");
    let interim = ask(&server, "GET /interim HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&interim), "500");
    let post = ask(&server, &UPGRADE.replacen("GET", "POST", 1));
    assert!(status(&post) == "405" && post.contains("\r\nAllow: GET\r\n"), "{post}");
    let plain = ask(&server, "GET /chat HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&plain), "426");
    assert!(plain.contains("\r\nConnection: Upgrade, close\r\n"), "{plain}");
}

#[test]
fn a_page_of_another_host_is_let_in_only_if_the_program_says_so() {
    let from = |server: &Server, origin: &str| {
        let line = format!("Host: h\r\nOrigin: {origin}\r\n");
        status(&ask(server, &UPGRADE.replacen("Host: h\r\n", &line, 1))).to_owned()
    };
    let server = bind(Server::builder().on_request(|incoming| {
        assert_ne!(incoming.origin(), Some("https://evil.example"), "the program was asked");
        Answer::accept()
    }));
    assert_eq!(from(&server, "https://h"), "101");
    assert_eq!(from(&server, "https://evil.example"), "403");
    assert_eq!(from(&server, "null"), "403");
    assert_eq!(status(&ask(&server, UPGRADE)), "101");
    // programs say none
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    drop(client);

    let server = bind(Server::builder().origins(["https://app.example", "null"]));
    for (origin, expected) in [
        ("https://app.example", "101"),
        ("null", "101"),
        ("http://h", "101"),
        ("https://evil.example", "403"),
    ] {
        assert_eq!(from(&server, origin), expected, "{origin}");
    }
    let server = bind(Server::builder().any_origin());
    assert_eq!(from(&server, "https://evil.example"), "101");

    let wrong = Server::builder().origins(["app.example"]).bind("127.0.0.1:0", |_| {});
    let Err(Error::InvalidSetting { setting: "origins", .. }) = wrong else { panic!("accepted") };
}

#[test]
fn a_name_that_is_not_the_servers_is_refused_also_to_a_page_of_that_name() {
    let server = bind(Server::builder().host_names(["localhost", "h:80"]).on_request(|incoming| {
        if incoming.path() == "/page" {
            Answer::page("text/plain", "hello")
        } else {
            Answer::accept()
        }
    }));
    let at = |host: &str, more: &str| {
        let head = format!("Host: {host}\r\n{more}");
        status(&ask(&server, &UPGRADE.replacen("Host: h\r\n", &head, 1))).to_owned()
    };
    for (host, expected) in [
        ("localhost:9001", "101"),
        ("h:80", "101"),
        ("h:81", "421"),
        ("127.0.0.1:9001", "101"),
        ("evil.example", "421"),
    ] {
        assert_eq!(at(host, ""), expected, "{host}");
        assert_eq!(at(host, &format!("Origin: http://{host}\r\n")), expected, "a page of {host}");
    }
    let page = ask(&server, "GET /page HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 421") && !page.contains("hello"), "{page}");
    // without the setting such a page is one of the host that is asked
    let server = bind(Server::builder());
    let rebound =
        UPGRADE.replacen("Host: h", "Host: evil.example\r\nOrigin: http://evil.example", 1);
    assert_eq!(status(&ask(&server, &rebound)), "101");
    let wrong = Server::builder().host_names(["http://h"]).bind("127.0.0.1:0", |_| {});
    let Err(Error::InvalidSetting { setting: "host_names", .. }) = wrong else {
        panic!("accepted")
    };
}

#[test]
fn a_target_that_is_no_path_reaches_no_program() {
    let server = bind(Server::builder().on_request(|_| Answer::page("text/plain", "hello")));
    for (target, expected) in [
        ("*", "400"),
        ("h:80", "400"),
        ("h", "400"),
        ("/chat", "200"),
        ("/*", "200"),
        ("http://h", "200"),
        ("http://h/chat", "200"),
    ] {
        let answer = ask(&server, &format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(status(&answer), expected, "{target}: {answer}");
    }
    let options = ask(&server, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&options), "200", "its method has that form");
}

#[test]
fn a_request_with_a_space_before_a_colon_is_refused() {
    let server = bind(Server::builder());
    for line in ["X-Powered-By : a", "Content-Length : 5", "X A: b", "\u{e9}: b"] {
        let request = UPGRADE.replacen("Host: h\r\n", &format!("Host: h\r\n{line}\r\n"), 1);
        assert_eq!(status(&ask(&server, &request)), "400", "{line}");
    }
}

#[test]
fn a_client_with_a_wrong_origin_reads_why() {
    let server = bind(Server::builder());
    let url = format!("ws://{}", server.local_addr());
    let builder = Client::builder(&url).header("Origin", "https://evil.example");
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    let Failure::Rejected { status, body, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!(*status, StatusCode::FORBIDDEN);
    assert!(body.to_text().contains("origin"), "{}", body.to_text());
}
