//! A page in Chromium, which is reloaded and left now and then.

use std::thread;
use std::time::Instant;

use everlink::{Answer, Server};

use super::workload::{From, Workload};
use super::{Run, server_against};
use crate::support::browser::Browser;
use crate::support::ms;

const RELOADS: u64 = 2;

/// What a page needs.
const FILES: [(&str, &str, &str); 3] = [
    ("/page.html", "text/html", include_str!("../../interop/sessions/page.html")),
    ("/workload.mjs", "text/javascript", include_str!("../../interop/sessions/workload.mjs")),
    ("/everlink.js", "text/javascript", include_str!("../../../examples/browser/everlink.js")),
];

pub fn server_of(run: Run) {
    if Browser::program().is_none() {
        return;
    }
    let pages = Server::builder()
        .on_request(|incoming| {
            let file = FILES.iter().find(|(path, ..)| *path == incoming.path());
            file.map_or(Answer::reject(404.try_into().unwrap()), |(_, kind, text)| {
                Answer::page(kind, *text)
            })
        })
        .bind("127.0.0.1:0", |_| {})
        .unwrap();
    // not through the proxy, which would cut the page off
    let origin = format!("http://{}", pages.local_addr());
    let builder = Server::builder().origins([origin.as_str()]);
    server_against("Chromium", run, builder, |proxy| {
        let ends = if run.ends == From::Server { "s" } else { "c" };
        let Workload { count, seed, .. } = run.work;
        let words = format!("{count},{seed},{RELOADS},ws://{proxy}/,{ends}");
        let browser = Browser::open(
            &format!("{origin}/page.html#{words}"),
            &format!("session-{}", run.work.seed),
        )?;
        let deadline = Instant::now() + run.work.patience();
        while Instant::now() < deadline {
            let said = browser.evaluate("window.result ?? ''");
            if !said.is_empty() {
                return Some(said);
            }
            thread::park_timeout(ms(100));
        }
        None
    });
}
