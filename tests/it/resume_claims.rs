//! Offers that come late or twice, at every moment of a session's life: nothing becomes of them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::thread;

use crate::support::resumed::{resuming_server, text};
use crate::support::speaker::*;
use crate::support::*;
use crossbeam_channel::{Receiver, Sender, never, unbounded};
use everlink::config::{Heartbeat, SendOptions};
use everlink::{Server, Session};

/// What becomes of a session whose client makes each of its offers again and again.
struct Life {
    server: Server,
    /// Each with what has its handler return when it is dropped.
    sessions: Receiver<(Session, Sender<()>)>,
    kept: Kept,
    /// Every offer that was made.
    past: Vec<String>,
    /// Every token that was given.
    tokens: RefCell<HashSet<String>>,
}

impl Life {
    fn new() -> Self {
        let (sender, sessions) = unbounded();
        let beats = Heartbeat::every(ms(5)).dead_after(PATIENCE).message("beat", |_| false);
        let handler = move |session: Session| {
            let (done, wait) = unbounded();
            let _ = sender.send((session, done));
            let _ = wait.recv();
        };
        let server = resuming_server().heartbeat(beats).bind("127.0.0.1:0", handler).unwrap();
        let kept = Kept { token: String::new(), attempt: 0, received: 0 };
        let (past, tokens) = (Vec::new(), RefCell::default());
        Self { server, sessions, kept, past, tokens }
    }

    fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Makes the next offer.
    fn offer(&mut self) -> String {
        let offer = self.kept.offer();
        self.past.push(offer.clone());
        offer
    }

    /// Makes every offer again, with other numbers, too; `link` is the one that is up.
    fn late(&self, moment: &str, link: Option<&mut Speaker>, session: Option<&Session>) {
        let is_connected = session.map(Session::is_connected);
        let Kept { token, attempt, received } = &self.kept;
        let mut offers = self.past.clone();
        offers.extend([
            format!("s {token} attempt=0 received={received}"),
            format!("s {token} attempt={attempt} received={received}"),
            // no late one, but one that no client of this session can make
            format!("s {token} attempt={} received={}", attempt + 1, received + 1000),
            format!("s {token} attempt={} received={received} has=9999", attempt + 1),
        ]);
        for offer in offers {
            let mut late = Speaker::to(self.address());
            late.claim(&offer, &self.kept);
            assert_eq!(late.counted, None, "{moment}: {offer:?} was accepted");
            assert!(self.tokens.borrow_mut().insert(late.kept.token.clone()), "{moment}");
            // what an old connection brings along is nobody's: it does not get as far as a session
            late.reset();
        }
        assert!(self.sessions.is_empty(), "{moment}: a handler runs for nobody");
        assert_eq!(session.map(Session::is_connected), is_connected, "{moment}");
        if let Some(link) = link {
            // the link still answers, and that is all it says
            link.say("a");
            let said = [(); 1].map(|()| link.hear_but_beats());
            assert!(
                matches!(&said[0], Said::Text(text) if text.starts_with("r ")),
                "{moment}: {said:?}"
            );
        }
    }

    fn begun(&self) -> (Session, Sender<()>) {
        self.sessions.recv_timeout(PATIENCE).expect("a session begins")
    }

    fn resume(&mut self) -> Speaker {
        let offer = self.offer();
        let mut link = Speaker::to(self.address());
        link.claim(&offer, &self.kept);
        assert!(link.counted.is_some(), "{offer:?}: {}", link.answer);
        link.report();
        link
    }
}

/// Each message of the server's is its own number, so that a gap of the wrong size shows.
fn recv(link: &mut Speaker, kept: &mut Kept) -> String {
    let text = link.recv();
    assert_eq!(text.split(' ').next().unwrap(), link.kept.received.to_string());
    kept.received = link.kept.received;
    text
}

fn detached(session: &Session) {
    eventually("the loss", || if session.is_connected() { Err(()) } else { Ok(()) });
}

#[test]
fn offers_that_come_late_or_twice_change_nothing_at_any_moment_of_a_session() {
    for ends_here in [true, false] {
        let mut life = Life::new();
        // the token is known, and nobody has reported
        let mut link = Speaker::to(life.address());
        link.offer("s new");
        life.kept = link.kept.clone();
        life.late("before the first report", None, None);
        link.reset();
        life.late("before the first report, without a link", None, None);
        let offer = life.offer();
        let mut link = Speaker::to(life.address());
        link.claim(&offer, &life.kept);
        assert_eq!(link.counted, Some(0));
        life.late("before the first report, on the second link", None, None);
        link.report();
        let (session, done) = life.begun();
        life.late("after the first report", Some(&mut link), Some(&session));

        let (mut next, mut heard) = (1_u64, 0);
        for round in 0..3 {
            // traffic both ways, with beats in between
            for _ in 0..3 {
                session.send(next.to_string()).unwrap();
                next += 1;
                link.send(&format!("{heard}"));
                heard += 1;
            }
            life.late("up, with messages under way", None, Some(&session));
            for _ in 0..2 {
                recv(&mut link, &mut life.kept);
            }
            for number in heard - 3..heard {
                let next = || text(&session.recv_timeout(PATIENCE).unwrap());
                // what is not counted comes as well
                let next = std::iter::repeat_with(next).find(|text| text != "a beat");
                assert_eq!(next, Some(number.to_string()));
            }
            life.late("up", Some(&mut link), Some(&session));
            link.say("xa beat");
            link.say("g 2");
            // it is written, and the peer lacks it when its time is over: its number stays empty
            session.send_with(next.to_string(), SendOptions::new().ttl(ms(50))).unwrap();
            next += 1;
            eventually("the message", || match link.hear() {
                Said::Text(text) if text == format!("m{}", next - 1) => Ok(()),
                other => Err(other),
            });
            link.reset();
            detached(&session);
            life.late("waiting", None, Some(&session));
            let _ = never::<()>().recv_timeout(ms(60));
            session.send(format!("{next} later")).unwrap();
            next += 1;
            link = life.resume();
            assert!((heard..=heard + 2 * (round + 1)).contains(&link.counted.unwrap()));
            session.wait_connected(PATIENCE).unwrap();
            life.late("up again", None, Some(&session));
            let mut last = String::new();
            while life.kept.received + 1 < next {
                last = recv(&mut link, &mut life.kept);
            }
            assert!(last.ends_with("later"));
            assert_eq!(session.stats().expired, round + 1);
        }
        if ends_here {
            drop(done);
            assert_eq!(link.hear_end(), Said::text("e 1000"));
            life.late("closing", None, None);
            link.reset();
            detached(&session);
            life.late("closing, without a link", None, None);
            link = life.resume();
            assert_eq!(link.hear_end(), Said::text("e 1000"));
            life.late("closing, on the next link", None, None);
            link.end(1000);
        } else {
            let rest = link.end(1000);
            assert!(rest.contains(&Said::text("e 1000")), "{rest:?}");
            drop(done);
        }
        life.late("after the end", None, None);
        eventually("the end", || session.failure().map(drop).ok_or(()));
        life.late("after the end, known to all", None, None);
        // the one that comes now is not late: it hears that this is over
        link = life.resume();
        assert_eq!(link.hear_end(), Said::text("e 1000"));
        life.late("while the end is said again", None, None);
        link.end(1000);
    }
}

#[test]
fn a_link_that_was_taken_over_brings_nothing_more() {
    let life = Life::new();
    let mut old = Speaker::new(life.address());
    let (session, _done) = life.begun();
    for number in 1..=3 {
        session.send(number.to_string()).unwrap();
        while old.hear() != Said::Text(format!("m{number}")) {}
    }
    let mut kept = old.kept.clone();
    kept.received = 1;
    let mut link = Speaker::resume(life.address(), &mut kept);
    assert_eq!(link.counted, Some(0));
    for said in ["mlost", "g 5", "r 3", "e 1000", "r 99", "nonsense"] {
        // it may be gone already
        let _ = old.try_say(said);
    }
    assert_eq!([link.recv(), link.recv()], ["2", "3"]);
    link.send("kept");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "kept");
    let mut kept = link.reset();
    detached(&session);
    assert_eq!(Speaker::resume(life.address(), &mut kept).counted, Some(1));
}

/// A claim meets the end that its session is just coming to: by the client's `e`, whose answer is lost, and by the
/// handler's return. Whatever comes first, nobody is told of another session.
#[test]
fn a_claim_that_meets_an_end_in_order_hears_of_that_end() {
    let life = Life::new();
    let mut seen = [0; 2];
    for round in 0..200 {
        let mut link = Speaker::new(life.address());
        let (session, done) = life.begun();
        session.send("1").unwrap();
        assert_eq!(link.recv(), "1");
        let mut kept = link.kept.clone();
        link.report();
        link.say("e 1000");
        // it does not wait for the answer: its network is gone, or only seems to be
        let old = (round % 2 == 0).then_some(link);
        let claims: Vec<_> = (0..1 + round % 3)
            .map(|_| {
                let (offer, kept, address) = (kept.offer(), kept.clone(), life.address());
                thread::spawn(move || {
                    let mut link = Speaker::to(address);
                    link.claim(&offer, &kept);
                    link
                })
            })
            .collect();
        let links: Vec<Speaker> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
        // of several at once the newest is the client's
        let mut newest = links.into_iter().max_by_key(|link| link.kept.attempt).unwrap();
        assert_eq!(newest.counted, Some(0), "round {round}: {}", newest.answer);
        newest.report();
        seen[usize::from(newest.hear_unasked() == Said::text("r 0"))] += 1;
        drop(done);
        assert!(newest.end(1000).len() > 1);
        drop(old);
        eventually("the end", || session.failure().map(drop).ok_or(()));
    }
    println!("{seen:?} of the claims came before the end, and behind it");
}
