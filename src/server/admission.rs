//! Who may come in: how many connections there are, in all and from each network.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::opening_rate::OpeningRate;
use super::subnet::Subnet;
use crate::sync::Mutex;

/// No more connections than this are let in beyond the limit, to say whose they are.
const MOST_BEYOND: usize = 256;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// In all.
    pub(super) total: usize,
    /// From each network; the default depends on whose it is.
    pub(super) per_network: Option<usize>,
}

impl ConnectionLimits {
    /// How many may come in from there.
    pub(super) fn most(self, network: Subnet) -> usize {
        match self.per_network {
            Some(limit) => limit,
            None if network.is_near() => self.total,
            None => self.total.div_ceil(2),
        }
    }

    /// How many may come in beyond that.
    fn beyond(self) -> Self {
        Self { total: self.total.min(MOST_BEYOND), ..self }
    }
}

/// The connections that are there, those that are opening included. A session that waits for its
/// client has none.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ConnectionLimits,
    counted: Mutex<Counted>,
    rate: Option<Mutex<OpeningRate>>,
    over_rate: AtomicU64,
}

#[derive(Debug, Default)]
struct Counted {
    present: Crowd,
    /// Those that are beyond that.
    beyond: Crowd,
}

/// So many connections.
#[derive(Debug, Default)]
struct Crowd {
    total: usize,
    /// No network is in it from which nobody is there.
    by_network: HashMap<Subnet, usize>,
}

/// A connection that was let in. It counts until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    /// Whose it is; nobody's, if it has no address.
    network: Option<Subnet>,
    /// Why it is beyond what is let in, if it is: it may only take the place that its session has.
    beyond: Option<&'static str>,
}

impl Admission {
    pub(super) fn new(limits: ConnectionLimits, rate: Option<OpeningRate>) -> Arc<Self> {
        let (rate, over_rate) = (rate.map(Mutex::new), AtomicU64::new(0));
        Arc::new(Self { limits, counted: Mutex::default(), rate, over_rate })
    }

    /// Notes that somebody opens a connection.
    ///
    /// # Errors
    ///
    /// Why it may not come in: there were too many lately.
    pub(super) fn note_opening(&self, network: Option<Subnet>) -> Result<(), &'static str> {
        if let (Some(rate), Some(network)) = (&self.rate, network) {
            if !rate.lock().admits(network, Instant::now()) {
                self.over_rate.fetch_add(1, Relaxed);
                return Err("too many openings from this address");
            }
        }
        Ok(())
    }

    /// How often that was so.
    pub(super) fn over_rate(&self) -> u64 {
        self.over_rate.load(Relaxed)
    }

    /// Lets one more connection in.
    ///
    /// # Errors
    ///
    /// Why it may not come in.
    pub(super) fn admit(
        self: &Arc<Self>,
        network: Option<Subnet>,
    ) -> Result<Admitted, &'static str> {
        self.counted.lock().present.enter(self.limits, network)?;
        Ok(Admitted { admission: Arc::clone(self), network, beyond: None })
    }

    /// Lets one more connection in, beyond what is let in, for it may be one of a session that has a place
    /// already. There are no more of those than this many, of each network only its part, and until they have
    /// said whose they are.
    pub(super) fn admit_beyond(
        self: &Arc<Self>,
        network: Option<Subnet>,
        why: &'static str,
    ) -> Option<Admitted> {
        self.counted.lock().beyond.enter(self.limits.beyond(), network).ok()?;
        Some(Admitted { admission: Arc::clone(self), network, beyond: Some(why) })
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.counted.lock().present.total
    }
}

impl Crowd {
    fn enter(
        &mut self,
        limits: ConnectionLimits,
        network: Option<Subnet>,
    ) -> Result<(), &'static str> {
        if self.total >= limits.total {
            return Err("too many connections");
        }
        if let Some(network) = network {
            let from_there = self.by_network.get(&network).copied().unwrap_or_default();
            if from_there >= limits.most(network) {
                return Err("too many connections from this address");
            }
        }
        self.count(network);
        Ok(())
    }

    fn count(&mut self, network: Option<Subnet>) {
        self.total += 1;
        if let Some(network) = network {
            *self.by_network.entry(network).or_default() += 1;
        }
    }

    fn leave(&mut self, network: Option<Subnet>) {
        self.total -= 1;
        let Some(network) = network else { return };
        if let Some(from_there) = self.by_network.get_mut(&network) {
            *from_there -= 1;
            if *from_there == 0 {
                self.by_network.remove(&network);
            }
        }
    }
}

impl Admitted {
    /// Why it is beyond what is let in, if it is.
    pub(super) fn beyond(&self) -> Option<&'static str> {
        self.beyond
    }

    /// It is theirs, and counted as nobody's until now.
    ///
    /// # Errors
    ///
    /// Why they may not come in; it goes on as nobody's.
    pub(super) fn belongs_to(
        &mut self,
        network: Option<Subnet>,
        may_go_beyond: bool,
    ) -> Result<(), &'static str> {
        self.admission.note_opening(network)?;
        let limits = self.admission.limits;
        let mut counted = self.admission.counted.lock();
        let Counted { present, beyond } = &mut *counted;
        let (crowd, limits) = match self.beyond {
            None => (present, limits),
            Some(_) => (beyond, limits.beyond()),
        };
        crowd.leave(self.network.take());
        let Err(why) = crowd.enter(limits, network) else {
            self.network = network;
            return Ok(());
        };
        if self.beyond.is_none() && may_go_beyond {
            let limits = self.admission.limits.beyond();
            if counted.beyond.enter(limits, network).is_ok() {
                (self.network, self.beyond) = (network, Some(why));
                return Ok(());
            }
        }
        let crowd = if self.beyond.is_some() { &mut counted.beyond } else { &mut counted.present };
        crowd.count(None);
        Err(why)
    }

    /// Lets it in for good, if there is a place by now.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) fn settle(&mut self) -> Result<(), &'static str> {
        if self.beyond.is_some() {
            let mut counted = self.admission.counted.lock();
            counted.present.enter(self.admission.limits, self.network)?;
            counted.beyond.leave(self.network);
            self.beyond = None;
        }
        Ok(())
    }

    /// Lets it in for good, in the place of another.
    pub(super) fn replace(&mut self, other: Self) {
        if self.beyond.take().is_some() {
            let mut counted = self.admission.counted.lock();
            counted.present.count(self.network);
            counted.beyond.leave(self.network);
        }
        drop(other);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counted = self.admission.counted.lock();
        match self.beyond {
            Some(_) => counted.beyond.leave(self.network),
            None => counted.present.leave(self.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Subnet {
        Subnet::of(address.parse().unwrap())
    }

    fn most(limits: ConnectionLimits, address: &str) -> usize {
        let admission = Admission::new(limits, None);
        std::iter::from_fn(|| admission.admit(Some(network(address))).ok())
            .collect::<Vec<_>>()
            .len()
    }

    #[test]
    fn a_stranger_gets_half_of_the_connections_and_a_neighbour_all() {
        let limits = ConnectionLimits { total: 10, per_network: None };
        for near in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1", "fe80::1"] {
            assert_eq!(most(limits, near), 10, "{near}");
        }
        for far in ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"] {
            assert_eq!(most(limits, far), 5, "{far}");
        }
        let limits = ConnectionLimits { per_network: Some(3), ..limits };
        assert_eq!([most(limits, "127.0.0.1"), most(limits, "203.0.113.7")], [3, 3]);
    }

    #[test]
    fn a_refusal_says_why_and_who_leaves_makes_room() {
        let admission = Admission::new(ConnectionLimits { total: 3, per_network: Some(2) }, None);
        let refusal =
            |address: &str| admission.admit(Some(network(address))).map(|_| ()).unwrap_err();
        let from = |address: &str| admission.admit(Some(network(address))).unwrap();
        let (first, second) = (from("192.0.2.1"), from("192.0.2.1"));
        assert_eq!(refusal("192.0.2.1"), "too many connections from this address");
        let other = from("192.0.2.2");
        assert_eq!(refusal("192.0.2.2"), "too many connections");
        drop(first);
        let again = from("192.0.2.1");
        assert_eq!(admission.len(), 3);
        drop((second, other, again));
        assert_eq!(admission.len(), 0);
        assert!(
            admission.counted.lock().present.by_network.is_empty(),
            "strangers leave nothing behind"
        );
    }
}
