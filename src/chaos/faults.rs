//! What goes wrong.

use std::time::Duration;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// With a reset to both sides.
    Reset,
    /// With an end of stream to both sides.
    EndOfStream,
    /// Nothing is forwarded any more and nothing said; to the server the connection ends.
    Silence,
}

/// The way that bytes take through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// Both ways.
    Both,
}

impl Direction {
    pub(super) fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(super) enum Opening {
    #[default]
    Forward,
    Refuse,
    Reset,
    Mute,
}

/// A set of faults for [`FaultProxy::set`](super::FaultProxy::set). They can be combined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct Faults {
    pub(super) opening: Opening,
    pub(super) delay: Duration,
    pub(super) throttle: Option<u64>,
    pub(super) stall: Option<Direction>,
    pub(super) cut: Option<(Place, Option<Cut>)>,
    pub(super) most_cuts: Option<u64>,
    pub(super) corrupt: Option<(Direction, u64)>,
    pub(super) single_bytes: bool,
}

/// Where in the bytes of a connection, both ways counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    After(u64),
    Within(u64),
}

impl Faults {
    /// None: forwards what comes.
    pub fn none() -> Self {
        Self::default()
    }

    /// Refuses new connections, as a port on which nobody listens.
    pub fn refuse(mut self) -> Self {
        self.opening = Opening::Refuse;
        self
    }

    /// Accepts new connections and resets them at once.
    pub fn reset_at_once(mut self) -> Self {
        self.opening = Opening::Reset;
        self
    }

    /// Accepts new connections and says nothing; the server never hears of them.
    pub fn mute(mut self) -> Self {
        self.opening = Opening::Mute;
        self
    }

    /// Holds each piece that was read for this long before it goes on. What comes meanwhile
    /// waits for its turn.
    pub fn delay(mut self, time: Duration) -> Self {
        self.delay = time;
        self
    }

    /// Forwards at most so many bytes a second, each way.
    pub fn throttle(mut self, bytes_per_second: u64) -> Self {
        self.throttle = Some(bytes_per_second.max(1));
        self
    }

    /// Forwards nothing in this direction, and keeps the sockets open: a black hole.
    pub fn stall(mut self, direction: Direction) -> Self {
        self.stall = Some(direction);
        self
    }

    /// Cuts each connection once so many bytes were forwarded, both ways counted together.
    pub fn cut_after(mut self, how: Cut, bytes: u64) -> Self {
        self.cut = Some((Place::After(bytes), Some(how)));
        self
    }

    /// Cuts each connection at a random place, after 1 to this many bytes, one way or another:
    /// four in ten with a [reset](Cut::Reset), four with an [end of stream](Cut::EndOfStream), two with
    /// [silence](Cut::Silence), which the client notices by its heartbeat alone.
    pub fn cut_within(mut self, bytes: u64) -> Self {
        self.cut = Some((Place::Within(bytes.max(1)), None));
        self
    }

    /// Cuts so many connections, and then no more until faults are set again.
    pub fn at_most(mut self, cuts: u64) -> Self {
        self.most_cuts = Some(cuts);
        self
    }

    /// Changes a bit of the byte after so many bytes of each connection in this direction.
    pub fn corrupt_after(mut self, direction: Direction, bytes: u64) -> Self {
        self.corrupt = Some((direction, bytes));
        self
    }

    /// Forwards byte by byte, each in a write of its own.
    pub fn single_bytes(mut self) -> Self {
        self.single_bytes = true;
        self
    }
}
