//! The TLS of a server, which can be replaced while it serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use crate::error::Error;
use crate::sync::Mutex;
use crate::transport::tls::Tls;

/// The least time between two looks at the files.
const PAUSE: Duration = Duration::from_secs(1);

/// What connections from now on are spoken with. Those that are there keep what they began with.
pub(super) struct ServerTls(Mutex<Current>);

struct Current {
    config: Arc<ServerConfig>,
    /// There if what is in the files may change.
    watch: Option<Watch>,
}

struct Watch {
    tls: Arc<Tls>,
    /// The fingerprint of what was in the files when they were read last.
    seen: u64,
    /// `None` while somebody looks.
    next_look: Option<Instant>,
}

impl Current {
    fn new(tls: Tls) -> Result<Self, Error> {
        // first: what changes while they are read is found later
        let seen = tls.watches_files().then(|| tls.fingerprint());
        let config = tls.server()?;
        let next_look = Some(Instant::now() + PAUSE);
        let watch = seen.map(|seen| Watch { tls: Arc::new(tls), seen, next_look });
        Ok(Self { config, watch })
    }
}

impl ServerTls {
    pub(super) fn new(tls: Tls) -> Result<Self, Error> {
        Ok(Self(Mutex::new(Current::new(tls)?)))
    }

    pub(super) fn set(&self, tls: Tls) -> Result<(), Error> {
        let new = Current::new(tls)?;
        // what is in the old one may be the program's: its end is not waited for with the lock
        let old = std::mem::replace(&mut *self.0.lock(), new);
        drop(old);
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.lock().config)
    }

    /// Looks whether the files have changed, if it is time to: what has come of reading them anew. Whoever
    /// comes meanwhile does not wait for it, and looks at none: a file may be on a disk that does not answer.
    pub(super) fn look(&self) -> Option<Result<(), Error>> {
        let (tls, seen) = {
            let mut current = self.0.lock();
            let watch = current.watch.as_mut()?;
            watch.next_look.take_if(|due| Instant::now() >= *due)?;
            (Arc::clone(&watch.tls), watch.seen)
        };
        let found = tls.fingerprint();
        let read = (found != seen).then(|| tls.server());
        let mut current = self.0.lock();
        // not if it was replaced by call meanwhile
        let watch = current.watch.as_mut().filter(|watch| Arc::ptr_eq(&watch.tls, &tls))?;
        watch.seen = found;
        watch.next_look = Some(Instant::now() + PAUSE);
        Some(read?.map(|config| current.config = config))
    }
}
