//! A page in headless Chromium, from `EVERLINK_CHROMIUM` or `/usr/bin/chromium`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use everlink::{Answer, Server};

use super::Deflate;
use crate::support::{PATIENCE, init_log};

const PAGE: &str = include_str!("chromium.html");

#[test]
fn a_page_in_chromium_sends_and_receives_compressed() {
    init_log();
    let program = std::env::var_os("EVERLINK_CHROMIUM");
    let program = program.map_or(PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !program.exists() {
        eprintln!("skipped: {} is not there", program.display());
        return;
    }
    for deflate in [Deflate::Takeover, Deflate::Alone] {
        let (verdict, verdicts) = mpsc::channel();
        let server = deflate
            .server(Server::builder())
            .max_message_size(64 << 20)
            .on_request(|request| match request.headers().get("upgrade") {
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
        let name = format!("everlink-chromium-{}-{}", std::process::id(), deflate.name());
        let profile = std::env::temp_dir().join(name);
        let mut browser = Command::new(&program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-dev-shm-usage"])
            // nothing but this machine is dialed
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("--remote-debugging-port=0")
            .arg(format!("http://{}/", server.local_addr()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = verdicts.recv_timeout(2 * PATIENCE);
        let _ = browser.kill();
        let _ = browser.wait();
        let _ = std::fs::remove_dir_all(profile);
        assert_eq!(said.as_deref(), Ok("all came back"));
    }
}
