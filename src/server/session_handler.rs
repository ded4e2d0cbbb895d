//! The program's handler of a session that is called for each message.

use std::sync::Arc;

use super::session::Session;
use crate::failure::Failure;
use crate::message::MessageRef;
use crate::queues::inbox::Handler;

/// What a program does with the messages of one session, as they come, with the state that it keeps of that
/// session: [`ServerBuilder::bind_with_handler`](crate::ServerBuilder::bind_with_handler).
///
/// A closure of `&Session` and `MessageRef<'_>` is one, too.
///
/// ```
/// use everlink::{Client, Failure, MessageRef, Server, Session, SessionHandler};
///
/// struct Counting {
///     messages: u64,
/// }
///
/// impl SessionHandler for Counting {
///     fn on_message(&mut self, session: &Session, message: MessageRef<'_>) {
///         self.messages += 1;
///         let _ = session.send(format!("{}: {}", self.messages, message.as_text().unwrap_or("?")));
///     }
///
///     fn on_close(&mut self, session: &Session, cause: &Failure) {
///         println!("session {} is over after {} messages: {cause}", session.id(), self.messages);
///     }
/// }
///
/// let server = Server::builder()
///     .bind_with_handler("127.0.0.1:0", |_: &Session| Counting { messages: 0 })?;
/// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
/// client.send("hello")?;
/// assert_eq!(client.recv()?, "1: hello");
/// # Ok::<(), everlink::Error>(())
/// ```
pub trait SessionHandler: Send + 'static {
    /// A message has come. While this runs nothing else of the session is read, and `send` to this
    /// session does not wait: with a full outbox it fails with [`Error::Full`](crate::Error::Full). To wait for
    /// anything else here, room in another session's outbox among it, keeps this one from being read.
    fn on_message(&mut self, session: &Session, message: MessageRef<'_>);

    /// The session is over, for this reason, and its connection is gone. Called once, after the last
    /// message, also if a call before this one has panicked.
    fn on_close(&mut self, _session: &Session, _cause: &Failure) {}
}

impl<F: FnMut(&Session, MessageRef<'_>) + Send + 'static> SessionHandler for F {
    fn on_message(&mut self, session: &Session, message: MessageRef<'_>) {
        self(session, message);
    }
}

/// A session with its handler, which is made when its first link begins.
pub(super) struct Attended<H, F> {
    session: Session,
    open: Arc<F>,
    handler: Option<H>,
}

impl<H: SessionHandler, F: Fn(&Session) -> H + Send + Sync> Attended<H, F> {
    pub(super) fn new(session: Session, open: Arc<F>) -> Self {
        Self { session, open, handler: None }
    }
}

impl<H: SessionHandler, F: Fn(&Session) -> H + Send + Sync> Handler for Attended<H, F> {
    fn begin(&mut self) {
        self.handler.get_or_insert_with(|| (self.open)(&self.session));
    }

    fn message(&mut self, message: MessageRef<'_>) {
        if let Some(handler) = &mut self.handler {
            handler.on_message(&self.session, message);
        }
    }

    fn end(&mut self, cause: &Failure) {
        if let Some(handler) = &mut self.handler {
            handler.on_close(&self.session, cause);
        }
    }
}
