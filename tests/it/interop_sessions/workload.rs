//! tests/interop/sessions/WORKLOAD.md, for the ends in Rust.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use everlink::{Error, Message, Sender};

use crate::support::{PATIENCE, ms};

const LARGEST: usize = 300 << 10;

/// Which end sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Client,
    Server,
}

impl From {
    fn letter(self) -> char {
        match self {
            Self::Client => 'c',
            Self::Server => 's',
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What both ends send to each other.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// So many messages each.
    pub count: u64,
    pub seed: u64,
    /// Whether texts stay texts on the way.
    pub keeps_kinds: bool,
}

/// What has come of it at one end.
#[derive(Debug, Default)]
pub struct Received {
    pub count: u64,
    pub lost: u64,
    pub twice: u64,
    pub fault: Option<String>,
}

impl Workload {
    /// Nothing takes longer.
    pub fn patience(self) -> Duration {
        PATIENCE + ms(self.count * 20)
    }

    /// Sends and receives everything, until all of it is confirmed. `wait` is called before the last message is
    /// sent, without which the other end does not end the session.
    ///
    /// # Errors
    ///
    /// Whatever ended the session before.
    pub fn exchange(
        self,
        end: From,
        sender: &Sender,
        wait: impl FnOnce() + Send,
        mut recv: impl FnMut() -> Result<Message, Error>,
    ) -> Result<Received, Error> {
        let mut received = Received::default();
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut messages = self.messages(end);
                let send = |message| {
                    sender.send_timeout(message, self.patience()).map_err(|sent| sent.error)
                };
                messages.by_ref().take(self.count as usize - 1).try_for_each(send)?;
                wait();
                messages.try_for_each(send)
            });
            while received.count < self.count {
                received.take(&recv()?, end.other(), self.keeps_kinds);
            }
            sending.join().expect("nothing panics")
        })?;
        sender.flush(self.patience())?;
        Ok(received)
    }

    fn messages(self, from: From) -> impl Iterator<Item = Message> {
        let mut random = fastrand::Rng::with_seed(self.seed * 2 + u64::from(from == From::Client));
        (1..=self.count).map(move |index| {
            let sizes: Range<usize> = match random.u8(..100) {
                0 => 0..LARGEST,
                1..10 => 0..8192,
                _ => 0..200,
            };
            message(index, random.usize(sizes), from)
        })
    }
}

fn message(index: u64, size: usize, from: From) -> Message {
    let words = |size: usize| format!("{index} {size} {} ", from.letter());
    let mut size = size;
    while size < words(size).len() {
        size = words(size).len();
    }
    let mut text = String::new();
    if index % 97 != 0 {
        text = words(size);
        let first = (index % 26) as u8;
        let letters = (0..26).cycle().map(|place| char::from(b'a' + (first + place) % 26));
        text.extend(letters.take(size - text.len()));
    }
    if index % 3 == 0 { text.into_bytes().into() } else { text.into() }
}

impl Received {
    pub fn is_exact(&self, work: Workload) -> bool {
        self.fault.is_none() && [self.count, self.lost, self.twice] == [work.count, 0, 0]
    }

    fn take(&mut self, message: &Message, from: From, keeps_kinds: bool) {
        let index = self.count + 1;
        let text = String::from_utf8_lossy(message.as_bytes());
        let mut words = text.split(' ').map_while(|word| word.parse().ok());
        // an empty one has no words
        let was = words.next().unwrap_or(index);
        let size = words.next().unwrap_or(0);
        self.twice += u64::from(was < index);
        self.lost += was.saturating_sub(index);
        self.count = index.max(was);
        let expected = self::message(index, usize::try_from(size).unwrap_or(0), from);
        let is_right = match keeps_kinds {
            true => *message == expected,
            false => message.as_bytes() == expected.as_bytes(),
        };
        if !is_right && self.fault.is_none() {
            let begin: String = text.chars().take(40).collect();
            let length = message.as_bytes().len();
            self.fault = Some(format!("for message {index} came {begin:?}, {length} bytes"));
        }
    }
}
