//! Who is there, on all nodes: each node says who is connected to it, and says so again before that
//! is forgotten. What a killed node has said is forgotten by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Commands, Connection, RedisResult};

use crate::room::Room;
use crate::store::Store;
use crate::wire::Tell;

const NODES: &str = "chat:nodes";

/// How often a node speaks for itself, and after how long it counts as gone.
const BEAT: Duration = Duration::from_millis(500);
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
    pipeline.atomic().sadd(NODES, node).ignore().del(&mine).ignore();
    if !here.is_empty() {
        let users: Vec<&str> = here.iter().map(String::as_str).collect();
        pipeline.sadd(&mine, users).ignore();
        pipeline.pexpire(&mine, LIFE.as_millis() as i64).ignore();
    }
    pipeline.query::<()>(connection)?;
    let nodes: Vec<String> = connection.smembers(NODES)?;
    let keys: Vec<String> = nodes.iter().map(|node| key(node)).collect();
    let mut users: Vec<String> = connection.sunion(keys)?;
    users.sort_unstable();
    Ok(users)
}

/// Tells everybody here when somebody has come or gone, until the process ends.
pub fn run(mut store: Store, node: &str, room: &Arc<Room>, stopped: &Receiver<()>) {
    let mut last = None;
    while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
        let here = room.users();
        match store.attempt(|connection| exchange(connection, node, &here)) {
            Ok(users) => {
                // who has just come has heard nothing yet
                let now = Some((users, here));
                if now != last {
                    let users = now.as_ref().map(|(users, _)| users.clone()).unwrap_or_default();
                    room.announce(&Tell::Online { users }.to_json());
                    last = now;
                }
            }
            Err(error) => log::warn!("presence: {error}"),
        }
    }
    let _ = store.attempt(|connection| connection.del::<_, ()>(key(node)));
}
