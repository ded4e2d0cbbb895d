//! Who is there, on all nodes: each node says who is in its topic, when that changes and again before it
//! is forgotten. What a killed node has said is forgotten by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, select};
use everlink::ServerHandle;
use redis::{Commands, Connection, RedisResult};

use crate::room::Room;
use crate::store::Store;
use crate::wire::Tell;

const NODES: &str = "chat:nodes";

/// Notes when this node was last seen, by the clock of Redis, forgets the nodes that are gone, and
/// returns the others.
const SEEN: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZRANGE', KEYS[1], 0, -1)
";

/// How often a node speaks for itself if nothing changes, how long it gathers what does, and after how long
/// it counts as gone.
const BEAT: Duration = Duration::from_millis(500);
const GATHERING: Duration = Duration::from_millis(50);
const LIFE: Duration = Duration::from_millis(2500);

fn key(node: &str) -> String {
    format!("chat:online:{node}")
}

/// Says who is here, and asks who is elsewhere.
fn exchange(
    connection: &mut Connection,
    node: &str,
    here: &BTreeSet<String>,
) -> RedisResult<Vec<String>> {
    let mine = key(node);
    let mut pipeline = redis::pipe();
    // in one step: nobody sees the moment in which it is empty
    pipeline.atomic().del(&mine).ignore();
    if !here.is_empty() {
        let users: Vec<&str> = here.iter().map(String::as_str).collect();
        pipeline.sadd(&mine, users).ignore();
        pipeline.pexpire(&mine, LIFE.as_millis() as i64).ignore();
    }
    let life = LIFE.as_millis() as u64;
    pipeline.cmd("EVAL").arg(SEEN).arg(1).arg(NODES).arg(node).arg(life);
    let (nodes,): (Vec<String>,) = pipeline.query(connection)?;
    let keys: Vec<String> = nodes.iter().map(|node| key(node)).collect();
    let mut users: Vec<String> = connection.sunion(keys)?;
    users.sort_unstable();
    Ok(users)
}

/// Tells everybody here when somebody has come or gone, until the process ends. `changed` says that it was here.
pub fn run(
    mut store: Store,
    node: &str,
    (room, server): (&Room, &ServerHandle),
    changed: &Receiver<()>,
    stopped: &Receiver<()>,
) {
    let mut last = None;
    loop {
        select! {
            recv(changed) -> _ => {}
            recv(stopped) -> _ => {}
            default(BEAT - GATHERING) => {}
        }
        if stopped.recv_timeout(GATHERING) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        let (here, joins) = room.users();
        match store.attempt(|connection| exchange(connection, node, &here)) {
            Ok(users) => {
                // who has just come has heard nothing yet
                let now = Some((users, joins));
                if now != last {
                    let users = now.as_ref().map(|(users, _)| users.clone()).unwrap_or_default();
                    room.announce(server, &Tell::online(&users).to_json());
                    last = now;
                }
            }
            Err(error) => log::warn!("presence: {error}"),
        }
    }
    let gone = store.attempt(|connection| {
        let mut pipeline = redis::pipe();
        pipeline.atomic().zrem(NODES, node).ignore().del(key(node)).ignore();
        pipeline.query::<()>(connection)
    });
    if let Err(error) = gone {
        log::warn!("presence: {error}");
    }
}
