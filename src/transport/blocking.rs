//! Halves of the program's own make have to keep the promises of `Read` and `Write`, and block: who
//! does not is found out, instead of being asked again and again without end.

use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use super::{ReadHalf, WriteHalf};

/// A call that says in less than this that its time is over has not waited for anything.
const AT_ONCE: Duration = Duration::from_millis(1);

/// So many in a row are no coincidence.
const MOST: u32 = 64;

/// A half whose `read` or `write` is called again when it comes back before its timeout, and fails if
/// it does nothing else. What it says that it has read or written can be relied on.
#[derive(Debug)]
pub(super) struct Blocking<H> {
    half: H,
    timeout: Option<Duration>,
}

impl<H> Blocking<H> {
    pub(super) fn new(half: H) -> Self {
        Self { half, timeout: None }
    }

    fn wait(&mut self, mut call: impl FnMut(&mut H) -> io::Result<usize>) -> io::Result<usize> {
        use io::ErrorKind::{TimedOut, WouldBlock};
        let least = self.timeout.map_or(AT_ONCE, |timeout| (timeout / 2).min(AT_ONCE));
        for _ in 0..MOST {
            let begun = Instant::now();
            match call(&mut self.half) {
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                    if begun.elapsed() >= least {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
        let words = "the program's transport does not block until its timeout: it may be a socket \
                     in non-blocking mode";
        Err(io::Error::other(words))
    }
}

/// What was read into a buffer, or written of one, of this length.
fn within(length: usize, result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(count) if count > length => {
            let words =
                format!("the program's transport says {count} bytes of a buffer of {length}");
            Err(io::Error::other(words))
        }
        result => result,
    }
}

/// What was written of so many bytes. Nothing, without an error that says why, is what `Write` calls
/// the end: whoever asked again would ask without end.
fn written(length: usize, result: io::Result<usize>) -> io::Result<usize> {
    match within(length, result) {
        Ok(0) if length > 0 => Err(io::ErrorKind::WriteZero.into()),
        result => result,
    }
}

impl<H: ReadHalf> Read for Blocking<H> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        within(buf.len(), self.wait(|half| half.read(buf)))
    }
}

impl<H: ReadHalf> ReadHalf for Blocking<H> {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout = timeout;
        self.half.set_read_timeout(timeout)
    }

    fn read_buffered(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        within(buf.len(), self.half.read_buffered(buf))
    }

    fn relax(&mut self) {
        self.half.relax();
    }

    fn wants_write(&mut self) -> bool {
        self.half.wants_write()
    }
}

impl<H: WriteHalf> Write for Blocking<H> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        written(buf.len(), self.wait(|half| half.write(buf)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait(|half| half.flush().map(|()| 0)).map(drop)
    }
}

impl<H: WriteHalf> WriteHalf for Blocking<H> {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout = timeout;
        self.half.set_write_timeout(timeout)
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        written(buf.len(), self.half.try_write(buf))
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        written(length, self.half.try_write_vectored(bufs))
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.half.try_flush()
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        self.half.say_goodbye()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.half.finish()
    }
}
