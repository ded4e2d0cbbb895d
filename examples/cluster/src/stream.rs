//! The stream of what was said, and which message of each client was stored last.
//!
//! **Places.** A place is the id of an entry that is there. As long as the entry at a place is kept,
//! so is every one after it, for a stream is shortened at its beginning only. When it is not, something
//! may be missing: the stream was shortened behind the place, or Redis has lost it, and begins again.
//! Whoever reads on from a place therefore looks for its entry in the same step. A stream is never
//! empty: it begins with an entry that is no message, so that also the first reader has a place.

use redis::streams::{StreamId, StreamRangeReply};
use redis::{Connection, RedisResult, Value};
use std::time::Duration;

use crate::wire::{Position, TELL_MOST, Tell};

const STREAM: &str = "chat:stream";

/// About so many entries are kept: a client that was away for longer is told of a gap.
const KEPT: usize = 100_000;

/// How long the last number of a client is known. A client that is silent for longer says it itself.
const SEQ_SECONDS: usize = 24 * 3600;

/// How many entries are read at once, and how many bytes of them are told: a client that reads slowly is a page
/// behind for as long as it takes.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 256 * 1024;

/// How long a read waits for something new before it asks again: an answer proves that Redis lives.
const BLOCK: Duration = Duration::from_secs(2);

/// Stores a message unless it was stored before, in one step that nothing comes between: a client
/// that does not know what became of a message may send it again, to any node.
const STORE: &str = r"
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local seq = tonumber(ARGV[3])
if seq <= last then return 0 end
if seq > last + 1 then return -1 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*',
    'from', ARGV[1], 'client', redis.sha1hex(ARGV[2]), 'seq', ARGV[3], 'text', ARGV[4])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[6])
return 1
";

/// What a client knows to be stored, Redis knows again if it had forgotten. Returns what the client is
/// called: all hear that, and it does not tell them the secret that its numbers belong to.
const REMIND: &str = r"
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) > last then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return redis.sha1hex(ARGV[3])
";

/// The id of the last entry.
const LAST: &str = r"
if redis.call('XLEN', KEYS[1]) == 0 then return redis.call('XADD', KEYS[1], '*', 'begin', '1') end
return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]
";

/// The entry at a place and what follows; or, if it is not there, a 0 and the beginning.
const READ: &str = r"
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
if entries[1] and entries[1][1] == ARGV[1] then return {1, entries} end
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('XADD', KEYS[1], '*', 'begin', '1') end
return {0, redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2])}
";

/// A message on its way into the stream.
#[derive(Debug)]
pub struct Draft {
    pub user: String,
    pub secret: String,
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

/// Numbers belong to one client of a user. The secret has no colon (`Ask::Hello`).
fn key(user: &str, secret: &str) -> String {
    format!("chat:seq:{secret}:{user}")
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
            .arg(key(&draft.user, &draft.secret))
            .arg(&draft.user)
            .arg(&draft.secret)
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

/// Lets Redis know up to which message this client knows to be stored; returns what it is called.
pub fn remind(
    connection: &mut Connection,
    user: &str,
    secret: &str,
    stored: u64,
) -> RedisResult<String> {
    let mut command = redis::cmd("EVAL");
    command.arg(REMIND).arg(1).arg(key(user, secret)).arg(stored).arg(SEQ_SECONDS).arg(secret);
    command.query(connection)
}

/// The place of the last entry.
pub fn last(connection: &mut Connection) -> RedisResult<Position> {
    let id: String = redis::cmd("EVAL").arg(LAST).arg(1).arg(STREAM).query(connection)?;
    place(&id)
}

/// An entry as clients are told of it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Position,
    pub json: String,
}

/// What follows a place.
#[derive(Debug)]
pub struct Page {
    /// What can be told to clients.
    pub entries: Vec<Entry>,
    /// The last entry that was read, whether clients are told of it or not.
    pub place: Position,
    /// There is nothing more.
    pub is_end: bool,
    /// What was asked for is gone: the entries begin behind this.
    pub gap: Option<Position>,
}

fn place(id: &str) -> RedisResult<Position> {
    id.parse().map_err(|error| (redis::ErrorKind::UnexpectedReturnType, "an id", error).into())
}

/// What no client could be told of has no JSON.
fn json(at: Position, id: &StreamId) -> Option<String> {
    let (from, client, text) = (id.get("from")?, id.get("client")?, id.get("text")?);
    let json = Tell::Said { at, from, client, seq: id.get("seq")?, text }.to_json();
    (json.len() <= TELL_MOST).then_some(json)
}

fn read(asked: Position) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(READ).arg(1).arg(STREAM).arg(asked.to_string()).arg(PAGE + 1);
    command
}

fn page(asked: Position, (found, reply): (i64, StreamRangeReply)) -> RedisResult<Page> {
    let is_there = found == 1;
    let (mut entries, mut bytes, mut end, mut gap) = (Vec::new(), 0, asked, None);
    for (number, id) in reply.ids.iter().enumerate() {
        let at = place(&id.id)?;
        if number == 0 && !is_there {
            gap = Some(at.before());
        }
        end = at;
        if number > 0 || !is_there {
            if let Some(json) = json(at, id) {
                bytes += json.len();
                entries.push(Entry { at, json });
            }
        }
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    let is_end = reply.ids.len() <= usize::from(is_there);
    Ok(Page { entries, place: end, is_end, gap })
}

/// What follows a place, as far as it is there.
pub fn after(connection: &mut Connection, asked: Position) -> RedisResult<Page> {
    page(asked, read(asked).query(connection)?)
}

/// The same, but waits a while if there is nothing.
pub fn wait_after(connection: &mut Connection, asked: Position) -> RedisResult<Page> {
    let mut wait = redis::cmd("XREAD");
    wait.arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK.as_millis() as u64);
    wait.arg("STREAMS").arg(STREAM).arg(asked.to_string());
    // one round trip: Redis looks at the second when the first is done
    let mut pipeline = redis::pipe();
    pipeline.add_command(wait).add_command(read(asked));
    let (_, reply): (Value, (i64, StreamRangeReply)) = pipeline.query(connection)?;
    page(asked, reply)
}
