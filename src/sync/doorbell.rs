//! Wakes one thread, which then looks for itself what there is to do. Rung any number of times
//! before somebody listens, it is heard once.

pub(crate) use imp::Doorbell;

#[cfg(not(shuttle))]
mod imp {
    use std::time::Instant;

    use crossbeam_channel::{Receiver, Sender, bounded};

    #[derive(Debug)]
    pub(crate) struct Doorbell(Sender<()>, Receiver<()>);

    impl Doorbell {
        pub(crate) fn new() -> Self {
            let (sender, receiver) = bounded(1);
            Self(sender, receiver)
        }

        pub(crate) fn ring(&self) {
            // full: it is ringing
            let _ = self.0.try_send(());
        }

        /// Waits until it rings, or until then.
        pub(crate) fn wait(&self, until: Option<Instant>) {
            // the sender is here, so this only ends with a token or a timeout
            let _ = match until {
                None => self.1.recv().ok(),
                Some(until) => self.1.recv_deadline(until).ok(),
            };
        }
    }
}

#[cfg(shuttle)]
mod imp {
    use std::time::Instant;

    use crate::sync::{Condvar, Mutex};

    #[derive(Debug)]
    pub(crate) struct Doorbell(Mutex<bool>, Condvar);

    impl Doorbell {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(false), Condvar::new())
        }

        pub(crate) fn ring(&self) {
            *self.0.lock() = true;
            self.1.notify_one();
        }

        /// Models have no time: only ringing ends this.
        pub(crate) fn wait(&self, _: Option<Instant>) {
            let mut ringing = self.0.lock();
            while !std::mem::take(&mut *ringing) {
                ringing = self.1.wait(ringing);
            }
        }
    }
}
