//! One deadline over many reads and writes.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::{Duplex, WriteHalf};

/// How long a peer gets to read what it was told last.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Both directions, and a deadline that can be brought forward.
pub(crate) trait Stream: Read + Write {
    /// From here on there is no more time than this.
    fn hurry(&mut self, left: Duration);
}

/// A connection on which one thread talks both ways until a deadline: the opening handshake,
/// the login. A byte now and then does not move the deadline.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    duplex: &'a mut Duplex,
    deadline: Instant,
    has_heard: bool,
}

impl<'a> Timed<'a> {
    pub(crate) fn new(duplex: &'a mut Duplex, deadline: Instant) -> Self {
        Self { duplex, deadline, has_heard: false }
    }

    /// Whether any byte came.
    pub(crate) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Ends the stream and waits until the peer has too, so that it reads what it was told before a
    /// reset can take that away.
    pub(crate) fn let_read(&mut self) {
        self.hurry(LINGER);
        if self.write_with(|writer| writer.finish()).is_err() {
            return;
        }
        let mut discarded = [0; 1024];
        while matches!(self.read_on(&mut discarded), Ok(1..)) {}
    }

    fn read_on(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.duplex.reader.set_read_timeout(Some(self.left()?))?;
            match self.duplex.reader.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    self.has_heard |= matches!(result, Ok(1..));
                    return say_timed_out(result);
                }
            }
        }
    }

    fn write_with<T>(
        &mut self,
        mut write: impl FnMut(&mut dyn WriteHalf) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            self.duplex.writer.set_write_timeout(Some(self.left()?))?;
            match write(&mut *self.duplex.writer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return say_timed_out(result),
            }
        }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Stream for Timed<'_> {
    fn hurry(&mut self, left: Duration) {
        self.deadline = self.deadline.min(Instant::now() + left);
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
    /// Whatever the transport has to say about an error is said before that returns.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.read_on(buf);
        if result.is_err() && self.duplex.reader.wants_write() {
            Timed::new(self.duplex, self.deadline).let_read();
        }
        result
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_with(|writer| writer.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_with(|writer| writer.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Hangup, ReadHalf, WriteHalf};

    /// Interrupted by signals so many times, and then does as it is told.
    #[derive(Debug)]
    struct Nervous(u32);

    impl Nervous {
        fn signal(&mut self) -> io::Result<usize> {
            self.0 = self.0.saturating_sub(1);
            if self.0 > 0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(1) }
        }
    }

    impl Read for Nervous {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.signal()
        }
    }

    impl Write for Nervous {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.signal()
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl ReadHalf for Nervous {
        fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }
    }

    impl WriteHalf for Nervous {
        fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }

        fn finish(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Hangup for Nervous {
        fn hang_up(&self) {}
    }

    #[test]
    fn a_signal_is_no_end_and_no_more_time() {
        let talk = |signals, time| {
            let mut duplex = Duplex::new(Nervous(signals), Nervous(signals), Nervous(0));
            let mut timed = Timed::new(&mut duplex, Instant::now() + time);
            [timed.write(b"x"), timed.read(&mut [0])].map(|result| result.map_err(|e| e.kind()))
        };
        assert_eq!(talk(5, Duration::from_secs(3600)), [Ok(1); 2]);
        assert_eq!(talk(u32::MAX, Duration::from_millis(20)), [Err(io::ErrorKind::TimedOut); 2]);
    }
}
