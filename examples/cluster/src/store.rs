//! Redis: the stream of what was said, and which message of each user was stored last.

use std::thread;
use std::time::Duration;

use crossbeam_channel::Receiver;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{Commands, Connection, RedisResult};

use crate::wire::{Position, Tell};

const STREAM: &str = "chat:stream";

/// About so many entries are kept: a client that was away for longer is told of a gap.
const KEPT: usize = 100_000;

/// How long the last number of a user is known.
const SEQ_SECONDS: usize = 24 * 3600;

/// How many entries are read at once.
const PAGE: usize = 500;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read waits for something new before it asks again: an answer proves that Redis lives.
const BLOCK: Duration = Duration::from_secs(2);

/// Between two attempts to reach Redis.
const PAUSE: Duration = Duration::from_millis(200);

/// Stores a message unless it was stored before, in one step that nothing comes between: a client
/// that does not know what became of a message may send it again, to any node.
const STORE: &str = r"
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local seq = tonumber(ARGV[2])
if seq <= last then return 0 end
if seq > last + 1 then return -1 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'from', ARGV[1], 'seq', ARGV[2], 'text', ARGV[3])
redis.call('SET', KEYS[2], seq, 'EX', ARGV[5])
return 1
";

/// A message on its way into the stream.
#[derive(Debug)]
pub struct Draft {
    pub user: String,
    pub seq: u64,
    pub text: String,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Now,
    Before,
    /// One before it is missing.
    Gap,
}

/// A connection that is made anew when it fails.
pub struct Store {
    client: redis::Client,
    connection: Option<Connection>,
    stopped: Receiver<()>,
}

impl Store {
    /// `stopped` disconnects when there is no use in trying again.
    pub fn new(url: &str, stopped: Receiver<()>) -> RedisResult<Self> {
        Ok(Self { client: redis::Client::open(url)?, connection: None, stopped })
    }

    fn connection(&mut self) -> RedisResult<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = self.client.get_connection_with_timeout(TIMEOUT)?;
                connection.set_read_timeout(Some(TIMEOUT))?;
                connection.set_write_timeout(Some(TIMEOUT))?;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Does this until it succeeds; `None` if the process is to end. Whatever is done has to be
    /// the same if it is done twice.
    pub fn persist<T>(&mut self, act: impl Fn(&mut Connection) -> RedisResult<T>) -> Option<T> {
        loop {
            match self.connection().and_then(&act) {
                Ok(done) => return Some(done),
                Err(error) => {
                    log::warn!("redis: {error}");
                    self.connection = None;
                }
            }
            if self.stopped.recv_timeout(PAUSE)
                == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
            {
                return None;
            }
        }
    }

    /// Once; a failed connection is given up.
    pub fn attempt<T>(
        &mut self,
        act: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let result = self.connection().and_then(act);
        if result.is_err() {
            self.connection = None;
        }
        result
    }
}

/// Stores messages in this order, all in one round trip.
pub fn store(connection: &mut Connection, drafts: &[Draft]) -> RedisResult<Vec<Stored>> {
    let mut pipeline = redis::pipe();
    for draft in drafts {
        pipeline
            .cmd("EVAL")
            .arg(STORE)
            .arg(2)
            .arg(STREAM)
            .arg(format!("chat:seq:{}", draft.user))
            .arg(&draft.user)
            .arg(draft.seq)
            .arg(&draft.text)
            .arg(KEPT)
            .arg(SEQ_SECONDS);
    }
    let results: Vec<i64> = pipeline.query(connection)?;
    let results = results.into_iter().map(|result| match result {
        1 => Stored::Now,
        0 => Stored::Before,
        _ => Stored::Gap,
    });
    Ok(results.collect())
}

/// An entry as clients are told of it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Position,
    pub json: String,
}

/// What no client could be told of is left out.
fn entry(id: &StreamId) -> Option<Entry> {
    let at: Position = id.id.parse().ok()?;
    let (from, text) = (id.get("from")?, id.get("text")?);
    let json = Tell::Said { at, from, seq: id.get("seq")?, text }.to_json();
    Some(Entry { at, json })
}

/// The next entries after this place; none if there are no more.
pub fn after(connection: &mut Connection, place: Position) -> RedisResult<Vec<Entry>> {
    let (from, to) = (format!("({place}"), "+");
    let reply: StreamRangeReply = connection.xrange_count(STREAM, from, to, PAGE)?;
    Ok(reply.ids.iter().filter_map(entry).collect())
}

/// The place of the first entry that is kept, and of the last.
pub fn ends(connection: &mut Connection) -> RedisResult<(Position, Position)> {
    let first: StreamRangeReply = connection.xrange_count(STREAM, "-", "+", 1)?;
    let last: StreamRangeReply = connection.xrevrange_count(STREAM, "+", "-", 1)?;
    let place = |reply: &StreamRangeReply| {
        reply.ids.first().and_then(|id| id.id.parse().ok()).unwrap_or_default()
    };
    Ok((place(&first), place(&last)))
}

/// Waits for entries after this place; none if nothing came for a while.
pub fn wait_after(connection: &mut Connection, place: Position) -> RedisResult<Vec<Entry>> {
    let reply: Option<StreamReadReply> = redis::cmd("XREAD")
        .arg("COUNT")
        .arg(PAGE)
        .arg("BLOCK")
        .arg(BLOCK.as_millis() as u64)
        .arg("STREAMS")
        .arg(STREAM)
        .arg(place.to_string())
        .query(connection)?;
    let ids = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
    Ok(ids.filter_map(|id| entry(&id)).collect())
}

/// A thread with a name.
pub fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}
