//! What it takes: messages a second through Redis, and how long each is on its way to everybody.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use hdrhistogram::Histogram;

use crate::check::everybody;
use crate::client::Ledger;
use crate::processes::Cluster;
use crate::{ANY, Result, pause};

const PATIENCE: Duration = Duration::from_secs(120);
const TIME: Duration = Duration::from_secs(10);

/// Who store as fast as they can, each so many messages ahead.
const WRITERS: usize = 8;
const EACH: u64 = 20_000;

pub fn run(clients: usize, rate: u64, stopped: &Receiver<()>) -> Result<()> {
    if fan_out(2 * clients, rate, stopped)? {
        store(stopped)?;
    }
    Ok(())
}

/// False if it was skipped.
fn fan_out(clients: usize, rate: u64, stopped: &Receiver<()>) -> Result<bool> {
    let Some(cluster) = Cluster::start(2, ANY, stopped)? else { return Ok(false) };
    let (ledger, origin) = (Ledger::new(stopped), Instant::now());
    let chatters = everybody(clients, &cluster, &ledger, origin)?;
    let interval = Duration::from_secs(1) / u32::try_from(rate.max(1))?;
    let begun = Instant::now();
    let mut said = 0_u64;
    for chatter in chatters.iter().cycle() {
        if begun.elapsed() >= TIME {
            break;
        }
        chatter.say(origin)?;
        said += 1;
        let due = begun + interval * u32::try_from(said)?;
        pause(stopped, due.saturating_duration_since(Instant::now()))?;
    }
    let expected = said * clients as u64;
    if !ledger.wait(Instant::now() + PATIENCE, |seen| seen.received >= expected)? {
        return Err("not everything has arrived".into());
    }
    let time = begun.elapsed().as_secs_f64();
    let seen = ledger.seen();
    let mut histogram = Histogram::<u64>::new(3)?;
    for latency in &seen.latencies {
        histogram.record(u64::from(*latency))?;
    }
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    println!(
        "fan-out: {clients} clients on 2 nodes, {:.0} messages/s, {:.0} deliveries/s: p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        said as f64 / time,
        seen.received as f64 / time,
        at(0.5),
        at(0.99),
        Duration::from_micros(histogram.max())
    );
    drop(seen);
    chatters.iter().for_each(crate::client::Chatter::start_close);
    Ok(true)
}

fn store(stopped: &Receiver<()>) -> Result<()> {
    let Some(cluster) = Cluster::start(2, ANY, stopped)? else { return Ok(()) };
    let (ledger, origin) = (Ledger::new(stopped), Instant::now());
    let chatters = everybody(WRITERS, &cluster, &ledger, origin)?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<_> = chatters
            .iter()
            .map(|chatter| scope.spawn(move || (0..EACH).try_for_each(|_| chatter.say(origin))))
            .collect();
        writers.into_iter().try_for_each(|writer| {
            writer.join().unwrap_or_else(|_| Err("a writer panicked".into()))
        })
    })?;
    let said = WRITERS as u64 * EACH;
    if !ledger.wait(Instant::now() + PATIENCE, |seen| seen.stored >= said)? {
        return Err("not everything was stored".into());
    }
    let time = begun.elapsed().as_secs_f64();
    println!(
        "store: {WRITERS} clients on 2 nodes, {:.0} messages/s through Redis",
        said as f64 / time
    );
    chatters.iter().for_each(crate::client::Chatter::start_close);
    Ok(())
}
