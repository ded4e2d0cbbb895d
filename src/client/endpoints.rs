//! Where a client dials, as the program says it at the start and while the client runs.

use std::collections::VecDeque;

use super::route::Route;
use crate::error::Error;
use crate::handshake::OpeningRequest;
use crate::http1::Endpoint;
use crate::sync::Mutex;

/// Checks endpoints, and keeps those that were set last until the next attempt takes them.
pub(super) struct Endpoints {
    /// What is said at each endpoint, and the first of them.
    home: OpeningRequest,
    /// On the way to each there may be a proxy, unless a connector makes the connections.
    route: Option<Route>,
    shuffle: bool,
    set: Mutex<Option<VecDeque<OpeningRequest>>>,
}

impl Endpoints {
    pub(super) fn new(home: OpeningRequest, route: Option<Route>, shuffle: bool) -> Self {
        Self { home, route, shuffle, set: Mutex::new(None) }
    }

    /// The requests for these endpoints, in the order in which they are tried.
    pub(super) fn requests(
        &self,
        endpoints: impl IntoIterator<Item = Result<Endpoint, Error>>,
    ) -> Result<VecDeque<OpeningRequest>, Error> {
        let mut requests = Vec::new();
        for endpoint in endpoints {
            let endpoint = endpoint?.dialable()?;
            self.home.check_kind(&endpoint)?;
            if let Some(route) = &self.route {
                route.proxy(&endpoint)?;
            }
            requests.push(OpeningRequest { endpoint, ..self.home.clone() });
        }
        if self.shuffle {
            fastrand::shuffle(&mut requests);
        }
        Ok(requests.into())
    }

    /// The next attempt goes to these.
    pub(super) fn set(&self, urls: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), Error> {
        let endpoints = urls.into_iter().map(|url| Endpoint::parse(url.as_ref()));
        let requests = self.requests(endpoints)?;
        if requests.is_empty() {
            return Err(Error::InvalidUrl { reason: "there is none to dial".into() });
        }
        *self.set.lock() = Some(requests);
        Ok(())
    }

    /// Those that were set since this was last asked.
    pub(super) fn take(&self) -> Option<VecDeque<OpeningRequest>> {
        self.set.lock().take()
    }
}
