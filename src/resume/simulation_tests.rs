//! Both ends of a session over a network that is not there: outboxes, counts and decisions are the
//! real ones, and everything between them happens in any order and is cut at any place.

use std::collections::VecDeque;

use super::*;
use crate::message::Message;
use crate::policy::{Delivery, Overflow, Queue, Unconfirmed};
use crate::queues::Entry;
use crate::queues::outbox::Outbox;
use crate::queues::terms::{Terms, WaitFor};

/// How many schedules; each has some two hundred steps.
const SCHEDULES: u64 = 100_000;

const ROOM: usize = 4;
const LIMITS: Unconfirmed = Unconfirmed { messages: 3, bytes: 1000 };

#[derive(Debug, Clone)]
enum Frame {
    Data(Message),
    /// A message that belongs to the link: it counts, and is no message of the program's.
    Beat,
    Report(Report),
    Ping,
}

/// A connection: two ways, and whether it is cut.
#[derive(Debug, Default)]
struct Line {
    to: [VecDeque<Frame>; 2],
    is_cut: bool,
}

/// One end, 0 the client and 1 the server.
struct End {
    outbox: Outbox,
    counts: Counts,
    /// The number of the line that this end uses.
    line: Option<usize>,
    /// What was encoded and is not accounted for yet.
    encoded: VecDeque<Entry>,
    reported: Option<u64>,
    sent: u32,
    received: Vec<u32>,
}

impl End {
    fn new(overflow: Overflow) -> Self {
        let limits = Queue::new().messages(ROOM).overflow(overflow);
        let outbox = Outbox::new(limits, usize::MAX, None, Delivery::AtMostOnce, true);
        outbox.begin_session(LIMITS, Vec::new());
        let counts = Counts::default();
        let (encoded, received) = (VecDeque::new(), Vec::new());
        Self { outbox, counts, line: None, encoded, reported: None, sent: 0, received }
    }

    fn send(&mut self) {
        let message = Message::from(self.sent.to_string());
        if self.outbox.push(message, Terms::default(), WaitFor::Nothing).is_ok() {
            self.sent += 1;
        }
    }

    /// The link has ended, and is joined.
    fn join(&mut self) {
        if self.line.take().is_some() {
            self.outbox.restore_begun(&mut self.encoded);
            self.outbox.detached();
        }
    }
}

struct World {
    random: fastrand::Rng,
    ends: [End; 2],
    lines: Vec<Line>,
    token: Token,
    /// Nothing is cut any more.
    is_calm: bool,
}

impl World {
    fn new(seed: u64, token: &Token, overflow: Overflow) -> Self {
        let ends = [End::new(overflow), End::new(Overflow::Fail)];
        let random = fastrand::Rng::with_seed(seed);
        Self { random, ends, lines: Vec::new(), token: token.clone(), is_calm: false }
    }

    fn put(&mut self, from: usize, frame: Frame) {
        if let Some(number) = self.ends[from].line {
            let line = &mut self.lines[number];
            if !line.is_cut {
                line.to[1 - from].push_back(frame);
            }
        }
    }

    fn report(&mut self, from: usize) {
        let received = self.ends[from].counts.received();
        if self.ends[from].reported.replace(received) != Some(received) {
            self.put(from, Frame::Report(Report(received)));
        }
    }

    /// The writer's turn.
    fn write(&mut self, from: usize) {
        let end = &mut self.ends[from];
        if end.line.is_none() {
            return;
        }
        let mut batch = VecDeque::new();
        end.outbox.take(&mut batch, self.random.usize(1..120));
        while let Some(mut entry) = batch.pop_front() {
            if self.random.u8(..8) == 0 {
                self.ends[from].counts.send();
                self.put(from, Frame::Beat);
            }
            let message = entry.message.clone();
            entry.position = self.ends[from].counts.send();
            self.ends[from].encoded.push_back(entry);
            // or only half of it goes out, before the link dies
            if self.is_calm || self.random.u8(..16) > 0 {
                self.put(from, Frame::Data(message));
            } else if let Some(number) = self.ends[from].line {
                self.cut(number);
            }
            if self.random.u8(..32) == 0 {
                self.ends[from].outbox.restore(&mut batch);
                break;
            }
        }
        if self.random.bool() {
            self.put(from, Frame::Ping);
        }
    }

    /// The writer's bookkeeping, which may be later than the answer.
    fn account(&mut self, from: usize) {
        let end = &mut self.ends[from];
        let count = self.random.usize(..=end.encoded.len());
        end.outbox.written(end.encoded.drain(..count));
    }

    /// The reader's turn.
    fn read(&mut self, to: usize) {
        let Some(number) = self.ends[to].line else { return };
        let line = &mut self.lines[number];
        match line.to[to].pop_front() {
            None if line.is_cut => self.ends[to].join(),
            None => {}
            Some(Frame::Beat) => self.ends[to].counts.receive(),
            Some(Frame::Data(message)) => {
                let end = &mut self.ends[to];
                end.counts.receive();
                end.received.push(message.as_text().unwrap().parse().unwrap());
            }
            Some(Frame::Ping) => self.report(to),
            Some(Frame::Report(Report(received))) => {
                assert!(self.ends[to].counts.report(received), "more than was sent");
                self.ends[to].outbox.confirmed(received);
            }
        }
    }

    /// Of what is on its way a part still arrives.
    fn cut(&mut self, number: usize) {
        let line = &mut self.lines[number];
        line.is_cut = true;
        for way in &mut line.to {
            way.truncate(self.random.usize(..=way.len()));
        }
    }

    /// The client dials; the server may still believe in an old link, and its answer may be lost.
    fn dial(&mut self, may_fail: bool) {
        let [client, server] = &mut self.ends;
        if client.line.is_some() {
            return;
        }
        let offer = Offer::Resume { token: self.token.clone(), received: client.counts.received() };
        if may_fail && self.random.u8(..8) == 0 {
            return;
        }
        let Offer::Resume { received, .. } = offer else { unreachable!() };
        assert!(admits(&server.counts, received), "an honest client is let in");
        server.join();
        let answer = Answer {
            token: self.token.clone(),
            window: 1,
            received: Some(server.counts.received()),
        };
        server.counts.resume(received);
        server.outbox.resumed(received);
        self.lines.push(Line::default());
        let number = self.lines.len() - 1;
        (server.line, server.reported) = (Some(number), None);
        if may_fail && self.random.u8(..3) == 0 {
            self.cut(number);
            return;
        }
        let [client, _] = &mut self.ends;
        let verdict = judge(&offer, Some(&answer), Some(&client.counts));
        let Verdict::Resumed(has) = verdict else { panic!("{verdict:?}") };
        client.counts.resume(has);
        client.outbox.resumed(has);
        (client.line, client.reported) = (Some(number), None);
        self.report(0);
    }

    fn step(&mut self) {
        let end = self.random.usize(..2);
        match self.random.u8(..12) {
            0..2 => self.ends[end].send(),
            2..5 => self.write(end),
            5..7 => self.account(end),
            7..10 => self.read(end),
            10 => self.dial(true),
            _ => {
                if let Some(number) = self.ends[end].line.filter(|_| self.random.bool()) {
                    self.cut(number);
                    // noticed at once, or when there is nothing more to read
                    if self.random.bool() {
                        self.ends[end].join();
                    }
                }
            }
        }
        for end in &self.ends {
            let kept = end.outbox.tally().waiting;
            assert!(kept <= 2 * (ROOM + LIMITS.messages), "{kept} messages are kept");
        }
    }

    /// Nothing goes wrong any more, until everything has arrived.
    fn settle(&mut self) {
        self.is_calm = true;
        for _ in 0..60 {
            self.dial(false);
            for end in 0..2 {
                self.write(end);
                self.account(end);
                self.put(end, Frame::Ping);
                for _ in 0..8 {
                    self.read(0);
                    self.read(1);
                }
            }
        }
    }
}

fn run(seed: u64, token: &Token, overflow: Overflow) -> (World, [u64; 2]) {
    let mut world = World::new(seed, token, overflow);
    for _ in 0..world.random.u32(20..300) {
        world.step();
    }
    world.settle();
    let dropped = [0, 1].map(|end: usize| world.ends[end].outbox.tally().dropped);
    (world, dropped)
}

#[test]
fn nothing_is_lost_doubled_or_moved_wherever_it_is_cut() {
    let token = Token::generate().unwrap();
    let (mut messages, mut links) = (0, 0);
    for seed in 0..SCHEDULES {
        let (world, _) = run(seed, &token, Overflow::Fail);
        for end in 0..2 {
            let expected: Vec<u32> = (0..world.ends[end].sent).collect();
            assert_eq!(world.ends[1 - end].received, expected, "schedule {seed}, from {end}");
            assert_eq!(world.ends[end].outbox.tally().waiting, 0, "schedule {seed}");
            messages += expected.len();
        }
        links += world.lines.len();
    }
    // so that this cannot become a test of nothing
    assert!(messages > 10 * SCHEDULES as usize && links > 3 * SCHEDULES as usize);
}

#[test]
fn what_the_policy_drops_takes_no_neighbour_along() {
    let token = Token::generate().unwrap();
    let mut all_dropped = 0;
    for seed in 0..SCHEDULES / 10 {
        let (world, [dropped, _]) = run(seed, &token, Overflow::DropOldest);
        let received = &world.ends[1].received;
        assert!(received.is_sorted_by(|a, b| a < b), "schedule {seed}: {received:?}");
        assert_eq!(received.len() as u64 + dropped, u64::from(world.ends[0].sent), "{seed}");
        all_dropped += dropped;
    }
    assert!(all_dropped > SCHEDULES / 10);
}
