//! A one-shot broadcast that every kind of waiting can include.

use std::convert::Infallible;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Mutex;

/// Raised once, seen by all, never taken back.
///
/// It is a channel that carries nothing: raising it drops the only sender, which wakes every
/// `recv` and every `select!` on [`Signal::raised`], however many threads wait.
#[derive(Debug)]
pub(crate) struct Signal {
    sender: Mutex<Option<Sender<Infallible>>>,
    receiver: Receiver<Infallible>,
}

impl Signal {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = bounded(0);
        Self { sender: Mutex::new(Some(sender)), receiver }
    }

    /// Wakes everyone; returns whether this call was the first.
    pub(crate) fn raise(&self) -> bool {
        self.sender.lock().take().is_some()
    }

    /// A receiver that disconnects when the signal is raised and yields nothing before.
    pub(crate) fn raised(&self) -> &Receiver<Infallible> {
        &self.receiver
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.sender.lock().is_none()
    }
}
