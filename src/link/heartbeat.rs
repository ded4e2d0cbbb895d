//! The heartbeat thread: asks a silent peer for a sign of life, and is the second watch on its
//! silence after the reader's own read timeout.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::beat_clock::{Action, BeatClock, Seen};
use super::life::Pulse;
use super::liveness::HELD_UP;
use super::shared::{Notice, Shared};
use super::suspension::Suspension;
use super::writer::Writer;
use crate::failure::Failure;
use crate::policy::{Beat, Heartbeat};

/// Does what the [`BeatClock`] says, until the link is dead.
pub(super) fn run(shared: &Shared, writer: &Writer) {
    let mut beats = shared.beats.look();
    let mut clock = BeatClock::new(Arc::clone(beats.heartbeat()), shared.liveness.origin());
    let mut suspension = Suspension::new();
    loop {
        // before the look: a change that comes behind it ends the wait
        let told = shared.life.beats();
        if beats.is_stale(&shared.beats) {
            beats = shared.beats.look();
            clock.change(Arc::clone(beats.heartbeat()));
        }
        let seen = Seen {
            // first: all else is at least as old as this says
            now: Instant::now(),
            slept: suspension.is_over(),
            waiting: shared.liveness.waiting(),
            silence: shared.liveness.silence(),
            unanswered: shared.pings.waiting(),
            is_looked_at: shared.counters.is_looked_at(),
        };
        for action in clock.step(&seen) {
            match action {
                Action::CountMiss => {
                    shared.counters.heartbeat_misses.fetch_add(1, Relaxed);
                }
                Action::Beat => {
                    shared.counters.begin_beat();
                    if let Err(panic) = beat(shared, writer, beats.heartbeat()) {
                        return shared.fail(panic);
                    }
                    writer.relax();
                }
                Action::SayStalled(time) => shared.tell(Notice::Stalled(time)),
                Action::SeekConfirmations(limit) => writer.seek_confirmations(limit),
                Action::Dead(silence) if seen.now.elapsed() < HELD_UP => {
                    return shared.fail(shared.silent(silence));
                }
                // this process was held up since: look again
                Action::Dead(_) => {}
                Action::Wait(until) => match shared.life.wait_pulse(until, told) {
                    Pulse::Due => {}
                    Pulse::Overdue => return shared.end_close(),
                    Pulse::Dead => return,
                },
            }
        }
    }
}

fn beat(shared: &Shared, writer: &Writer, heartbeat: &Heartbeat) -> Result<(), Failure> {
    shared.liveness.ask();
    match heartbeat.beat {
        Beat::Ping | Beat::PingAlways if writer.ping_now() => Ok(()),
        Beat::Off | Beat::Listen => Ok(()),
        _ => shared.beat(),
    }
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
