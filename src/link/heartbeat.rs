//! The heartbeat thread: asks a silent peer for a sign of life, and is the second watch on its
//! silence after the reader's own read timeout.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::life::Pulse;
use super::liveness::{HELD_UP, Waiting};
use super::shared::Shared;
use super::suspension::Suspension;
use super::writer::Writer;
use crate::failure::{Failure, guarded};
use crate::policy::Beat;

/// The reader's read timeout has this much of the limit to be first: it knows best.
const SECOND_WATCH: u32 = 20;

/// A beat may be early by this part of the interval: the answer to the last one came a moment
/// after it, and waiting for that moment again would cost every beat another wake-up.
const EARLY: u32 = 64;

/// How long a peer has to say something once the machine has slept: a few beats, within these. Who was
/// only held up gives it no less than the limit.
const GRACE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);

/// The peer is given time, although it may have been silent for the limit already: nobody has asked.
#[derive(Debug, Clone, Copy)]
struct Grace {
    since: Instant,
    time: Duration,
    /// Whether it has no more than that, even if the limit is longer.
    is_final: bool,
}

pub(super) fn run(shared: &Shared, writer: &Writer) {
    let heartbeat = shared.settings.heartbeat();
    let interval = heartbeat.interval;
    let Some(limit) = heartbeat.limit() else {
        return watch_confirmations(shared, writer);
    };
    let limit = limit + limit / SECOND_WATCH;
    let mut last_beat = Instant::now();
    let mut stall_said = false;
    // when the program was last seen to be slow to receive
    let mut busy_at = None;
    let mut suspension = Suspension::new();
    // by when something has to be heard, whatever the limit
    let mut grace = None;
    let mut due = shared.liveness.origin();
    loop {
        let now = Instant::now();
        let is_late = now.saturating_duration_since(due) >= HELD_UP;
        let slept = suspension.is_over();
        let woken = (slept || is_late) && heartbeat.asks();
        if woken {
            log::debug!("the machine slept, or this process did: asking the peer at once");
            let time = (interval * 3).clamp(*GRACE.start(), *GRACE.end()).min(limit);
            grace = Some(Grace { since: now, time, is_final: slept });
        }
        let waiting = shared.liveness.waiting();
        let (Waiting::ForPeer(quiet) | Waiting::ForProgram(quiet)) = waiting;
        let mut wait = interval.saturating_sub(last_beat.elapsed());
        if matches!(heartbeat.beat, Beat::Ping) {
            // a busy link carries no pings, unless somebody looks at its round trips; a service's own
            // beats go out all the same
            let is_due = wait <= interval / EARLY;
            if !(is_due && shared.counters.take_looked_at()) {
                wait = wait.max(interval.saturating_sub(quiet));
            }
        }
        if woken || wait <= interval / EARLY {
            if matches!(waiting, Waiting::ForPeer(quiet) if !woken && quiet + interval / EARLY >= interval)
                && shared.pings.waiting().is_some_and(|time| time + interval / EARLY >= interval)
            {
                shared.counters.heartbeat_misses.fetch_add(1, Relaxed);
            }
            // also while the program is to blame: the peer should see that somebody is here
            if let Err(panic) = beat(shared, writer) {
                return shared.fail(panic);
            }
            last_beat = Instant::now();
            wait = interval;
            writer.relax();
        }
        match waiting {
            // answers may have come, and lie unread
            Waiting::ForProgram(_) => busy_at = Some(now),
            Waiting::ForPeer(quiet) if !woken && quiet < heartbeat.dead_after / 2 => {
                let listening = busy_at.map(|at| now.saturating_duration_since(at));
                writer.look_for_confirmations(heartbeat.dead_after.saturating_mul(2), listening);
            }
            Waiting::ForPeer(_) => {}
        }
        match waiting {
            Waiting::ForPeer(_) => {
                stall_said = false;
                let silence = shared.liveness.silence();
                grace = grace.filter(|grace: &Grace| silence >= grace.since.elapsed());
                let left = limit.saturating_sub(silence);
                let left = match grace {
                    None => left,
                    Some(Grace { since, time, is_final }) => {
                        let granted = time.saturating_sub(since.elapsed());
                        if is_final { granted } else { left.max(granted) }
                    }
                };
                if left.is_zero() && now.elapsed() < HELD_UP {
                    return shared.fail(shared.silent(silence));
                }
                wait = wait.min(left);
            }
            Waiting::ForProgram(time) if time >= interval && !stall_said => {
                stall_said = true;
                shared.stalled(time);
            }
            Waiting::ForProgram(_) => {}
        }
        due = now + wait.max(Duration::from_millis(1));
        match shared.life.wait_pulse(due) {
            Pulse::Due => {}
            Pulse::Overdue => return shared.end_close(),
            Pulse::Dead => return,
        }
    }
}

/// Where nothing is sent and silence is not watched, a peer that does not confirm what was asked of
/// it is still said to be one.
fn watch_confirmations(shared: &Shared, writer: &Writer) {
    let interval = shared.settings.heartbeat().dead_after;
    loop {
        match shared.life.wait_pulse(Instant::now() + interval) {
            Pulse::Due if matches!(shared.liveness.waiting(), Waiting::ForPeer(_)) => {
                writer.look_for_confirmations(interval.saturating_mul(2), None);
            }
            Pulse::Due => {}
            Pulse::Overdue => return shared.end_close(),
            Pulse::Dead => return,
        }
    }
}

fn beat(shared: &Shared, writer: &Writer) -> Result<(), Failure> {
    shared.liveness.ask();
    match &shared.settings.heartbeat().beat {
        Beat::Ping | Beat::PingAlways => {
            if writer.ping_now() {
                return Ok(());
            }
            shared.control.ping();
        }
        Beat::Message { payload, .. } => {
            let payload = guarded("heartbeat payload", || payload())?;
            if !shared.can_carry(&payload) {
                return Ok(());
            }
            shared.control.beat(payload);
        }
        Beat::Off | Beat::Listen => return Ok(()),
    }
    shared.outbox.ring();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::Heartbeat;
    use crate::{Client, Event, Server};

    #[test]
    fn a_peer_that_confirms_nothing_is_said_to_also_without_a_heartbeat() {
        let mut heartbeat = Heartbeat::off();
        heartbeat.dead_after = Duration::from_millis(20);
        // it takes no ping for what it is, so it never answers one
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mute = std::thread::spawn(move || {
            let mut peer = tungstenite::accept(listener.accept().unwrap().0).unwrap();
            let mut bytes = [0; 1024];
            while matches!(std::io::Read::read(peer.get_mut(), &mut bytes), Ok(1..)) {}
        });
        let client = Client::builder(format!("ws://{address}")).heartbeat(heartbeat);
        let client =
            client.timeouts(crate::policy::Timeouts::new().close(Duration::from_millis(50)));
        let client = client.connect().unwrap();
        let events = client.subscribe();
        let _receipt = client.send_confirmed("x").unwrap();
        let event = events.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(event, Event::ConfirmationsMissing { .. }), "{event:?}");
        client.close();
        mute.join().unwrap();
    }

    #[test]
    fn without_receipts_nothing_is_missed() {
        let mut heartbeat = Heartbeat::off();
        heartbeat.dead_after = Duration::from_millis(10);
        let server = Server::bind("127.0.0.1:0", |session| for _ in &session {}).unwrap();
        let client = Client::builder(format!("ws://{}", server.local_addr()));
        let client = client.heartbeat(heartbeat).connect().unwrap();
        let events = client.subscribe();
        client.send("x").unwrap();
        assert!(events.recv_timeout(Duration::from_millis(200)).is_err());
    }
}
