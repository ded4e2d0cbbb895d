//! A network that is not there: bytes that are on their way, and may not arrive.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Mutex, MutexGuard};
use crate::transport::{ReadBuffer, WriteHalf};

/// One direction of a connection.
#[derive(Debug, Clone)]
pub(super) struct Pipe(Arc<Mutex<Flow>>);

#[derive(Debug)]
struct Flow {
    /// Everything that was written.
    bytes: Vec<u8>,
    /// So much of it was read.
    read: usize,
    /// What is written behind this place is lost.
    arrives: usize,
    /// Writing fails here.
    breaks_at: usize,
    /// A write takes no more bytes than this.
    most: usize,
    /// The next write would have to wait, or the next flush.
    is_full: bool,
    is_unflushed: bool,
    /// Behind what arrives is the end.
    is_ended: bool,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Flow {
            bytes: Vec::new(),
            read: 0,
            arrives: usize::MAX,
            breaks_at: usize::MAX,
            most: usize::MAX,
            is_full: false,
            is_unflushed: false,
            is_ended: false,
        })))
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock()
    }

    /// How much was written.
    pub(super) fn len(&self) -> usize {
        self.flow().bytes.len()
    }

    /// What was written behind this place.
    pub(super) fn since(&self, place: usize) -> Vec<u8> {
        self.flow().bytes[place..].to_vec()
    }

    /// The next write takes no more than this, and may have to wait, or what follows it.
    pub(super) fn hinder(&self, most: usize, is_full: bool, is_unflushed: bool) {
        let mut flow = self.flow();
        (flow.most, flow.is_full, flow.is_unflushed) = (most, is_full, is_unflushed);
    }

    /// Of what is on its way so many bytes arrive at most; the writer notices after so many more.
    pub(super) fn cut(&self, on_its_way: impl FnOnce(usize) -> usize, unnoticed: usize) {
        let mut flow = self.flow();
        let end = flow.bytes.len().min(flow.arrives);
        flow.arrives = flow.read + on_its_way(end - flow.read);
        flow.breaks_at = flow.breaks_at.min(flow.bytes.len() + unnoticed);
        flow.is_ended = true;
    }

    /// Its writer is done: everything still arrives.
    pub(super) fn end(&self) {
        let mut flow = self.flow();
        flow.is_ended = true;
        flow.breaks_at = flow.bytes.len();
    }

    /// Whether its reader finds the end.
    pub(super) fn is_at_the_end(&self) -> bool {
        let flow = self.flow();
        flow.is_ended && flow.read >= flow.bytes.len().min(flow.arrives)
    }

    /// Reads up to so many bytes; returns whether there were any.
    pub(super) fn read(&self, buffer: &mut ReadBuffer, most: usize) -> bool {
        let mut flow = self.flow();
        let end = flow.bytes.len().min(flow.arrives);
        let space = buffer.space();
        let count = most.min(end - flow.read.min(end)).min(space.len());
        if count > 0 {
            space[..count].copy_from_slice(&flow.bytes[flow.read..flow.read + count]);
            buffer.filled(count);
            flow.read += count;
        }
        count > 0
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut flow = self.flow();
        let room = flow.breaks_at.saturating_sub(flow.bytes.len());
        let count = buf.len().min(room).min(flow.most);
        if count == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        flow.bytes.extend_from_slice(&buf[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteHalf for Pipe {
    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.flow().is_full) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.write(buf)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.flow().is_unflushed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
