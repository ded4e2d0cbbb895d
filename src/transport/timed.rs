//! One deadline over many reads and writes.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::Duplex;

/// A connection on which one thread talks both ways until a deadline: the opening handshake,
/// the login. A byte now and then does not move the deadline.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    duplex: &'a mut Duplex,
    deadline: Instant,
}

impl<'a> Timed<'a> {
    pub(crate) fn new(duplex: &'a mut Duplex, deadline: Instant) -> Self {
        Self { duplex, deadline }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// A socket says `WouldBlock` on Unix and `TimedOut` on Windows when its timeout passes.
fn say_timed_out<T>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::TimedOut.into())
        }
        other => other,
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.duplex.reader.set_read_timeout(Some(self.left()?))?;
            match self.duplex.reader.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return say_timed_out(result),
            }
        }
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.duplex.writer.set_write_timeout(Some(self.left()?))?;
        say_timed_out(self.duplex.writer.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.duplex.writer.flush()
    }
}
