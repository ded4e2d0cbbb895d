//! A page in headless Chromium.

use std::sync::mpsc;

use everlink::config::Limits;
use everlink::{Answer, Server};

use super::Deflate;
use crate::support::browser::Browser;
use crate::support::{PATIENCE, init_log};

const PAGE: &str = include_str!("../../interop/chromium.html");

#[test]
fn a_page_in_chromium_sends_and_receives_compressed() {
    init_log();
    for deflate in [Deflate::Takeover, Deflate::Alone] {
        let (verdict, verdicts) = mpsc::channel();
        let server = deflate
            .server(Server::builder())
            .limits(Limits::new().message(64 << 20))
            .on_request(|incoming| match incoming.header("upgrade") {
                Some(_) => Answer::accept(),
                None => Answer::page("text/html; charset=utf-8", PAGE),
            })
            .bind("127.0.0.1:0", move |session| {
                deflate.check(session.compression());
                for message in session.iter() {
                    match message.as_text().and_then(|text| text.strip_prefix("verdict ")) {
                        Some(text) => drop(verdict.send(text.to_owned())),
                        None => session.send(message).unwrap(),
                    }
                }
            })
            .unwrap();
        let url = format!("http://{}/", server.local_addr());
        let Some(browser) = Browser::open(&url, deflate.name()) else { return };
        let said = verdicts.recv_timeout(2 * PATIENCE);
        drop(browser);
        assert_eq!(said.as_deref(), Ok("all came back"));
    }
}
