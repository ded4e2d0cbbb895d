//! Both ends of a session over a network that loses, delays, repeats and cuts anywhere, in any order.
//!
//! Outbox, counts, frame writer, control slots, encoder, decoder, `sort`, offers, answers and notes are
//! the real ones. What a client makes of an answer is `judge`, what a server makes of a claim is
//! `Counts::admits`. What the threads around them do (a client's manager, a server's owner, readers) is
//! played here by one thread, one step at a time, as the seed of a schedule says.

mod client_tests;
mod end_tests;
mod network_tests;
mod program_tests;
mod server_tests;
mod truth_tests;

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use client_tests::{Client, Phase};
use end_tests::{LinkEnd, Lost, Owner, Reading, name, say};
use fastrand::Rng;
use network_tests::Pipe;
use program_tests::Program;
use server_tests::{Conn, ConnState, Known, ServerSession};
use truth_tests::{CLIENT, Course, SERVER, Seen, Sums, Truth};
use tungstenite::protocol::Role;

use crate::link::close_request::CloseRequest;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::policy::{
    Delivery, Framing, Limits, OnResend, Overflow, Prefix, Queue, Unconfirmed, Undelivered,
};
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::queues::question::{Lasts, Question, Unanswered};
use crate::queues::receipt::Receipt;
use crate::queues::terms::{Terms, WaitFor};
use crate::resume::{Answer, Counts, Note, Offer, Token, Verdict, judge};
use crate::settings::Settings;
use crate::stats::Counters;
use crate::wire::Protocol;

/// A time to live in the schedules, and how much of it passes at once: far longer than a schedule runs.
const TIME_TO_LIVE: Duration = Duration::from_secs(5000);
const MOMENT: Duration = Duration::from_secs(1000);

/// What a program adds to messages that are sent though the peer may have them.
const MARK: &[u8] = b"again";

/// An error that is planted, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Error {
    /// A resumption takes the number of what was sent back to what the peer has, as version 0.2 did.
    SentSetBack,
    /// What a link still brings that another has replaced is counted.
    OldLinkCounts,
    /// A hole behind which no message follows is not told.
    HoleAtTheEndUntold,
    /// What is written may expire before it is known whether the peer has it.
    DoubtfulExpires,
    /// A claim is accepted whatever its attempt is.
    LateAttemptAccepted,
    /// Who has said `e` does not wait for the answer.
    EndNotAwaited,
    /// A handler starts with the answer, not with the first report.
    HandlerBeforeReport,
    /// A server forgets a session whose end it has heard, if it has said its own.
    CrossedEndForgotten,
    /// What the peer has and has not counted yet is sent again.
    HasIgnored,
}

/// Each with the number of schedules that find it.
const ERRORS: &[(Error, u64)] = &[
    (Error::SentSetBack, 2000),
    (Error::OldLinkCounts, 2000),
    (Error::HoleAtTheEndUntold, 2000),
    (Error::DoubtfulExpires, 2000),
    (Error::LateAttemptAccepted, 2000),
    (Error::EndNotAwaited, 4000),
    (Error::HandlerBeforeReport, 2000),
    (Error::CrossedEndForgotten, 8000),
    (Error::HasIgnored, 2000),
];

/// What differs between schedules.
#[derive(Debug, Clone)]
struct Rules {
    planted: Option<Error>,
    /// Each end may say `has`.
    counts_late: bool,
    /// Either program may end the session.
    ends: bool,
    /// Sessions that wait may be forgotten.
    forgets: bool,
    unconfirmed: Unconfirmed,
    room: usize,
    overflow: Overflow,
    delivery: Delivery,
}

impl Rules {
    fn has(&self, error: Error) -> bool {
        self.planted == Some(error)
    }
}

struct World {
    random: Rng,
    rules: Rules,
    /// What each end speaks.
    protocols: [Protocol; 2],
    settings: Arc<Settings>,
    truth: Truth,
    client: Client,
    sessions: Vec<ServerSession>,
    conns: Vec<Conn>,
    /// Both directions of the connections that were not given up by the network.
    lines: Vec<(u32, [Pipe; 2])>,
    next_line: u32,
    /// Offers that have been decided about, for repetition.
    heard: Vec<Offer>,
    /// Nothing goes wrong any more.
    is_calm: bool,
    tokens: Arc<[Token]>,
}

impl World {
    fn new(seed: u64, planted: Option<Error>, tokens: &Arc<[Token]>) -> Self {
        let mut random = Rng::with_seed(seed);
        let overflow = match random.u8(..4) {
            0 => Overflow::Fail,
            1 => Overflow::DropNewest,
            _ => Overflow::DropOldest,
        };
        let delivery = match random.u8(..4) {
            0 => Delivery::AtLeastOnce,
            _ => Delivery::AtMostOnce,
        };
        let rules = Rules {
            planted,
            counts_late: random.u8(..3) == 0,
            ends: random.u8(..3) > 0,
            forgets: random.u8(..4) == 0,
            unconfirmed: Unconfirmed { messages: random.usize(1..6), bytes: 1000 },
            room: random.usize(1..8),
            overflow,
            delivery,
        };
        let framed = |framing: Framing| [(); 2].map(|()| Protocol::Framed(framing.clone()));
        let protocols = match random.u8(..6) {
            0 => framed(Framing::length_prefixed(Prefix::U16)),
            1 => framed(Framing::lines()),
            _ => [Role::Client, Role::Server].map(Protocol::WebSocket),
        };
        let fragment = Limits::new().fragment(random.usize(1..12));
        let limits = (random.u8(..3) == 0 && protocols[CLIENT].is_websocket()).then_some(fragment);
        let mark: OnResend = Arc::new(|message| {
            let marked = [message.as_bytes(), MARK].concat();
            match message.is_text() {
                true => Message::from(String::from_utf8_lossy(&marked).into_owned()),
                false => Message::from(marked),
            }
        });
        let settings = Settings { limits, on_resend: Some(mark), ..Settings::default() };
        let settings = Arc::new(settings);
        let program = Program::new(None, &protocols, &settings, &rules);
        let client = Client { program, held: None, phase: Phase::Down, old: None };
        Self {
            random,
            rules,
            protocols,
            settings,
            truth: Truth::default(),
            client,
            sessions: Vec::new(),
            conns: Vec::new(),
            lines: Vec::new(),
            next_line: 0,
            heard: Vec::new(),
            is_calm: false,
            tokens: Arc::clone(tokens),
        }
    }

    /// A new connection.
    fn connect(&mut self) -> (u32, Pipe, Reading) {
        let [up, down] = [(); 2].map(|()| Pipe::new());
        let line = self.next_line;
        self.next_line += 1;
        let reading = Reading::new(up.clone(), &self.protocols[SERVER]);
        let state = ConnState::Opening;
        self.conns.push(Conn { line, reading, out: down.clone(), state });
        self.lines.push((line, [up.clone(), down.clone()]));
        if self.lines.len() > 6 {
            self.lines.remove(0);
        }
        (line, up, Reading::new(down, &self.protocols[CLIENT]))
    }

    fn hinder(&mut self, out: &Pipe) {
        if !self.is_calm {
            out.hinder(self.random.usize(1..60), self.random.bool(), false);
        }
    }

    /// Of what is on its way a part still arrives, and both ends notice some time.
    fn cut(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let (_, pipes) = &self.lines[self.random.usize(..self.lines.len())];
        for pipe in pipes {
            let random = &mut self.random;
            let unnoticed = random.usize(..200);
            pipe.cut(|left| random.usize(..=left), unnoticed);
        }
    }

    /// An offer that was heard comes again, on a connection of its own.
    fn repeat(&mut self) {
        if self.heard.is_empty() {
            return;
        }
        let offer = self.heard[self.random.usize(..self.heard.len())].clone();
        let (_, mut out, _) = self.connect();
        say(&mut out, &self.protocols[CLIENT], &offer);
        // what follows is nothing, or the end
        if self.random.bool() {
            out.end();
        }
    }

    fn live_session(&mut self) -> Option<usize> {
        let is_live = |it: &&ServerSession| matches!(it.known, Known::Live);
        let live = self.sessions.iter().filter(is_live).count();
        let chosen = self.random.usize(..live.max(1));
        let mut live = self.sessions.iter().enumerate().filter(|(_, it)| is_live(it));
        live.nth(chosen).map(|(session, _)| session)
    }

    fn write(&mut self, side: usize, is_due: bool) {
        let (is_other, truth) = (self.random.u8(..6) == 0, &mut self.truth);
        if side == CLIENT {
            match std::mem::replace(&mut self.client.phase, Phase::Down) {
                Phase::Up(mut link) => {
                    link.hinder(&mut self.random);
                    link.write(is_due, is_other && !self.is_calm, truth);
                    self.client.program.hear(truth);
                    self.client_heard(link);
                }
                phase => self.client.phase = phase,
            }
        } else if let Some(session) = self.live_session() {
            let Some(mut link) = self.sessions[session].link.take() else { return };
            link.hinder(&mut self.random);
            link.write(is_due, is_other && !self.is_calm, &mut self.truth);
            self.sessions[session].program.hear(&mut self.truth);
            self.server_heard(session, link);
        }
    }

    fn step(&mut self) {
        if matches!(self.client.phase, Phase::Down) && self.random.u8(..8) == 0 {
            return self.dial();
        }
        let side = self.random.usize(..2);
        match self.random.u8(..64) {
            0..9 => self.send(side),
            9..24 => {
                let is_due = self.random.u8(..4) == 0;
                self.write(side, is_due);
            }
            24..40 => {
                let most = self.random.usize(1..120);
                self.read(side, most);
            }
            40..48 => {
                let index = match self.random.bool() {
                    true => self.random.usize(..self.conns.len().max(1)),
                    false => self.conns.len().saturating_sub(1),
                };
                let most = self.random.usize(1..120);
                self.server_reads(index, most);
            }
            // gives up
            48 if self.random.bool() => self.dial(),
            49..51 => self.send(side),
            51..53 => self.cut(),
            53 => self.repeat(),
            54 => self.notice(),
            55..57 => self.withdraw(side),
            57..59 => self.pass_time(side),
            59..61 => self.beat(side),
            61 => self.leave(),
            62 if self.rules.ends && self.random.u8(..4) == 0 => self.end(side),
            63 if self.rules.forgets && self.random.u8(..3) == 0 => {
                let session = self.random.usize(..self.sessions.len().max(1));
                if session < self.sessions.len() {
                    self.forget(session);
                }
            }
            _ => {}
        }
        self.conns.retain(|conn| !matches!(conn.state, ConnState::Gone));
    }

    fn send(&mut self, side: usize) {
        if side == CLIENT {
            return self.client.program.send(&mut self.random, &mut self.truth);
        }
        if let Some(session) = self.live_session() {
            self.sessions[session].program.send(&mut self.random, &mut self.truth);
        }
    }

    fn read(&mut self, side: usize, most: usize) {
        if side == CLIENT {
            return self.client_reads(most);
        }
        if let Some(session) = self.live_session() {
            self.session_reads(session, most);
        }
    }

    /// The server notices first that a link is lost.
    fn notice(&mut self) {
        let Some(session) = self.live_session() else { return };
        if let Some(link) = self.sessions[session].link.take() {
            self.server_lost(session, link);
        }
    }

    fn withdraw(&mut self, side: usize) {
        let session = self.live_session();
        let program = match (side, session) {
            (CLIENT, _) => &mut self.client.program,
            (_, Some(session)) => &mut self.sessions[session].program,
            _ => return,
        };
        program.withdraw(&mut self.random, &mut self.truth);
        program.hear(&mut self.truth);
    }

    fn pass_time(&mut self, side: usize) {
        let session = self.live_session();
        let program = match (side, session) {
            (CLIENT, _) => &self.client.program,
            (_, Some(session)) => &self.sessions[session].program,
            _ => return,
        };
        program.outbox().pass_time(MOMENT);
        if self.rules.has(Error::DoubtfulExpires) {
            program.outbox().expire_kept();
        }
        program.hear(&mut self.truth);
    }

    /// A beat, its answer, or a ping.
    fn beat(&mut self, side: usize) {
        let session = self.live_session();
        let link = match (side, session, &mut self.client.phase) {
            (CLIENT, _, Phase::Up(link)) => link,
            (SERVER, Some(session), _) => match &mut self.sessions[session].link {
                Some(link) => link,
                None => return,
            },
            _ => return,
        };
        match self.random.u8(..3) {
            0 => link.shared.control.ping(),
            1 => link.shared.control.report(),
            _ => {
                let name = self.truth.begin(side, None, true);
                link.shared.control.reply(Message::from(name.to_string()));
            }
        }
    }

    /// The client's program wants another link: the present one is closed, the session is not.
    fn leave(&mut self) {
        if let Phase::Up(link) = &mut self.client.phase {
            link.shared.close(CloseRequest::urgent(Some(CloseFrame::new(CloseCode::NORMAL, ""))));
            link.write(false, false, &mut self.truth);
            self.client.program.hear(&mut self.truth);
            self.dial();
        }
    }

    /// A program ends its session.
    fn end(&mut self, side: usize) {
        self.truth.show(|| format!("{side} ends"));
        if side == CLIENT {
            let program = &mut self.client.program;
            program.is_closing = true;
            program.outbox().shut();
            if let Phase::Up(link) = &self.client.phase {
                let frame = CloseFrame::new(CloseCode::NORMAL, "");
                link.shared.close(CloseRequest::after_data(frame));
            }
            return;
        }
        let Some(session) = self.live_session() else { return };
        let ServerSession { program, link, .. } = &mut self.sessions[session];
        program.is_closing = true;
        program.outbox().shut();
        if let Some(link) = link {
            let frame = CloseFrame::new(CloseCode(4000), "");
            link.shared.close(CloseRequest::after_data(frame));
        }
    }

    /// Whether nothing is under way any more.
    fn is_settled(&self) -> bool {
        let is_done = |program: &Program| program.outbox().tally().waiting == 0;
        match &self.client.phase {
            Phase::Over => {
                let is_linked = |it: &ServerSession| it.link.is_some();
                !self.sessions.iter().any(is_linked)
            }
            Phase::Up(link) => {
                let token = self.client.held.as_ref().map(|held| &held.token);
                let session = self.sessions.iter().find(|it| Some(&it.token) == token);
                !self.client.program.is_closing
                    && is_done(&self.client.program)
                    && session.is_some_and(|session| {
                        let is_one = |other: &LinkEnd| other.line == link.line;
                        session.link.as_deref().is_some_and(is_one)
                            && !session.program.is_closing
                            && is_done(&session.program)
                    })
            }
            _ => false,
        }
    }

    /// The server finds the end of connections that the client has given up.
    fn end_old_lines(&self) {
        let current = match &self.client.phase {
            Phase::Offered(attempt) => Some(attempt.line),
            Phase::Up(link) => Some(link.line),
            _ => None,
        };
        let conns = self.conns.iter().map(|conn| (conn.line, &conn.reading));
        let links = self.sessions.iter().filter_map(|it| it.link.as_deref());
        for (line, reading) in conns.chain(links.map(|link| (link.line, link.reading()))) {
            if Some(line) != current {
                reading.pipe.end();
            }
        }
    }

    /// Nothing goes wrong any more, until everything has arrived.
    fn settle(&mut self) {
        self.is_calm = true;
        self.truth.show(|| "calm".into());
        for round in 0..200 {
            if self.is_settled() || self.truth.fault.is_some() {
                break;
            }
            self.end_old_lines();
            let is_down = matches!(self.client.phase, Phase::Down);
            // no answer: the time for that is over
            if is_down || round % 30 == 29 && matches!(self.client.phase, Phase::Offered(_)) {
                self.dial();
            }
            for index in (0..self.conns.len()).rev() {
                (0..3).for_each(|_| self.server_reads(index, usize::MAX));
            }
            self.conns.retain(|conn| !matches!(conn.state, ConnState::Gone));
            for session in 0..self.sessions.len() {
                if let Some(mut link) = self.sessions[session].link.take() {
                    link.write(true, false, &mut self.truth);
                    self.sessions[session].program.hear(&mut self.truth);
                    self.server_heard(session, link);
                    (0..3).for_each(|_| self.session_reads(session, usize::MAX));
                }
            }
            self.write(CLIENT, true);
            (0..3).for_each(|_| self.client_reads(usize::MAX));
        }
        let is_settled = self.is_settled();
        // those whose client has answered their end, and does not know that this was not heard
        let current = self.client.held.as_ref().map(|held| held.session);
        (0..self.sessions.len()).filter(|it| Some(*it) != current).for_each(|it| self.forget(it));
        self.truth.check(is_settled, || "it does not come to an end".into());
        self.truth.settle();
    }
}

impl World {
    fn run(&mut self) {
        for _ in 0..self.random.u32(20..400) {
            self.step();
            if self.truth.fault.is_some() {
                break;
            }
        }
        self.settle();
    }
}

fn tokens() -> Arc<[Token]> {
    (0..500).map(|_| Token::generate().unwrap()).collect()
}

/// Runs so many schedules, or until one goes wrong; returns that, and how much happened.
fn run(seeds: u64, planted: Option<Error>) -> (Option<(u64, String)>, Sums) {
    let (tokens, next) = (&tokens(), &AtomicU64::new(0));
    let run = move || {
        let mut sums = Sums::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds {
                return (None, sums);
            }
            let mut world = World::new(seed, planted, tokens);
            world.run();
            sums.iter_mut().zip(world.truth.sums).for_each(|(sum, count)| *sum += count);
            if let Some(fault) = world.truth.fault {
                next.store(seeds, Relaxed);
                return (Some((seed, fault)), sums);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let (mut first, mut sums) = (None, Sums::default());
        for thread in threads {
            let (fault, counts): (Option<(u64, String)>, Sums) = thread.join().unwrap();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            first = first.into_iter().chain(fault).min();
        }
        (first, sums)
    })
}

/// `EVERLINK_SEEDS` says how many schedules there are; the full check has ten times as many.
#[test]
fn nothing_is_lost_doubled_or_moved_wherever_it_is_cut() {
    let seeds = std::env::var("EVERLINK_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = seeds.unwrap_or(10_000);
    let (fault, sums) = run(seeds, None);
    println!("{seeds} schedules: {sums:?}");
    assert_eq!(fault, None);
    // so that this cannot become a test of nothing
    for (what, least) in [
        (Seen::Received, 8.0),
        (Seen::Link, 2.5),
        (Seen::Resumption, 1.5),
        (Seen::Again, 2.0),
        (Seen::Empty, 0.3),
        (Seen::Doubt, 0.1),
        (Seen::LateClaim, 0.6),
        (Seen::End, 0.2),
        (Seen::CrossedEnd, 0.05),
    ] {
        let each = sums[what as usize] as f64 / seeds as f64;
        assert!(each >= least, "{what:?}: {each} times in each schedule");
    }
}

#[test]
fn each_error_that_is_planted_is_found() {
    for (error, seeds) in ERRORS {
        let (fault, _) = run(*seeds, Some(*error));
        println!("{error:?}: {fault:?}");
        assert!(fault.is_some(), "{error:?} is not found in {seeds} schedules");
    }
}

/// Prints the course of the schedule that `EVERLINK_SEED` names.
#[test]
fn one_schedule() {
    let seed = std::env::var("EVERLINK_SEED").ok().and_then(|seed| seed.parse().ok());
    let Some(seed) = seed else { return };
    let mut world = World::new(seed, None, &tokens());
    world.truth.is_shown = true;
    println!("{:?} {:?}", world.rules, world.protocols[CLIENT]);
    world.run();
    assert_eq!(world.truth.fault, None);
}
