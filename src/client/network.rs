//! How a client gets a connection to an endpoint: with the program's connector, through a proxy, or
//! straight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::route::Route;
use crate::dial::{Addresses, Connector, Dialer, Interrupt, Resolver};
use crate::failure::{Failure, HandshakeError, ProxyError};
use crate::http1::Endpoint;
use crate::policy::Resolved;
use crate::transport::{Duplex, Timed};

pub(super) struct Network {
    resolver: Resolver,
    dialer: Dialer,
    addresses: Addresses,
    route: Route,
    /// The one address that is dialed, whatever is named.
    connect_to: Option<SocketAddr>,
    connector: Option<Connector>,
    #[cfg(feature = "tls")]
    tls: Arc<rustls::ClientConfig>,
}

impl Network {
    pub(super) fn new(
        resolver: Resolver,
        dialer: Dialer,
        route: Route,
        connect_to: Option<SocketAddr>,
        connector: Option<Connector>,
        #[cfg(feature = "tls")] tls: Arc<rustls::ClientConfig>,
    ) -> Self {
        let addresses = Addresses::default();
        Self {
            resolver,
            dialer,
            addresses,
            route,
            connect_to,
            connector,
            #[cfg(feature = "tls")]
            tls,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// Connects to the endpoint, TLS included where it is wanted.
    pub(super) fn connect(
        &mut self,
        endpoint: &Endpoint,
        opening: &mut Opening,
        interrupt: &Interrupt,
    ) -> Result<Duplex, Failure> {
        opening.address = None;
        let duplex = match &self.connector {
            Some(connector) => {
                let deadline = opening.within(opening.timeouts.connect);
                let host = endpoint.dialed_host();
                let duplex = connector.connect(&host, endpoint.port, deadline, interrupt)?;
                interrupt.watch(Arc::clone(&duplex.hangup));
                duplex
            }
            None => self.dial(endpoint, opening, interrupt)?,
        };
        // the clock of the opening runs from the first connection on
        opening.deadline();
        #[cfg(feature = "tls")]
        if endpoint.scheme.is_tls() {
            use crate::transport::tls;
            let is_home = endpoint.is_same_origin(&opening.home);
            let anonymous = (!is_home).then(|| tls::without_identity(&self.tls));
            let config = anonymous.as_ref().unwrap_or(&self.tls);
            let secured = tls::client_connection(config, &endpoint.host)
                .and_then(|connection| tls::open(duplex, connection, opening.deadline()));
            return secured.map_err(|failure| failure.in_time(opening.timeouts.handshake));
        }
        // without TLS no endpoint gets here that needs it
        Ok(duplex)
    }

    fn dial(
        &mut self,
        endpoint: &Endpoint,
        opening: &mut Opening,
        interrupt: &Interrupt,
    ) -> Result<Duplex, Failure> {
        let proxy = self
            .route
            .proxy(endpoint)
            .map_err(|error| Failure::Proxy(ProxyError::Unusable(Box::new(error))))?;
        let (host, port) = match proxy {
            Some(proxy) => (proxy.host.clone(), proxy.port),
            None => (endpoint.dialed_host(), endpoint.port),
        };
        let deadline = opening.within(opening.timeouts.dns);
        let resolved = match self.connect_to {
            Some(address) => vec![address],
            None => self.resolver.resolve(&host, port, deadline, interrupt)?,
        };
        let addresses = self.addresses.in_order(&resolved);
        let deadline = opening.within(opening.timeouts.connect);
        let (stream, address) = self.dialer.dial(&addresses, deadline, interrupt)?;
        log::trace!("connected to {address}");
        opening.address = Some(address);
        let mut duplex = Duplex::from(stream);
        interrupt.watch(Arc::clone(&duplex.hangup));
        if let Some(proxy) = proxy {
            let mut timed = Timed::new(&mut duplex, opening.deadline());
            let early = proxy.open(&mut timed, &endpoint.host, endpoint.port)?;
            duplex = duplex.put_back(early);
        }
        Ok(duplex)
    }

    /// The opening has led to a link, which the next one is to follow to its address if
    /// `has_session`.
    pub(super) fn succeeded(&mut self, opening: &Opening, has_session: bool) {
        self.addresses.succeeded(opening.address.filter(|_| has_session));
    }

    /// The opening has failed: its address comes last the next time.
    pub(super) fn failed(&mut self, opening: &Opening) {
        if let Some(address) = opening.address {
            self.addresses.has_failed(address);
        }
    }
}

/// One opening, over all its redirects.
pub(super) struct Opening {
    /// The endpoint that the program has named: the client's certificate goes to no other origin.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS has an identity"))]
    home: Endpoint,
    timeouts: Resolved,
    /// Set by the first connection: all that follows has one timeout.
    deadline: Option<Instant>,
    /// There is no more time than until then.
    latest: Option<Instant>,
    /// The address that the last connection led to.
    address: Option<SocketAddr>,
}

impl Opening {
    pub(super) fn new(timeouts: Resolved, home: Endpoint, latest: Option<Instant>) -> Self {
        Self { home, timeouts, deadline: None, latest, address: None }
    }

    /// When all of it has to be done. The first call starts the clock.
    pub(super) fn deadline(&mut self) -> Instant {
        let deadline = || self.in_time(Instant::now() + self.timeouts.handshake);
        let deadline = self.deadline.unwrap_or_else(deadline);
        self.deadline = Some(deadline);
        deadline
    }

    fn in_time(&self, deadline: Instant) -> Instant {
        self.latest.map_or(deadline, |latest| deadline.min(latest))
    }

    /// The deadline of a step with a time of its own.
    fn within(&self, own: Duration) -> Instant {
        let own = self.in_time(Instant::now() + own);
        self.deadline.map_or(own, |deadline| deadline.min(own))
    }

    /// A step behind a redirect fails with the timeout of the whole, if that left less than its own.
    pub(super) fn blame_the_clock(&self, failure: Failure, redirects: u32) -> Failure {
        let is_over = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let is_about_time = matches!(
            failure,
            Failure::Dns { .. } | Failure::Connect { .. } | Failure::Connector(_)
        );
        if redirects > 0 && is_over && is_about_time {
            return HandshakeError::TimedOut { timeout: self.timeouts.handshake }.into();
        }
        failure
    }
}
