//! What one end sends, and what the other makes of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everlink::config::SendOptions;
use everlink::failure::Undelivered;
use everlink::{Error, Message, SendError, Sender};

use crate::{PATIENCE, Result};

/// The message with this number: some are short, some are long.
fn message(number: u64) -> Message {
    let length = match number % 50 {
        0 => 2000,
        other => other as usize,
    };
    format!("{number} {}", "0123456789".repeat(length / 10)).into()
}

/// One that is for a link only, the first of them with number 1.
fn aside(number: u64) -> Message {
    format!("aside {number}").into()
}

/// Sends so many messages. One in ten may expire, and one in a hundred comes with one that no session counts.
pub fn send_all(sender: &Sender, count: u64) -> Result<()> {
    const LIVES: [u64; 4] = [2, 20, 200, 1000];
    for number in 0..count - 1 {
        if number % 100 == 50 {
            match sender.send_with(aside(number / 100 + 1), SendOptions::new().this_link_only()) {
                Ok(()) | Err(SendError { error: Error::NotConnected, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let life = LIVES[(number / 10 % 4) as usize];
        let options = match number % 10 {
            5 => SendOptions::new().ttl(Duration::from_millis(life)),
            _ => SendOptions::new(),
        };
        sender.send_with(message(number), options)?;
    }
    // it says that of all before it something is known
    sender.send_confirmed(message(count - 1))?.wait(PATIENCE)?;
    Ok(())
}

/// The numbers of which an end was told that they have expired.
#[derive(Debug, Clone, Default)]
pub struct Expired(Arc<Mutex<Vec<u64>>>);

impl Expired {
    /// What is for a link only ends with it; all else has expired, and nothing is said to be in doubt.
    pub fn note(&self, message: &Message, why: Undelivered) {
        let text = String::from_utf8_lossy(message.as_bytes());
        match (text.strip_prefix("aside"), why) {
            (Some(_), Undelivered::LinkEnded) => {}
            (None, Undelivered::Expired) => self.push(number_of(&text)),
            _ => {
                eprintln!("torture: {text:.20} was {why}");
                self.push(None);
            }
        }
    }

    fn push(&self, number: Option<u64>) {
        // a number that was never sent
        let number = number.unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }

    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn number_of(text: &str) -> Option<u64> {
    text.split(' ').next()?.parse().ok()
}

/// What has come from the other end.
#[derive(Debug, Default)]
pub struct Row {
    pub received: u64,
    /// How many came again, or out of order.
    pub twice: u64,
    /// How many came that were for a link only.
    pub asides: u64,
    /// What did not come.
    pub missing: Vec<u64>,
    next: u64,
    next_aside: u64,
}

impl Row {
    /// What a process says that it has received.
    pub fn whole([received, twice, asides]: [u64; 3], missing: Vec<u64>) -> Self {
        Self { received, twice, asides, missing, ..Self::default() }
    }

    pub fn take(&mut self, message: &Message) -> Result<()> {
        let text = std::str::from_utf8(message.as_bytes())?;
        if let Some(number) = text.strip_prefix("aside ") {
            let number: u64 = number.parse()?;
            self.twice += u64::from(number < self.next_aside);
            self.asides += 1;
            self.next_aside = number + 1;
            return Ok(());
        }
        let number = number_of(text).ok_or("a message without a number")?;
        if message.as_bytes() != self::message(number).as_bytes() {
            return Err(format!("message {number} has changed").into());
        }
        if number < self.next {
            self.twice += 1;
            return Ok(());
        }
        self.received += 1;
        self.missing.extend(self.next..number);
        self.next = number + 1;
        Ok(())
    }

    pub fn fill(&mut self, count: u64, mut next: impl FnMut() -> Result<Message>) -> Result<()> {
        while self.next < count {
            self.take(&next()?)?;
        }
        Ok(())
    }

    /// How many are missing that have not expired, or have come although they have.
    pub fn lost(&self, mut expired: Vec<u64>) -> u64 {
        expired.sort_unstable();
        let unexplained = self.missing.iter().filter(|it| expired.binary_search(it).is_err());
        let came = expired.iter().filter(|it| self.missing.binary_search(it).is_err());
        (unexplained.count() + came.count()) as u64
    }
}
