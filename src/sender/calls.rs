//! What was asked and has no answer yet.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::{SendOptions, Sender};
use crate::error::Error;
use crate::message::Message;
use crate::queues::terms::{Terms, Withdrawal};
use crate::sync::Mutex;

/// How long a call on the one thread that receives waits for another thread to begin to.
const NO_RECEIVER: Duration = Duration::from_millis(250);

/// What was asked and has no answer yet, by a key that question and answer share: for protocols
/// like OCPP, JSON-RPC and those of exchanges. No more than the table: what a question looks like,
/// and where the key is in an answer, is the program's. A clone is the same table.
///
/// Whoever receives hands answers in with [`complete`](Self::complete), on another thread than the
/// one that asks, or in a handler.
///
/// ```no_run
/// use std::time::Duration;
/// use everlink::{Calls, Client, Event};
///
/// # fn main() -> Result<(), everlink::Error> {
/// let calls: Calls<u64, String> = Calls::new();
/// let (answers, pending) = (calls.clone(), calls.clone());
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
///     // a question that went with a link gets no answer on the next; leave this out if it does
///     .on_event(move |_, event| {
///         if matches!(event, Event::Disconnected { .. }) {
///             pending.fail_all();
///         }
///     })
///     .connect()?;
/// let answer = calls.call(client.sender(), 7, "7 what time is it?", Duration::from_secs(5))?;
/// println!("{answer}");
/// # Ok(())
/// # }
/// ```
pub struct Calls<K, V> {
    pending: Arc<Mutex<Pending<K, V>>>,
}

struct Pending<K, V> {
    calls: HashMap<K, Pledge<V>>,
    next: u64,
}

/// What the table knows of a call. However it leaves the table, its message is not sent any more.
struct Pledge<V> {
    /// Tells the call from a later one with its key.
    number: u64,
    answer: crossbeam_channel::Sender<V>,
    question: Withdrawal,
}

impl<V> Drop for Pledge<V> {
    fn drop(&mut self) {
        // before the caller learns that its call has ended: its next link may be up by then
        self.question.withdraw();
    }
}

/// One call, which leaves the table however it ends.
struct Call<'a, K: Eq + Hash, V> {
    calls: &'a Calls<K, V>,
    key: &'a K,
    number: u64,
    sender: &'a Sender,
    question: Withdrawal,
}

impl<K: Eq + Hash, V> Call<'_, K, V> {
    /// Whether it was still there: then nobody has answered it, and nobody will.
    fn leave(&self) -> bool {
        let mut pending = self.calls.pending.lock();
        let is_there =
            pending.calls.get(self.key).is_some_and(|pledge| pledge.number == self.number);
        if is_there {
            pending.calls.remove(self.key);
        }
        is_there
    }
}

impl<K: Eq + Hash, V> Drop for Call<'_, K, V> {
    fn drop(&mut self) {
        self.leave();
        // makes room at once
        if let Ok(end) = self.sender.end() {
            end.outbox().withdraw(&self.question);
        }
    }
}

impl<K: Eq + Hash, V> Calls<K, V> {
    /// An empty table.
    pub fn new() -> Self {
        let pending = Pending { calls: HashMap::new(), next: 0 };
        Self { pending: Arc::new(Mutex::new(pending)) }
    }

    /// Sends the message and waits for the answer to this key, both together at most for `timeout`.
    /// However the call ends, its message is not sent any more after that: one that has failed
    /// is not written to a later link, nor again with
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
    /// [`Error::Timeout`]; [`Error::NotConnected`] after [`fail_all`](Self::fail_all);
    /// [`Error::KeyInUse`] if a call with this key has no answer yet; and those of
    /// [`Sender::send`].
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
    ) -> Result<V, Error>
    where
        K: Clone,
    {
        self.call_with(sender, key, message, SendOptions::new(), timeout)
    }

    /// Like [`call`](Self::call), with options for the message; it never lives longer than
    /// `timeout`. One [for this link only](SendOptions::this_link_only) is refused without a link,
    /// and not written to another one: fail the call with [`fail_all`](Self::fail_all) then, or
    /// it waits until its time is over.
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
    ) -> Result<V, Error>
    where
        K: Clone,
    {
        sender.end()?;
        sender.check_wait()?;
        let deadline = Instant::now().checked_add(timeout);
        let (answer, answered) = bounded(1);
        let mut pending = self.pending.lock();
        if pending.calls.contains_key(&key) {
            return Err(Error::KeyInUse);
        }
        let number = pending.next;
        pending.next += 1;
        let question = Withdrawal::default();
        let pledge = Pledge { number, answer, question: question.clone() };
        pending.calls.insert(key.clone(), pledge);
        drop(pending);
        let call = Call { calls: self, key: &key, number, sender, question: question.clone() };
        let options = options.within(timeout);
        let terms = Terms { withdrawal: Some(question), ..options.terms(None) };
        sender.push(message.into(), terms, options.wait())?;
        let wait = |deadline: Option<Instant>| match deadline {
            Some(deadline) => answered.recv_deadline(deadline),
            None => answered.recv().map_err(Into::into),
        };
        if sender.end.plain().is_received_here_alone() && timeout > NO_RECEIVER {
            if let Ok(answer) = wait(Some(Instant::now() + NO_RECEIVER)) {
                return Ok(answer);
            }
            if sender.end.plain().is_received_here_alone() && call.leave() {
                let reason = "no thread but this one receives, so nobody can take the answer: call \
                              on another thread, or receive on one";
                return Err(Error::WouldWaitForever { reason });
            }
        }
        match wait(deadline) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) if call.leave() => Err(Error::Timeout),
            // or its answer is being handed in at this moment
            Err(_) => answered.recv().map_err(|_| Error::NotConnected),
        }
    }

    /// Hands in the answer; returns it if nobody waits for it: not any more, or never.
    ///
    /// ```
    /// let calls: everlink::Calls<u64, &str> = everlink::Calls::new();
    /// // nobody has asked, or nobody waits any more
    /// assert_eq!(calls.complete(&7, "an answer"), Some("an answer"));
    /// ```
    pub fn complete(&self, key: &K, value: V) -> Option<V> {
        let call = self.pending.lock().calls.remove(key);
        let Some(call) = call else { return Some(value) };
        call.answer.try_send(value).err().map(|error| error.into_inner())
    }

    /// Has every call that waits fail with [`Error::NotConnected`]. By the time this returns
    /// none of their messages is written any more.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use std::thread;
    /// use std::time::Duration;
    /// use everlink::{Calls, Error};
    ///
    /// let calls: Calls<u64, String> = Calls::new();
    /// let (asking, sender) = (calls.clone(), client.sender().clone());
    /// let asked = thread::spawn(move || asking.call(&sender, 1, "1?", Duration::from_secs(60)));
    /// while calls.is_empty() {
    ///     thread::yield_now();
    /// }
    /// calls.fail_all();
    /// assert!(matches!(asked.join().unwrap(), Err(Error::NotConnected)));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn fail_all(&self) {
        let calls = std::mem::take(&mut self.pending.lock().calls);
        drop(calls);
    }

    /// How many calls wait for an answer.
    pub fn len(&self) -> usize {
        self.pending.lock().calls.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Clone for Calls<K, V> {
    fn clone(&self) -> Self {
        Self { pending: Arc::clone(&self.pending) }
    }
}

impl<K: Eq + Hash, V> Default for Calls<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for Calls<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("pending", &self.pending.lock().calls.len()).finish()
    }
}
