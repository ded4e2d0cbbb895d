//! Plain TCP: one socket, one descriptor, shared by both halves.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::{Duplex, Hangup, ReadHalf, WriteHalf};

#[derive(Debug)]
struct TcpReader(Arc<TcpStream>);

#[derive(Debug)]
struct TcpWriter(Arc<TcpStream>);

impl From<TcpStream> for Duplex {
    fn from(stream: TcpStream) -> Self {
        let stream = Arc::new(stream);
        Self {
            reader: Box::new(TcpReader(Arc::clone(&stream))),
            writer: Box::new(TcpWriter(Arc::clone(&stream))),
            hangup: stream,
        }
    }
}

impl Read for TcpReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buf)
    }
}

impl ReadHalf for TcpReader {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)
    }
}

impl Write for TcpWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteHalf for TcpWriter {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(timeout)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

impl Hangup for TcpStream {
    fn hang_up(&self) {
        // the only error is a socket that is down already
        let _ = self.shutdown(Shutdown::Both);
    }

    fn reset_when_dropped(&self) {
        // best effort: without it the kernel goes on trying for a while
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}
