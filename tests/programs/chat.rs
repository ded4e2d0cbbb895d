//! The chat, with members that lose their network, and pages that are reloaded.
#![cfg(all(unix, feature = "tls"))]

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::config::{Backoff, Resume};
use everlink::{Client, State};

use super::examples::Running;
use crate::support::browser::Browser;
use crate::support::examples::example;
use crate::support::{PATIENCE, eventually, ms};

/// The example, and where it listens.
fn chat(away: &str) -> (Running, String) {
    let mut command = example("chat");
    let command = command.args(["127.0.0.1:0", "--away", away]).stdout(Stdio::piped());
    let mut chat = Running(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(chat.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("open http://").expect("it says where").to_owned();
    (chat, address)
}

/// A member that has no session, and never loses its network.
struct Member {
    client: Client,
    heard: RefCell<Vec<String>>,
}

impl Member {
    fn new(address: &str, name: &str) -> Self {
        let client = Client::connect(format!("ws://{address}/ws")).unwrap();
        let member = Self { client, heard: RefCell::default() };
        member.says(name);
        member.hears(&format!("-- {name} is here"));
        member
    }

    fn says(&self, line: &str) {
        self.client.send(line).unwrap();
    }

    /// Waits for a line.
    fn hears(&self, expected: &str) {
        loop {
            let line = self.client.recv_timeout(2 * PATIENCE).expect("a line in time");
            let line = line.as_text().unwrap();
            self.heard.borrow_mut().push(line.to_owned());
            if line == expected {
                return;
            }
        }
    }

    /// The lines so far that begin with this.
    fn heard_of(&self, name: &str) -> Vec<String> {
        self.heard.borrow().iter().filter(|line| line.starts_with(name)).cloned().collect()
    }
}

/// The chat's page in a browser.
struct Page(Browser);

impl Page {
    fn says(&self, line: &str) {
        self.says_and(line, "");
    }

    fn says_and(&self, line: &str, then: &str) {
        let say = "document.forms[0].requestSubmit()";
        let script = format!("document.getElementById('line').value = '{line}'; {say}; {then}");
        self.0.evaluate(&script);
    }

    /// Says a line and reloads the page in the same moment; returns when it is there again.
    fn says_and_reloads(&self, line: &str) {
        self.0.evaluate("window.isOld = true");
        self.says_and(line, "location.reload()");
        eventually("the page is there again", || {
            let is_there = "`${!window.isOld && document.readyState === 'complete'}`";
            let is_there = self.0.evaluate(is_there);
            if is_there == "true" { Ok(()) } else { Err(is_there) }
        });
    }

    fn state(&self) -> String {
        self.0.evaluate("document.getElementById('state').innerText")
    }

    fn lines(&self) -> Vec<String> {
        let text = self.0.evaluate("document.getElementById('room').innerText");
        text.lines().map(str::to_owned).collect()
    }

    /// The lines that begin with this.
    fn lines_of(&self, name: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with(name)).collect()
    }

    fn shows(&self, expected: &str) {
        eventually("the page shows the line", || {
            let lines = self.lines();
            if lines.iter().any(|line| line == expected) { Ok(()) } else { Err(lines) }
        });
    }
}

#[test]
fn a_page_in_chromium_takes_part_in_the_chat() {
    let (mut chat, address) = chat("2");
    let bob = Member::new(&address, "bob");
    // the page says what the link brings along
    let url = format!("http://{address}/#ada,hello%20bob");
    let Some(browser) = Browser::open(&url, "chat") else { return };
    bob.hears("ada: hello bob");
    // and shows what is said
    bob.says("hello ada");
    let page = Page(browser);
    page.shows("bob: hello ada");
    drop(page);
    bob.hears("-- ada has left");
    // somebody interrupts: it says goodbye and ends well
    let id = rustix::process::Pid::from_child(&chat.0);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert!(chat.0.wait().unwrap().success());
}

#[test]
fn a_page_that_loses_its_network_or_is_reloaded_misses_nothing_and_says_nothing_twice() {
    let (_chat, address) = chat("60");
    let proxy = FaultProxy::start(address.as_str()).unwrap();
    let bob = Member::new(&address, "bob");
    let url = format!("http://{}/#ada", proxy.address());
    let Some(browser) = Browser::open(&url, "away") else { return };
    let page = Page(browser);
    bob.hears("-- ada is here");
    page.says("0");
    bob.hears("ada: 0");
    // bob talks all the time
    let talking = thread::spawn({
        let client = bob.client.clone();
        move || {
            let clock = crossbeam_channel::tick(ms(20));
            for number in 0..500 {
                clock.recv().unwrap();
                client.send(number.to_string()).unwrap();
            }
        }
    });
    page.shows("bob: 10");
    page.says("1");
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    eventually("the page notices", || match page.state() {
        state if state.is_empty() => Err(state),
        _ => Ok(()),
    });
    page.says("2");
    // how long the outage is, so that attempts fail; nothing is waited for
    thread::sleep(Duration::from_secs(3));
    page.says("3");
    let before = page.lines_of("bob: ").len();
    proxy.set(Faults::none()).unwrap();
    bob.hears("ada: 3");
    eventually("it catches up", || {
        let shown = page.lines_of("bob: ").len();
        if shown > before + 100 { Ok(()) } else { Err((before, shown)) }
    });
    // three times in the middle of it, once without a network
    for number in 4..7 {
        if number == 6 {
            proxy.cut(Cut::Reset);
        }
        page.says_and_reloads(&number.to_string());
        bob.hears(&format!("ada: {number}"));
    }
    talking.join().unwrap();
    page.says("end");
    bob.hears("ada: end");
    page.shows("ada: end");
    page.shows("bob: 499");
    let from_bob: Vec<_> = (0..500).map(|number| format!("bob: {number}")).collect();
    assert_eq!(page.lines_of("bob: "), from_bob);
    let mine = (0..7).map(|number| number.to_string()).chain(["end".to_owned()]);
    let mine: Vec<_> = mine.map(|line| format!("ada: {line}")).collect();
    assert_eq!(page.lines_of("ada: "), mine);
    assert_eq!(bob.heard_of("ada: "), mine);
    assert_eq!(page.lines_of("-- "), ["-- ada is here"], "nobody has left or come again");
}

#[test]
fn who_loses_the_network_for_ten_seconds_misses_nothing_of_the_chat() {
    let (_chat, address) = chat("60");
    let proxy = FaultProxy::start(address.as_str()).unwrap();
    let url = format!("ws://{}/ws", proxy.address());
    let backoff = Backoff::fixed(ms(10));
    let away = Client::builder(&url).resume(Resume::new()).backoff(backoff).connect().unwrap();
    let next = || away.recv_timeout(PATIENCE).unwrap().as_text().unwrap().to_owned();
    assert!(next().starts_with("welcome"));
    away.send("Ada").unwrap();
    assert_eq!(next(), "-- Ada is here");
    let other = Client::connect(format!("ws://{address}/ws")).unwrap();
    other.send("Bob").unwrap();
    assert_eq!(next(), "-- Bob is here");
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    let begun = Instant::now();
    for (number, _) in (0..100).zip(crossbeam_channel::tick(ms(100))) {
        other.send(format!("{number}")).unwrap();
    }
    assert!(begun.elapsed() >= ms(10_000) && away.state() != State::Connected);
    away.send("is anybody there?").unwrap();
    other.flush(PATIENCE).unwrap();
    proxy.set(Faults::none()).unwrap();
    for number in 0..100 {
        assert_eq!(next(), format!("Bob: {number}"));
    }
    assert_eq!(next(), "Ada: is anybody there?");
}
