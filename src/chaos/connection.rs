//! One connection through the proxy: two sockets, and a thread for each direction.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::conditions::Conditions;
use super::faults::{Cut, Direction, Faults, Place};
use crate::sync::Mutex;
use crate::transport::{Hangup, Socket, WriteHalf};

/// How often a throttled second is divided.
const SLICES: u64 = 20;

#[derive(Debug)]
pub(super) struct Connection {
    client: Socket,
    /// `None` for a client that is left alone.
    server: Option<Socket>,
    state: AtomicU8,
    directions: AtomicU8,
    budget: Mutex<Budget>,
}

/// Values of `Connection::state`.
const WHOLE: u8 = 0;
const CUT: u8 = 1;
/// Cut, and the client is to hear nothing more.
const SILENT: u8 = 2;

/// How much is left to forward until a cut.
#[derive(Debug, Default)]
struct Budget {
    generation: Option<u64>,
    left: Option<(u64, Cut)>,
}

impl Connection {
    pub(super) fn new(client: TcpStream, server: Option<TcpStream>) -> Self {
        Self {
            client: Socket::new(client),
            server: server.map(Socket::new),
            state: AtomicU8::new(WHOLE),
            directions: AtomicU8::new(2),
            budget: Mutex::default(),
        }
    }

    /// Returns whether that was the last direction.
    pub(super) fn leave(&self) -> bool {
        self.directions.fetch_sub(1, SeqCst) == 1
    }

    /// Cuts, and counts that once.
    pub(super) fn cut(&self, conditions: &Conditions, how: Cut) {
        // counted first, so that who notices it finds it counted
        if self.condemn(how) {
            let mut state = conditions.state();
            state.cuts += 1;
            state.cuts_of_these += 1;
        }
        self.end(how);
        conditions.notify();
    }

    /// Says that the connection is about to be cut; returns whether it was whole before.
    pub(super) fn condemn(&self, how: Cut) -> bool {
        let end = if how == Cut::Silence { SILENT } else { CUT };
        let before = self.state.compare_exchange(WHOLE, end, SeqCst, SeqCst);
        if before == Err(SILENT) && how != Cut::Silence {
            // the client's end is still there
            self.state.store(CUT, SeqCst);
        }
        before.is_ok()
    }

    /// Ends both sides.
    pub(super) fn end(&self, how: Cut) {
        for side in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
            match how {
                Cut::EndOfStream => finish(side),
                Cut::Silence if std::ptr::eq(side, &self.client) => {}
                Cut::Silence => side.hang_up(),
                Cut::Reset => side.reset(),
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.state.load(SeqCst) == WHOLE
    }

    /// How much of `count` bytes may still go, and the cut that follows if it is not all.
    fn allow(&self, conditions: &Conditions, count: usize) -> (usize, Option<Cut>) {
        let mut state = conditions.state();
        let mut budget = self.budget.lock();
        if budget.generation != Some(state.generation) {
            budget.generation = Some(state.generation);
            budget.left = state.faults.cut.map(|(place, how)| {
                let bytes = match place {
                    Place::After(bytes) => bytes,
                    Place::Within(bytes) => state.random.u64(1..=bytes),
                };
                let how = how.unwrap_or_else(|| match state.random.u8(0..10) {
                    0..4 => Cut::Reset,
                    4..8 => Cut::EndOfStream,
                    _ => Cut::Silence,
                });
                (bytes, how)
            });
        }
        let spent = state.faults.most_cuts.is_some_and(|most| state.cuts_of_these >= most);
        let Some((left, how)) = budget.left.as_mut().filter(|_| !spent) else {
            return (count, None);
        };
        let allowed = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= allowed as u64;
        (allowed, (*left == 0).then_some(*how))
    }
}

/// The only error is a socket that is down already.
fn finish(side: &Socket) {
    let _ = side.clone().finish();
}

/// Forwards in one direction until the end.
pub(super) fn forward(conditions: &Conditions, connection: &Connection, direction: Direction) {
    // an error of either socket is the end of this direction, as the end of the stream is
    let _ = pump(conditions, connection, direction);
    let to = match direction {
        Direction::ToServer => connection.server.as_ref(),
        _ => Some(&connection.client),
    };
    if let Some(to) = to.filter(|_| connection.is_whole() && connection.server.is_some()) {
        finish(to);
    }
    if connection.state.load(SeqCst) == SILENT && direction == Direction::ToServer {
        // holds the client's end until the client gives up
        let _ = io::copy(&mut connection.client.clone(), &mut io::sink());
    }
}

fn pump(conditions: &Conditions, connection: &Connection, direction: Direction) -> io::Result<()> {
    let mut client = connection.client.clone();
    let Some(server) = connection.server.clone() else {
        if direction == Direction::ToServer {
            io::copy(&mut client, &mut io::sink())?;
        }
        return Ok(());
    };
    let (mut from, mut to) = match direction {
        Direction::ToServer => (client, server),
        _ => (server, client),
    };
    let mut buffer = vec![0; 16 * 1024];
    let mut flow = Flow { conditions, connection, direction, passed: 0, generation: 0 };
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        if count == 0 {
            return Ok(());
        }
        let mut rest = &mut buffer[..count];
        let mut is_fresh = true;
        while !rest.is_empty() {
            let Some(faults) = flow.wait(is_fresh) else { return Ok(()) };
            is_fresh = false;
            let most = match faults.throttle {
                _ if faults.single_bytes => 1,
                Some(rate) => usize::try_from(rate / SLICES).unwrap_or(usize::MAX).max(1),
                None => rest.len(),
            };
            let (allowed, cut) = connection.allow(conditions, most.min(rest.len()));
            let (piece, after) = rest.split_at_mut(allowed);
            flow.corrupt(&faults, piece);
            to.write_all(piece)?;
            if let Some(cut) = cut {
                connection.cut(conditions, cut);
                return Ok(());
            }
            if let Some(rate) = faults.throttle {
                flow.pause(Duration::from_secs_f64(allowed as f64 / rate as f64));
            }
            rest = after;
        }
    }
}

/// What holds one direction up.
struct Flow<'a> {
    conditions: &'a Conditions,
    connection: &'a Connection,
    direction: Direction,
    /// Bytes forwarded since the faults were set.
    passed: u64,
    generation: u64,
}

impl Flow<'_> {
    /// Waits while this direction stalls, and for the delay of what was just read; returns the
    /// faults of the moment, or `None` at the end.
    fn wait(&mut self, is_fresh: bool) -> Option<Faults> {
        let mut due = None;
        let mut state = self.conditions.state();
        loop {
            if state.stopped || !self.connection.is_whole() {
                return None;
            }
            if self.generation != state.generation {
                (self.generation, self.passed) = (state.generation, 0);
            }
            let faults = state.faults;
            if faults.stall.is_some_and(|stalled| stalled.includes(self.direction)) {
                state = self.conditions.wait(state, None);
                continue;
            }
            let delay = if is_fresh { faults.delay } else { Duration::ZERO };
            let due = *due.get_or_insert_with(|| Instant::now() + delay);
            if delay.is_zero() || due <= Instant::now() {
                return Some(faults);
            }
            state = self.conditions.wait(state, Some(due));
        }
    }

    fn pause(&self, time: Duration) {
        let due = Instant::now() + time;
        let mut state = self.conditions.state();
        while !state.stopped && self.connection.is_whole() && Instant::now() < due {
            state = self.conditions.wait(state, Some(due));
        }
    }

    fn corrupt(&mut self, faults: &Faults, piece: &mut [u8]) {
        if let Some((direction, place)) = faults.corrupt {
            let index =
                place.checked_sub(self.passed).and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = index.and_then(|index| piece.get_mut(index)) {
                if direction.includes(self.direction) {
                    *byte ^= 0x10;
                }
            }
        }
        self.passed += piece.len() as u64;
    }
}
