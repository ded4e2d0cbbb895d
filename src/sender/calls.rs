//! What was asked and has no answer yet, by key.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::waiting::Pending;
use super::{SendError, SendOptions, Sender, Waiting};
use crate::error::Error;
use crate::message::Message;
use crate::queues::question::Lasts;
use crate::queues::terms::WaitFor;
use crate::sync::Mutex;

/// No fewer are looked through for those that nobody waits for any more.
const FEW: usize = 64;

/// What was asked and has no answer yet, by a key that question and answer share: for protocols
/// like OCPP, JSON-RPC and those of exchanges. No more than the table: what a question looks like,
/// and where the key is in an answer, is the program's. A clone is the same table. Where answers have no
/// key and come in the order of the questions there is [`CallsInOrder`](crate::CallsInOrder). The
/// [guide](crate::guide::calls) has programs.
///
/// Whoever receives hands answers in with [`complete`](Self::complete), on another thread than the
/// one that waits, or in a handler. The table knows of the client or session by the sender that a question
/// goes through: each question fails when that is at its end. It keeps neither open.
///
/// `V` can be a `Result` where the peer can answer with an error.
///
/// ```no_run
/// use std::time::Duration;
/// use everlink::{Calls, Client};
///
/// # fn main() -> Result<(), everlink::Error> {
/// // a question that went with a link gets no answer on the next; `new()` if it does
/// let calls: Calls<u64, String> = Calls::with_their_link();
/// let answers = calls.clone();
/// let client = Client::builder("ws://localhost:9001/rpc")
///     .on_message(move |_, message| {
///         // "7 the answer"
///         let Some((key, value)) = message.as_text().and_then(|text| text.split_once(' ')) else {
///             return;
///         };
///         if let Ok(key) = key.parse() {
///             answers.complete(&key, value.to_owned());
///         }
///     })
///     .connect()?;
/// let answer = calls.call(client.sender(), 7, "7 what time is it?", Duration::from_secs(5))?;
/// println!("{answer}");
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// `Hash`, `Eq` and `Drop` of the key run with the table locked: they must not use it. If one of them panics,
/// that comes out of the method that was called, and the table goes on. Nothing of the value's runs with a lock.
pub struct Calls<K, V> {
    lasts: Lasts,
    table: Arc<Mutex<Table<K, V>>>,
}

struct Table<K, V> {
    calls: HashMap<K, Pending<V>>,
    /// With so many it is time to look for those that nobody waits for any more.
    crowd: usize,
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// Takes a question in, unless one with this key is open.
    fn put(&mut self, key: K, pending: Pending<V>) -> bool {
        if self.calls.len() >= self.crowd.max(FEW) {
            self.calls.retain(|_, pending| pending.is_open());
            self.crowd = self.calls.len() * 2;
        }
        let is_free = self.calls.get(&key).is_none_or(|present| !present.is_open());
        if is_free {
            self.calls.insert(key, pending);
        }
        is_free
    }
}

impl<K: Eq + Hash, V> Calls<K, V> {
    /// An empty table, whose questions wait until they are answered, given up, or their client or session
    /// is at its end: for a peer that goes on with them after an outage.
    pub fn new() -> Self {
        Self::lasting(Lasts::UntilAnswered)
    }

    /// An empty table, whose questions end with their link: once that is gone, one that was written fails
    /// with [`Error::NotConnected`] and is not written again; those that were not go with the next. This is
    /// what most protocols need. Where the session is resumed
    /// ([`ClientBuilder::resume`](crate::ClientBuilder::resume)) it is the session that counts, and not the
    /// link.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::{Calls, Client, Error, Server};
    ///
    /// // cuts the connection instead of answering
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let _ = session.recv();
    ///     session.abort();
    /// })?;
    /// let calls: Calls<u64, String> = Calls::with_their_link();
    /// let client = Client::builder(format!("ws://{}", server.local_addr()))
    ///     .on_message(|_, _| {})
    ///     .connect()?;
    /// let failed = calls.call(client.sender(), 7, "7 what?", Duration::from_secs(60));
    /// assert!(matches!(failed, Err(Error::NotConnected)));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn with_their_link() -> Self {
        Self::lasting(Lasts::WithItsLink)
    }

    fn lasting(lasts: Lasts) -> Self {
        Self { lasts, table: Arc::new(Mutex::new(Table { calls: HashMap::new(), crowd: 0 })) }
    }

    /// Sends a question and returns at once: it neither waits for the answer, nor for room in the outbox.
    /// In a handler it can be asked, too, and waited for elsewhere.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::{Calls, Client, Server};
    ///
    /// // answers "7 what?" with "7 that"
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     for message in &session {
    ///         let _ = session.send(message.to_string().replace("what?", "that"));
    ///     }
    /// })?;
    /// let calls: Calls<u64, String> = Calls::new();
    /// let answers = calls.clone();
    /// let client = Client::builder(format!("ws://{}", server.local_addr()))
    ///     .on_message(move |_, message| {
    ///         if let Some((key, answer)) = message.as_text().and_then(|text| text.split_once(' ')) {
    ///             if let Ok(key) = key.parse() {
    ///                 answers.complete(&key, answer.to_owned());
    ///             }
    ///         }
    ///     })
    ///     .connect()?;
    /// let seven = calls.ask(client.sender(), 7, "7 what?")?;
    /// let eight = calls.ask(client.sender(), 8, "8 what?")?;
    /// // both are under way
    /// assert_eq!(eight.wait_timeout(Duration::from_secs(5))?, "that");
    /// assert_eq!(seven.wait_timeout(Duration::from_secs(5))?, "that");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::KeyInUse`] if a question with this key has no answer yet, and those of
    /// [`Sender::try_send`]. The message comes back with the error.
    pub fn ask(
        &self,
        sender: &Sender,
        key: K,
        message: impl Into<Message>,
    ) -> Result<Waiting<V>, SendError> {
        self.begin(sender, key, message.into(), SendOptions::new(), WaitFor::Nothing)
    }

    /// Like [`ask`](Self::ask), with options for the message; it waits for room in the outbox as
    /// [`Sender::send_with`] does. A question [for this link only](SendOptions::this_link_only) is
    /// refused without a link, and fails with it, written or not.
    ///
    /// ```
    /// use everlink::config::SendOptions;
    /// use everlink::{Calls, Client, Error};
    ///
    /// // nobody is there
    /// let client = Client::builder("ws://127.0.0.1:1").start()?;
    /// let calls: Calls<u64, String> = Calls::new();
    /// let now = SendOptions::new().this_link_only();
    /// let refused = calls.ask_with(client.sender(), 7, "7 now?", now).unwrap_err();
    /// assert!(matches!(refused.error, Error::NotConnected));
    /// assert_eq!(refused.message, "7 now?");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`ask`](Self::ask), and those of [`Sender::send_with`].
    pub fn ask_with(
        &self,
        sender: &Sender,
        key: K,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<Waiting<V>, SendError> {
        self.begin(sender, key, message.into(), options, options.wait())
    }

    fn begin(
        &self,
        sender: &Sender,
        key: K,
        message: Message,
        options: SendOptions,
        wait: WaitFor,
    ) -> Result<Waiting<V>, SendError> {
        if let Err(error) = sender.end() {
            return Err(SendError { message, error });
        }
        let waiting = Waiting::new(sender, options.lasts(self.lasts));
        if !self.table.lock().put(key, waiting.pending()) {
            return Err(SendError { message, error: Error::KeyInUse });
        }
        waiting.send(message, &options, wait)?;
        Ok(waiting)
    }

    /// Sends the message and waits for the answer to this key, both together at most for `timeout`: an
    /// [`ask`](Self::ask) and its wait. However the call ends, its message is not sent any more after that:
    /// one that has failed is not written to a later link, nor again with
    /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce)
    /// ([`Undelivered::Withdrawn`](crate::failure::Undelivered::Withdrawn)). What had been written by then may
    /// still be executed.
    ///
    /// Another thread has to receive the answer. A client's handler, which receives nothing while it
    /// runs, cannot call; nor can the thread that receives, as a session's handler in its loop does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::{Calls, Client, Server};
    ///
    /// // answers "7 what?" with "7 that"
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     for message in &session {
    ///         let _ = session.send(message.to_string().replace("what?", "that"));
    ///     }
    /// })?;
    /// let calls: Calls<u64, String> = Calls::new();
    /// let answers = calls.clone();
    /// let client = Client::builder(format!("ws://{}", server.local_addr()))
    ///     .on_message(move |_, message| {
    ///         if let Some((key, answer)) = message.as_text().and_then(|text| text.split_once(' ')) {
    ///             if let Ok(key) = key.parse() {
    ///                 answers.complete(&key, answer.to_owned());
    ///             }
    ///         }
    ///     })
    ///     .connect()?;
    /// let answer = calls.call(client.sender(), 7, "7 what?", Duration::from_secs(5))?;
    /// assert_eq!(answer, "that");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]; [`Error::KeyInUse`] if a call with this key has no answer yet; those of
    /// [`Waiting::wait`], and of [`Sender::send`].
    ///
    /// [`Error::WouldWaitForever`] instead of a wait that cannot end: at once, with nothing sent, in a
    /// client's handler, and without a link in any closure that the client calls; a quarter of a second after the message was
    /// queued on a thread that is the only one to have received from this client or session so far,
    /// if none has begun to by then. What was taken from a channel
    /// ([`connect_with_channel`](crate::ClientBuilder::connect_with_channel)) counts for none.
    pub fn call(
        &self,
        sender: &Sender,
        key: K,
        message: impl Into<Message>,
        timeout: Duration,
    ) -> Result<V, Error> {
        self.call_with(sender, key, message, SendOptions::new(), timeout)
    }

    /// Like [`call`](Self::call), with options for the message; it never lives longer than
    /// `timeout`. One [for this link only](SendOptions::this_link_only) is refused without a link,
    /// and fails with it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::config::SendOptions;
    /// use everlink::{Calls, Client, Error};
    ///
    /// // nobody is there
    /// let client = Client::builder("ws://127.0.0.1:1").start()?;
    /// let calls: Calls<u64, String> = Calls::new();
    /// let now = SendOptions::new().this_link_only();
    /// let failed = calls.call_with(client.sender(), 7, "7 now?", now, Duration::from_secs(60));
    /// assert!(matches!(failed, Err(Error::NotConnected)));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call); [`Error::NotConnected`] without a link.
    pub fn call_with(
        &self,
        sender: &Sender,
        key: K,
        message: impl Into<Message>,
        options: SendOptions,
        timeout: Duration,
    ) -> Result<V, Error> {
        let deadline = Instant::now().checked_add(timeout);
        sender.check_wait_until(deadline)?;
        let options = options.within(timeout);
        let waiting = self.begin(sender, key, message.into(), options, options.wait())?;
        waiting.finish(deadline)
    }

    /// Hands in the answer, or the last of several; returns it if nobody waits for it: not any more, or
    /// never.
    ///
    /// ```
    /// let calls: everlink::Calls<u64, &str> = everlink::Calls::new();
    /// // nobody has asked, or nobody waits any more
    /// assert_eq!(calls.complete(&7, "an answer"), Some("an answer"));
    /// ```
    pub fn complete(&self, key: &K, value: V) -> Option<V> {
        let call = self.table.lock().calls.remove_entry(key);
        match call {
            None => Some(value),
            Some((_, pending)) => pending.answer(value, true),
        }
    }

    /// Hands in an answer behind which another one may come; returns it if nobody waits for it.
    /// [`complete`](Self::complete) has the last one, and [`end`](Self::end) says that it was.
    pub fn add(&self, key: &K, value: V) -> Option<V> {
        let call = self.table.lock().calls.get(key).cloned();
        match call {
            None => Some(value),
            Some(pending) => pending.answer(value, false),
        }
    }

    /// No more answers come to this key. Returns whether anybody waits for that.
    pub fn end(&self, key: &K) -> bool {
        let call = self.table.lock().calls.remove_entry(key);
        call.is_some_and(|(_, pending)| pending.end())
    }

    /// Has every call that waits fail with [`Error::NotConnected`]. By the time this returns
    /// none of their messages is written any more.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use everlink::{Calls, Error};
    ///
    /// let calls: Calls<u64, String> = Calls::new();
    /// let asked = calls.ask(client.sender(), 1, "1?")?;
    /// calls.fail_all();
    /// assert!(matches!(asked.try_wait(), Err(Error::NotConnected)));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn fail_all(&self) {
        let calls = std::mem::take(&mut self.table.lock().calls);
        calls.values().for_each(Pending::fail);
    }

    /// How many calls wait for an answer. It looks at each.
    pub fn len(&self) -> usize {
        self.table.lock().calls.values().filter(|pending| pending.is_open()).count()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Clone for Calls<K, V> {
    fn clone(&self) -> Self {
        Self { lasts: self.lasts, table: Arc::clone(&self.table) }
    }
}

impl<K: Eq + Hash, V> Default for Calls<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for Calls<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}
