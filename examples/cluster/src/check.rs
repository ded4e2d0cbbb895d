//! The test of itself: nodes are killed under load, and nothing may be lost or come twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::client::{Chatter, Ledger};
use crate::processes::Cluster;
use crate::{ANY, Result, faults, pause};

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long all clients together take to say one message each.
const ROUND: Duration = Duration::from_millis(100);

pub fn run(clients: usize, messages: u64, stopped: &Receiver<()>) -> Result<()> {
    let Some(cluster) = Cluster::start(2, ANY, stopped)? else { return Ok(()) };
    under_load(cluster, clients, messages, stopped)?;
    let Some(cluster) = Cluster::start(2, ANY, stopped)? else { return Ok(()) };
    faults::run(cluster, stopped)
}

fn under_load(
    mut cluster: Cluster,
    clients: usize,
    messages: u64,
    stopped: &Receiver<()>,
) -> Result<()> {
    let (ledger, origin) = (Ledger::new(stopped), Instant::now());
    let chatters = everybody(clients, &cluster, &ledger, origin)?;
    println!("{clients} clients on 2 nodes: {:?}", ledger.seen().welcomes);

    let (first, second) = (messages / 3, messages * 2 / 3);
    let pace = ROUND / u32::try_from(clients.max(1))?;
    for round in 0..messages {
        if round == first {
            cluster.kill(0);
            println!("node 0 is killed, {} messages are stored", ledger.seen().stored);
        }
        if round == second {
            cluster.restart(0)?;
            // perhaps before haproxy has noticed: then there is no node at all for a moment
            cluster.kill(1);
            println!("node 0 is back, node 1 is killed, {} are stored", ledger.seen().stored);
        }
        for chatter in &chatters {
            chatter.say(origin)?;
            pause(stopped, pace)?;
        }
    }

    let said = clients as u64 * messages;
    let expected = said * clients as u64;
    let deadline = Instant::now() + PATIENCE;
    let is_stored = ledger.wait(deadline, |seen| seen.stored >= said)?;
    let is_received = ledger.wait(deadline, |seen| seen.received >= expected)?;
    let is_present = ledger.wait(deadline, |seen| {
        seen.online.len() == clients && seen.online.values().all(|count| *count == clients)
    })?;
    let mut wrong = ledger.seen().wrong.clone();
    if !is_stored {
        let left: usize = chatters.iter().map(Chatter::unstored).sum();
        wrong.push(format!("{left} messages were not stored"));
    }
    if !is_received {
        wrong.push(format!("{} of {expected} were received", ledger.seen().received));
    }
    let gaps = ledger.seen().gaps;
    if gaps > 0 {
        wrong.push(format!("{gaps} gaps"));
    }
    if !is_present {
        wrong.push(format!("not everybody is said to be there: {:?}", ledger.seen().online));
    }
    for chatter in &chatters {
        for other in &chatters {
            let heard = chatter.heard().get(&other.id()).copied().unwrap_or_default();
            if heard != messages {
                wrong.push(format!("{} has {heard} of {}", chatter.user, other.user));
            }
        }
    }
    // one goes, and everybody hears of it
    if let Some(leaver) = chatters.first() {
        leaver.start_close();
        let rest = clients - 1;
        let has_left = ledger.wait(Instant::now() + PATIENCE, |seen| {
            let others = seen.online.iter().filter(|(user, _)| **user != leaver.user);
            others.clone().count() == rest && others.into_iter().all(|(_, count)| *count == rest)
        })?;
        if !has_left {
            wrong.push(format!("{} is still said to be there", leaver.user));
        }
    }
    let seen = ledger.seen();
    println!(
        "{said} messages said, {} stored, {} of {expected} received, links: {:?}",
        seen.stored, seen.received, seen.welcomes
    );
    drop(seen);
    for chatter in &chatters {
        chatter.start_close();
    }
    if wrong.is_empty() {
        println!("none lost, none twice");
        return Ok(());
    }
    for what in wrong.iter().take(20) {
        eprintln!("{what}");
    }
    Err(format!("{} things are wrong", wrong.len()).into())
}

/// Clients that are all connected, and know of each other.
pub fn everybody(
    clients: usize,
    cluster: &Cluster,
    ledger: &Arc<Ledger>,
    origin: Instant,
) -> Result<Vec<Chatter>> {
    let chatters: Vec<Chatter> = (0..clients)
        .map(|number| {
            let user = format!("user-{number}");
            Chatter::start(user, cluster.address(), Arc::clone(ledger), origin)
        })
        .collect::<Result<_>>()?;
    let all = ledger.wait(Instant::now() + PATIENCE, |seen| {
        seen.online.len() == clients && seen.online.values().all(|count| *count == clients)
    })?;
    if all { Ok(chatters) } else { Err("not all clients have come".into()) }
}
