//! The login hook: straight-line code on a link that carries nothing else yet.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failure::{Decision, Failure};
use crate::link::{COUNTED, Opened, Sorted, Talk, sort};
use crate::message::{CloseCode, CloseFrame, Message, MessageRef};
use crate::policy::{Bounds, Heartbeat};
use crate::resume::{Counts, Note};
use crate::settings::Settings;
use crate::stats::Counters;

/// How long the goodbye of a login that failed may take.
const GOODBYE: Duration = Duration::from_millis(100);

/// What the program does on a fresh link before anything queued is sent.
pub(super) type LoginHook = Box<dyn FnMut(&mut LoginSession<'_>) -> HookResult + Send>;

/// What a hook of an attempt ends with: any error.
pub(super) type HookResult<T = ()> = Result<T, Box<dyn StdError + Send + Sync>>;

/// A fresh link, in the hands of the hook of [`ClientBuilder::login`](crate::ClientBuilder::login).
///
/// Calls block, at most until the [login timeout](crate::config::Timeouts::login) is over, and
/// end early when the client is closed. Pings of the server are answered while a call waits.
/// What the server sends and the hook does not receive is received by the program afterwards.
///
/// Its `Debug` shows nothing of what is sent and received.
pub struct LoginSession<'a> {
    talk: Talk<'a>,
    deadline: Instant,
    response: Option<&'a http::Response<()>>,
    counters: &'a Counters,
    /// Whether there is TLS already, and how it would begin.
    #[cfg(feature = "tls")]
    is_secure: bool,
    #[cfg(feature = "tls")]
    tls: Arc<rustls::ClientConfig>,
    /// Whether nothing can be said on the link any more, whatever the hook makes of the error that said so.
    is_over: bool,
    settings: &'a Settings,
    kept_bytes: usize,
    has_kept_too_much: bool,
    /// The counts of the session that begins with this link, if one does.
    session: Option<Arc<Counts>>,
    /// What was sent in it.
    sent: Vec<Message>,
}

impl<'a> LoginSession<'a> {
    pub(super) fn new(
        opened: &'a mut Opened,
        deadline: Instant,
        response: Option<&'a http::Response<()>>,
        counters: &'a Counters,
        settings: &'a Settings,
        session: Option<Arc<Counts>>,
        #[cfg(feature = "tls")] (is_secure, tls): (bool, Arc<rustls::ClientConfig>),
    ) -> Self {
        Self {
            talk: Talk::new(opened),
            deadline,
            response,
            counters,
            #[cfg(feature = "tls")]
            is_secure,
            #[cfg(feature = "tls")]
            tls,
            is_over: false,
            settings,
            kept_bytes: 0,
            has_kept_too_much: false,
            session,
            sent: Vec::new(),
        }
    }

    /// The hook has returned. Returns what it has sent if a session begins, which keeps it as it keeps
    /// later messages. If the login has failed, the server is told that its session is over.
    pub(super) fn end(mut self, result: HookResult) -> Result<Vec<Message>, Failure> {
        let result = result.and_then(|()| {
            self.check_kept()?;
            if self.is_over {
                return Err("the link is over, which the hook has ignored".into());
            }
            // no call has told the hook so
            if Instant::now() >= self.deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            Ok(())
        });
        let Err(error) = result else { return Ok(self.sent) };
        if self.session.is_some() {
            self.sent.drain(..).for_each(|_| self.counters.is_sent_at_login());
            let frame = CloseFrame::new(CloseCode::NORMAL, "");
            self.end_session(frame, Instant::now() + GOODBYE);
        }
        Err(match error.downcast::<LoginError>() {
            Ok(error) => Failure::Login { decision: Some(error.decision), source: error.source },
            Err(source) => Failure::Login { decision: None, source },
        })
    }

    /// Fails if the hook has kept more than the inbox would hold.
    fn check_kept(&self) -> io::Result<()> {
        if !self.has_kept_too_much {
            return Ok(());
        }
        let Bounds { messages, bytes, .. } = self.settings.inbox();
        Err(io::Error::other(format!(
            "what came during the login and was kept for the program is more than an inbox of \
             {messages} messages and {bytes} bytes holds"
        )))
    }

    /// The server's answer to the opening handshake; `None` on `tcp://`, which has none.
    pub fn response(&self) -> Option<&http::Response<()>> {
        self.response
    }

    /// Sends a message ahead of everything in the outbox. A hook may end with it.
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://localhost:9001")
    ///     .login(|login| login.send(r#"{"op":"auth","key":"..."}"#));
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// A [`Failure::Io`]; a timeout has the kind [`TimedOut`](io::ErrorKind::TimedOut), and a message
    /// that the framing cannot carry [`InvalidInput`](io::ErrorKind::InvalidInput). It is of the type
    /// that a hook ends with.
    pub fn send(&mut self, message: impl Into<Message>) -> HookResult {
        self.write(message.into()).map_err(Into::into)
    }

    fn write(&mut self, message: Message) -> Result<(), Failure> {
        if let Err(why) = self.talk.opened().protocol.check(&message) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        let (size, kind) = (message.len(), self.session.is_some().then_some(COUNTED));
        let encoded = self.talk.encode(&message, kind);
        // after a panic nobody knows what else the codec does
        encoded.inspect_err(|why| self.is_over |= why.has_panicked).map_err(io::Error::from)?;
        if let Some(counts) = &self.session {
            // only what is encoded has a number, and what has one is kept
            counts.reach(counts.number());
            self.sent.push(message);
        }
        self.talk.drain(self.deadline)?;
        self.counters.sent(1, size);
        if self.session.is_none() {
            self.counters.is_sent_at_login();
        }
        Ok(())
    }

    /// Receives the next message, waiting for it until the login's time is over.
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://localhost:9001").login(|session| {
    ///     // this service speaks first
    ///     let greeting = session.recv()?;
    ///     session.send(format!("hello, {greeting}"))?;
    ///     Ok(())
    /// });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever ended the link: [`Failure::Closed`], [`Failure::ClosedAbnormally`],
    /// [`Failure::Protocol`], [`Failure::Framing`] or [`Failure::Io`]; a timeout is an `Io` of the kind
    /// [`TimedOut`](io::ErrorKind::TimedOut).
    pub fn recv(&mut self) -> Result<Message, Failure> {
        self.recv_until(self.deadline)
    }

    /// Receives the next message, waiting for it at most for `timeout`. After a timeout it can
    /// be called again.
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://localhost:9001").login(|session| {
    ///     // a service that complains at once, or says nothing
    ///     if let Ok(complaint) = session.recv_timeout(std::time::Duration::from_millis(200)) {
    ///         Err(complaint.to_string())?;
    ///     }
    ///     Ok(())
    /// });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message, Failure> {
        let deadline = Instant::now().checked_add(timeout).unwrap_or(self.deadline);
        self.recv_until(deadline.min(self.deadline))
    }

    /// Receives the next message for which `is_meant` is true, waiting for it until the login's time
    /// is over. The others are [kept](Self::keep): the program receives them afterwards, in their order.
    /// A service that sends data before it answers is no trouble.
    ///
    /// ```no_run
    /// let client = everlink::Client::builder("ws://localhost:9001").login(|session| {
    ///     session.send(r#"{"op":"auth","key":"..."}"#)?;
    ///     session.recv_matching(|message| message.as_text() == Some(r#"{"auth":"ok"}"#))?;
    ///     Ok(())
    /// });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`Failure::Io`] when the inbox would not hold what was kept.
    pub fn recv_matching(
        &mut self,
        mut is_meant: impl FnMut(&Message) -> bool,
    ) -> Result<Message, Failure> {
        loop {
            let message = self.recv()?;
            if is_meant(&message) {
                return Ok(message);
            }
            self.keep(message);
        }
    }

    /// Begins TLS, with a server of this name: for services that greet in the clear first (NATS, XMPP, IMAP,
    /// and PostgreSQL, whose one-byte answer needs a [framing](crate::guide::protocols) that finds it). The
    /// framing's codec goes on with its state. Trust, certificate and all else are those of
    /// [`ClientBuilder::tls`](crate::ClientBuilder::tls). On `tcp://` only. What the hook has received and
    /// [kept](Self::keep) before stays; a server that has said more than was received is refused, for
    /// whoever is between could have said that.
    ///
    /// ```no_run
    /// use everlink::Client;
    /// use everlink::config::{Framing, Heartbeat};
    ///
    /// let client = Client::builder("tcp://mail.example.org:143")
    ///     .framing(Framing::lines())
    ///     .heartbeat(Heartbeat::off())
    ///     .login(|login| {
    ///         login.recv()?;
    ///         login.send("a1 STARTTLS")?;
    ///         login.recv_matching(|line| line.as_text().is_some_and(|it| it.starts_with("a1 OK")))?;
    ///         login.start_tls("mail.example.org")?;
    ///         login.send("a2 LOGIN user password")
    ///     });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// [`Failure::Tls`], [`Failure::Handshake`], [`Failure::Io`]; the link is over then, also where TLS cannot
    /// begin: nothing more is sent and received, and the login fails whatever the hook returns.
    #[cfg(feature = "tls")]
    pub fn start_tls(&mut self, name: &str) -> Result<(), Failure> {
        use crate::transport::tls;
        let (config, deadline) = (Arc::clone(&self.tls), self.deadline);
        // unless all goes well there is no connection any more: nothing goes out in the clear, whatever the
        // hook makes of the error
        self.is_over = true;
        let opened = self.talk.opened();
        let duplex = opened.duplex.take();
        let wrong = |what: &str| Failure::Io(io::Error::new(io::ErrorKind::InvalidInput, what));
        if opened.protocol.is_websocket() || self.is_secure {
            return Err(wrong("TLS begins inside a connection of tcp:// that has none"));
        }
        if opened.decoder.is_inside_message(&opened.buffer) {
            return Err(wrong("the server has said more, in the clear, before TLS has begun"));
        }
        let connection = tls::client_connection(&config, name)?;
        opened.duplex = tls::open(duplex, connection, deadline)?;
        (self.is_secure, self.is_over) = (true, false);
        Ok(())
    }

    /// The link beats so from here on, once the hook has returned: a service may say at login how often it
    /// wants a beat. It holds for this link, and for those that resume its session, for which the hook is not called;
    /// the next login says so again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::Client;
    /// use everlink::config::Heartbeat;
    ///
    /// let client = Client::builder("ws://localhost:9001").login(|login| {
    ///     let hello = login.recv()?;
    ///     let ms = hello.as_text().and_then(|text| text.strip_prefix("beat every "));
    ///     let interval = Duration::from_millis(ms.ok_or("no hello")?.parse()?);
    ///     login.set_heartbeat(Heartbeat::every(interval).message("beat", |answer| *answer == *"ack"))
    /// });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) as at the start, also for one that confirms nothing
    /// where the delivery needs that.
    pub fn set_heartbeat(&mut self, heartbeat: Heartbeat) -> HookResult {
        let opened = self.talk.opened();
        let has_pings = opened.protocol.is_websocket() || self.session.is_some();
        self.settings.check_learnt(&heartbeat, has_pings, |beat| opened.protocol.check(beat))?;
        self.talk.opened().heartbeat = Some(heartbeat);
        Ok(())
    }

    /// Puts aside a message that was received and is not the hook's: the program receives it
    /// first, before what comes after the login, in the order of these calls. If the login fails they
    /// are gone with the link, and so are those for which a program that does not receive leaves no room
    /// as long as the link lives.
    ///
    /// Together they may be as much as the [inbox](crate::ClientBuilder::inbox) holds, whatever its policy:
    /// with more, nothing else is received and the login fails.
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://localhost:9001").login(|session| {
    ///     let first = session.recv()?;
    ///     if first != "welcome" {
    ///         session.keep(first);
    ///     }
    ///     Ok(())
    /// });
    /// # let _ = client;
    /// ```
    pub fn keep(&mut self, message: Message) {
        // as an inbox does: another one as long as there is room
        let kept = &mut self.talk.opened().kept;
        let Bounds { messages, bytes, .. } = self.settings.inbox();
        let has_room = kept.len() < messages && self.kept_bytes < bytes;
        if has_room {
            self.kept_bytes += message.len();
            kept.push(message);
        } else {
            self.has_kept_too_much = true;
        }
    }

    fn recv_until(&mut self, deadline: Instant) -> Result<Message, Failure> {
        self.check_kept()?;
        loop {
            let message = self.talk.recv(deadline)?;
            let message = match &self.session {
                None => message,
                Some(counts) => {
                    let protocol = &self.talk.opened().protocol;
                    match sort(MessageRef::whole(message), counts, protocol) {
                        Ok(Sorted::Message(message)) => message.into_owned(),
                        Ok(Sorted::Ask) => {
                            self.talk.say(&Note::Report(counts.received()), deadline)?;
                            continue;
                        }
                        Ok(Sorted::Report(_) | Sorted::Nothing) => continue,
                        Ok(Sorted::End(frame)) => {
                            let shown = self.talk.opened().secrets.clean_close(Some(&frame));
                            self.end_session(frame, deadline);
                            return Err(Failure::Closed(shown));
                        }
                        Err(violation) => {
                            let frame = CloseFrame::new(CloseCode::PROTOCOL_ERROR, "");
                            self.talk.close(Some(&frame), deadline);
                            return Err(violation);
                        }
                    }
                }
            };
            self.counters.received(message.len());
            return Ok(message);
        }
    }

    /// Says that the session is over, and the link with it. A courtesy: they are either way.
    fn end_session(&mut self, frame: CloseFrame, deadline: Instant) {
        let Some(counts) = &self.session else { return };
        let report = Note::Report(counts.end());
        let _ = self.talk.say(&report, deadline);
        let _ = self.talk.say(&Note::End(frame.clone()), deadline);
        self.talk.close(Some(&frame), deadline);
    }
}

impl fmt::Debug for LoginSession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginSession").field("response", &self.response).finish_non_exhaustive()
    }
}

/// An error of a login hook which says what is to follow: nothing, or an attempt later or elsewhere. Any other
/// error may end the hook too, and is retried.
///
/// ```no_run
/// use everlink::{Client, LoginError};
///
/// let client = Client::builder("ws://localhost:9001").login(|session| {
///     session.send(r#"{"op":"auth","key":"..."}"#)?;
///     match session.recv()?.as_text() {
///         Some(r#"{"auth":"ok"}"#) => session.send(r#"{"op":"subscribe"}"#)?,
///         Some(r#"{"auth":"denied"}"#) => Err(LoginError::permanent("key denied"))?,
///         other => Err(format!("unexpected answer {other:?}"))?,
///     }
///     Ok(())
/// });
/// # let _ = client;
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct LoginError {
    decision: Decision,
    source: Box<dyn StdError + Send + Sync>,
}

impl LoginError {
    /// A failure that another attempt may not meet.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::decided(Decision::Retry, source)
    }

    /// A failure that every attempt would meet: the client gives up.
    pub fn permanent(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::decided(Decision::GiveUp, source)
    }

    /// A failure after which this is to follow.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use everlink::failure::Decision;
    /// use everlink::{Client, LoginError};
    ///
    /// let client = Client::builder("ws://localhost:9001").login(|session| {
    ///     let greeting = session.recv()?;
    ///     match greeting.as_text().and_then(|text| text.strip_prefix("moved to ")) {
    ///         Some(url) => {
    ///             let there = Decision::RetryAt { url: url.into(), delay: Duration::ZERO };
    ///             Err(LoginError::decided(there, "the service has moved"))?
    ///         }
    ///         None => Ok(()),
    ///     }
    /// });
    /// # let _ = client;
    /// ```
    pub fn decided(decision: Decision, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { decision, source: source.into() }
    }

    /// Whether every attempt would meet it.
    pub fn is_permanent(&self) -> bool {
        self.decision == Decision::GiveUp
    }
}
