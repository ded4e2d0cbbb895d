//! Log records for what somebody outside can bring about as often as he likes.

use std::time::{Duration, Instant};

use log::Level;

use super::Mutex;

/// The least time between two records of one matter.
const PAUSE: Duration = Duration::from_secs(1);

/// Says each matter at most once a second, with how often it was since it was said last: a flood of
/// strangers must not become a flood of records. What was not said yet is said with the next call that
/// comes when it is time.
#[derive(Debug)]
pub(crate) struct Repeats(Mutex<Vec<Matter>>);

#[derive(Debug)]
struct Matter {
    level: Level,
    /// What is counted together: the word for it, and what tells it from others of that word.
    event: &'static str,
    what: &'static str,
    /// When it was said last.
    said: Instant,
    /// How often it was since then, and the last of these.
    count: u64,
    last: String,
}

impl Repeats {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// It has happened: `line` says it. `owner` is the name of what it has happened to.
    pub(crate) fn say(
        &self,
        owner: &str,
        level: Level,
        (event, what): (&'static str, &'static str),
        line: String,
    ) {
        let now = Instant::now();
        let mut matters = self.0.lock();
        let known = matters.iter_mut().find(|known| (known.event, known.what) == (event, what));
        match known {
            Some(matter) => {
                matter.count += 1;
                (matter.level, matter.last) = (level, line);
            }
            None => {
                let said = now.checked_sub(PAUSE).unwrap_or(now);
                matters.push(Matter { level, event, what, said, count: 1, last: line });
            }
        }
        drop(matters);
        self.catch_up(owner, now, PAUSE);
    }

    /// Says what it is time for, and has not been said.
    pub(crate) fn say_due(&self, owner: &str) {
        self.catch_up(owner, Instant::now(), PAUSE);
    }

    /// Says all that has not been said.
    pub(crate) fn say_rest(&self, owner: &str) {
        self.catch_up(owner, Instant::now(), Duration::ZERO);
    }

    fn catch_up(&self, owner: &str, now: Instant, pause: Duration) {
        let due = |matter: &&mut Matter| {
            matter.count > 0 && now.saturating_duration_since(matter.said) >= pause
        };
        let take = |matter: &mut Matter| {
            let since = now.saturating_duration_since(matter.said);
            matter.said = now;
            let count = std::mem::take(&mut matter.count);
            (matter.level, matter.event, count, since, std::mem::take(&mut matter.last))
        };
        // a logger is code of the program: it is called without the lock
        let records: Vec<_> = self.0.lock().iter_mut().filter(due).map(take).collect();
        for (level, event, count, since, last) in records {
            if count == 1 {
                log::log!(level, server = owner, event, count; "{owner}: {last}");
            } else {
                log::log!(
                    level, server = owner, event, count;
                    "{owner}: {last} (and {} more like it in {since:.1?})", count - 1
                );
            }
        }
    }
}
