//! From settings to a client that runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crossbeam_channel::{bounded, unbounded};

use super::ClientBuilder;
use super::effect::Kind;
use crate::client::Client;
use crate::client::attempt::Opener;
use crate::client::core::Core;
use crate::client::events::Publisher;
use crate::client::life::Manager;
use crate::client::status::Status;
use crate::client::streak::FailureStreak;
use crate::dial::{Addresses, Connector, Dialer, Interrupt, Resolver, System};
use crate::error::Error;
use crate::handshake::{Jar, OpeningRequest, dialable};
use crate::policy::Delivery;
use crate::queues::inbox::{Inbox, Mailbox};
use crate::queues::outbox::Outbox;
use crate::sender::Sender;
use crate::stats::Counters;
use crate::sync::threads::{Role, Threads, next_id};
use crate::sync::{Mutex, Signal};

impl ClientBuilder {
    /// Starts the client and returns at once; it keeps trying in the background.
    ///
    /// ```
    /// use everlink::{Client, State};
    ///
    /// // nobody listens there, and the client goes on trying
    /// let client = Client::builder("ws://127.0.0.1:1").start()?;
    /// client.send("for later")?;
    /// assert_ne!(client.state(), State::Connected);
    /// assert_eq!(client.close().undelivered, ["for later"]);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::TlsUnavailable`], [`Error::InvalidHeader`],
    /// [`Error::InvalidSetting`] and [`Error::Thread`].
    pub fn start(self) -> Result<Client, Error> {
        let (core, manager) = self.build()?;
        launch(core, manager)
    }

    /// Starts the client and waits for the first attempt, which decides: if it succeeds the
    /// client stays connected from here on, if it fails nothing is left of it.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::{Client, Error, State};
    ///
    /// let client = Client::builder(&url).connect()?;
    /// assert_eq!(client.state(), State::Connected);
    /// let nobody = Client::builder("ws://127.0.0.1:1").connect();
    /// assert!(matches!(nobody, Err(Error::Connect(_))));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the attempt failed, and those of [`start`](Self::start).
    pub fn connect(self) -> Result<Client, Error> {
        let (core, mut manager) = self.build()?;
        let (sender, first) = bounded(1);
        manager.first = Some(sender);
        let client = launch(core, manager)?;
        match first.recv() {
            Ok(Ok(())) => Ok(client),
            Ok(Err(cause)) => Err(Error::Connect(cause)),
            // an event callback has closed the client
            Err(_) => Err(Error::Closed),
        }
    }

    fn build(mut self) -> Result<(Arc<Core>, Manager), Error> {
        let request = std::mem::replace(&mut self.request, Err(Error::Closed))?;
        let mut endpoints = vec![request.endpoint.clone()];
        for url in &self.fallbacks {
            let endpoint = dialable(url)?;
            request.check_kind(&endpoint)?;
            endpoints.push(endpoint);
        }
        if self.shuffle {
            fastrand::shuffle(&mut endpoints);
        }
        if self.connector.is_none() {
            for endpoint in &endpoints {
                self.route.proxy(endpoint)?;
            }
        }
        let is_websocket = request.endpoint.scheme.is_websocket();
        let is_tls = endpoints.iter().any(|endpoint| endpoint.scheme.is_tls());
        if !is_websocket {
            request.check_bare()?;
        }
        self.check_effects(Kind { is_websocket, is_tls })?;
        let requests = endpoints
            .into_iter()
            .map(|endpoint| OpeningRequest { endpoint, ..request.clone() })
            .collect();
        let mut settings = self.settings;
        settings.check(is_websocket)?;
        let confirmable = settings.is_confirmable(is_websocket);
        if settings.delivery() == Delivery::AtLeastOnce && !confirmable {
            return Err(Error::setting("delivery", Error::Unconfirmable.to_string()));
        }
        let id = next_id();
        settings.name.get_or_insert_with(|| id.to_string());
        let threads = Threads::of(id, settings.stack_size());
        let settings = Arc::new(settings);
        let counters = Arc::new(Counters::default());
        let interrupt = Arc::new(Interrupt::new());
        let (commands, inbound_commands) = unbounded();
        let mailbox = Arc::new(Mailbox::new(settings.inbox()));
        if settings.has_channel {
            mailbox.open_channel(&threads).map_err(Error::Thread)?;
        }
        let outbox = Outbox::new(
            settings.outbox(),
            settings.limits().message,
            (!is_websocket).then_some(settings.framing()),
            settings.delivery(),
            confirmable,
        )
        .telling(settings.on_dropped.clone())
        .giving_up_after(settings.max_deliveries());
        let core = Arc::new(Core {
            id,
            #[cfg(feature = "metrics")]
            outlet: crate::metrics::Outlet::new("client", settings.label().to_owned()),
            outbox: Arc::new(outbox),
            mailbox: Arc::clone(&mailbox),
            counters,
            status: Status::new(),
            publisher: Publisher::new(self.on_event),
            commands,
            interrupt: Arc::clone(&interrupt),
            done: Signal::new(),
            undelivered: Mutex::default(),
            has_handler: self.on_message.is_some(),
            threads: threads.clone(),
            label: settings.label().to_owned(),
            close_timeout: settings.timeouts().close,
            patience: settings.heartbeat().interval,
            closing_since: Mutex::default(),
            has_link: AtomicBool::new(false),
        });
        #[cfg(feature = "metrics")]
        {
            let core: std::sync::Weak<Core> = Arc::downgrade(&core);
            crate::metrics::register(core);
        }
        let inbox = match self.on_message {
            Some(handler) => Inbox::Handler(handler(Sender::new(Arc::<Core>::clone(&core)))),
            None => Inbox::Mailbox(mailbox),
        };
        let opener = Opener {
            id,
            counters: Arc::clone(&core.counters),
            #[cfg(feature = "tls")]
            tls: self.tls.unwrap_or_default().build(is_websocket)?,
            resolver: Resolver::new(
                self.resolve.unwrap_or_else(|| Arc::new(System)),
                threads.clone(),
            ),
            connect_to: self.connect_to,
            dialer: Dialer::new(settings.socket(), threads.clone()),
            interrupt,
            settings,
            connector: self.connector.map(|connect| Connector::new(connect, threads.clone())),
            route: self.route,
            threads,
            requests,
            addresses: Addresses::default(),
            jar: self.cookies.then(Jar::default),
            dialed: None,
            token_hook: self.token_hook,
            request_hook: self.request_hook,
            login_hook: self.login_hook,
            held: None,
            has_lost: false,
            returns: false,
            resent: None,
            in_doubt: None,
        };
        let manager = Manager {
            core: Arc::clone(&core),
            opener,
            inbox: Arc::new(Mutex::new(Some(inbox))),
            commands: inbound_commands,
            decide: self.decide,
            first: None,
            since: Instant::now(),
            link: 0,
            streak: FailureStreak::default(),
        };
        Ok((core, manager))
    }
}

fn launch(core: Arc<Core>, manager: Manager) -> Result<Client, Error> {
    // not by value through the frames that start a thread: its stack is what an idle client costs
    let mut manager = Box::new(manager);
    let threads = core.threads.clone();
    threads
        .start(Role::Manager, move || {
            manager.run();
        })
        .map_err(Error::Thread)?;
    Ok(Client::new(core))
}
