//! Waiting for connections, and being told that it is enough.
//!
//! The socket may be another process's as well, so nothing that ends the wait may touch the socket.

use std::io;

use super::accepted::Accepted;
use super::listener::Listener;
use crate::transport::{Wakeup, wait};

#[derive(Debug)]
pub(super) struct Acceptor {
    listener: Listener,
    wakeup: Wakeup,
}

impl Acceptor {
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        // another process may take the connection that this one has woken for
        listener.set_nonblocking(true)?;
        Ok(Self { listener, wakeup: Wakeup::new()? })
    }

    /// Waits for the next connection; an error of the kind `Interrupted` once it is woken. From then on
    /// connections are left to others who have the socket.
    pub(super) fn accept(&self) -> io::Result<Accepted> {
        loop {
            let mut waits = [self.listener.ready(), self.wakeup.woken()];
            match wait(&mut waits, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            if !waits[1].revents().is_empty() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match self.listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Has the thread that accepts return from that.
    pub(super) fn wake(&self) {
        self.wakeup.wake();
    }

    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }
}
