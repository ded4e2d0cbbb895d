//! What was asked and has no answer yet, where answers come in the order of the questions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::waiting::Pending;
use super::{SendError, SendOptions, Sender, Waiting};
use crate::error::Error;
use crate::message::Message;
use crate::queues::question::{Lasts, Place};
use crate::queues::terms::WaitFor;
use crate::sync::Mutex;

/// What was asked and has no answer yet, where an answer has no key and belongs to the oldest question:
/// for protocols like Redis, memcached, MPD and SMTP. A clone is the same table, for one connection. It is
/// like [`Calls`](crate::Calls) but for the key. The [guide](crate::guide::calls) has a program.
///
/// * The order of the questions is that in which they are on the wire, whichever threads ask. Everything
///   that is answered has to be asked through the table; what is sent beside it must have no answer.
/// * A heartbeat of messages is asked first: if its predicate fits the answer to a question, that question
///   gets the next one's. [What to do](crate::guide::heartbeats#beats-and-questions).
/// * A question that was written and given up still takes its answer, which nobody gets. One that was
///   given up, dropped or cleared before it was written takes none.
/// * Once a link is lost no answer comes to what was asked on it: those questions fail with
///   [`Error::NotConnected`], and are not written again, whatever
///   [`Delivery`](crate::config::Delivery) says. Those that were not written go with the next link, unless
///   they are [for this one only](SendOptions::this_link_only). Where the session is resumed
///   ([`ClientBuilder::resume`](crate::ClientBuilder::resume)) all go on.
/// * An answer is told by its link, so one that was received before the link died and is handed in later is
///   not taken for that to a question on the next.
///
/// ```
/// use std::time::Duration;
/// use everlink::{CallsInOrder, Client, Server};
///
/// // answers one line with one, in their order
/// let server = Server::bind("127.0.0.1:0", |session| {
///     for message in &session {
///         let _ = session.send(message.to_string().to_uppercase());
///     }
/// })?;
/// let calls: CallsInOrder<String> = CallsInOrder::new();
/// let answers = calls.clone();
/// let client = Client::builder(format!("ws://{}", server.local_addr()))
///     .on_message(move |_, message| drop(answers.complete(message.link(), message.to_string())))
///     .connect()?;
/// let one = calls.ask(client.sender(), "one")?;
/// let two = calls.ask(client.sender(), "two")?;
/// assert_eq!(two.wait_timeout(Duration::from_secs(5))?, "TWO");
/// assert_eq!(one.wait_timeout(Duration::from_secs(5))?, "ONE");
/// # Ok::<(), everlink::Error>(())
/// ```
pub struct CallsInOrder<V> {
    line: Arc<Mutex<Line<V>>>,
}

struct Line<V> {
    /// The number of the client or session.
    of: Option<u64>,
    /// Those that the outbox may not have accepted yet: one for each thread that asks at the moment.
    asking: Vec<Pending<V>>,
    /// The others that take an answer, by the number of their message: that is the order on the wire.
    asked: BTreeMap<u64, Pending<V>>,
}

impl<V> Line<V> {
    /// Takes a question in, unless the table is in use on another connection.
    fn put(&mut self, of: u64, pending: Pending<V>) -> bool {
        if self.of != Some(of) {
            self.sort();
            if !(self.asked.is_empty() && self.asking.is_empty()) {
                return false;
            }
            self.of = Some(of);
        }
        self.asking.push(pending);
        true
    }

    /// Puts what the outbox has accepted in its place.
    fn sort(&mut self) {
        let asked = &mut self.asked;
        self.asking.retain(|pending| {
            let number = pending.number();
            if number > 0 {
                asked.insert(number, pending.clone());
            }
            number == 0
        });
        while self.asked.first_entry().is_some_and(|oldest| oldest.get().place() == Place::Gone) {
            self.asked.pop_first();
        }
    }

    /// The outbox has refused this one.
    fn take_back(&mut self, pending: &Pending<V>) {
        self.asking.retain(|other| !other.is(pending));
    }

    /// The question to which an answer belongs that came on this link.
    fn oldest(&mut self, link: Option<u32>) -> Option<(u64, Pending<V>)> {
        self.sort();
        self.asked.iter().find_map(|(number, pending)| match pending.place() {
            Place::Gone => None,
            Place::Here => Some(None),
            Place::Written(on) => {
                let is_its_link = link.is_none_or(|link| on <= link);
                Some(is_its_link.then(|| (*number, pending.clone())))
            }
        })?
    }

    /// The same, of which there is one answer less to come.
    fn take_oldest(&mut self, link: Option<u32>) -> Option<Pending<V>> {
        let (number, pending) = self.oldest(link)?;
        self.asked.remove(&number);
        Some(pending)
    }
}

impl<V> CallsInOrder<V> {
    /// An empty table.
    pub fn new() -> Self {
        let line = Line { of: None, asking: Vec::new(), asked: BTreeMap::new() };
        Self { line: Arc::new(Mutex::new(line)) }
    }

    /// Sends a question and returns at once: it neither waits for the answer, nor for room in the outbox.
    /// In a handler it can be asked, too, and waited for elsewhere.
    ///
    /// # Errors
    ///
    /// Those of [`Sender::try_send`], and [`Error::Unsendable`] while the table waits for answers on another
    /// connection. The message comes back with the error.
    pub fn ask(
        &self,
        sender: &Sender,
        message: impl Into<Message>,
    ) -> Result<Waiting<V>, SendError> {
        self.begin(sender, message.into(), SendOptions::new(), WaitFor::Nothing)
    }

    /// Like [`ask`](Self::ask), with options for the message; it waits for room in the outbox as
    /// [`Sender::send_with`] does.
    ///
    /// # Errors
    ///
    /// As for [`ask`](Self::ask), and those of [`Sender::send_with`].
    pub fn ask_with(
        &self,
        sender: &Sender,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<Waiting<V>, SendError> {
        self.begin(sender, message.into(), options, options.wait())
    }

    fn begin(
        &self,
        sender: &Sender,
        message: Message,
        options: SendOptions,
        wait: WaitFor,
    ) -> Result<Waiting<V>, SendError> {
        let end = match sender.end() {
            Ok(end) => end,
            Err(error) => return Err(SendError { message, error }),
        };
        if options.is_for_this_link() && end.outbox().has_session() {
            let reason = "a question for this link only may be answered on the next one of its \
                          session, where it would be out of order";
            return Err(SendError { message, error: Error::Unsendable { reason } });
        }
        let waiting = Waiting::new(sender, options.lasts(Lasts::WithItsLink));
        if !self.line.lock().put(sender.id(), waiting.pending()) {
            let reason = "the table of calls in order waits for answers on another connection";
            return Err(SendError { message, error: Error::Unsendable { reason } });
        }
        let sent = waiting.send(message, &options, wait);
        match &sent {
            Ok(()) => self.line.lock().sort(),
            Err(_) => self.line.lock().take_back(&waiting.pending()),
        }
        sent.map(|()| waiting)
    }

    /// Sends the message and waits for its answer, both together at most for `timeout`:
    /// [`Calls::call`](crate::Calls::call) in order.
    ///
    /// # Errors
    ///
    /// As there, but for [`Error::KeyInUse`], and those of [`ask`](Self::ask).
    pub fn call(
        &self,
        sender: &Sender,
        message: impl Into<Message>,
        timeout: Duration,
    ) -> Result<V, Error> {
        self.call_with(sender, message, SendOptions::new(), timeout)
    }

    /// Like [`call`](Self::call), with options for the message; it never lives longer than
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn call_with(
        &self,
        sender: &Sender,
        message: impl Into<Message>,
        options: SendOptions,
        timeout: Duration,
    ) -> Result<V, Error> {
        sender.check_wait()?;
        let deadline = Instant::now().checked_add(timeout);
        let options = options.within(timeout);
        self.begin(sender, message.into(), options, options.wait())?.finish(deadline)
    }

    /// Hands in the answer to the oldest question, or the last of several, with the link on which it was
    /// received ([`MessageRef::link`](crate::MessageRef::link), [`Message::link`]); without one it is for
    /// whichever link there is. Returns the answer if nobody waits for it: not any more, or never.
    pub fn complete(&self, link: Option<u32>, value: V) -> Option<V> {
        let oldest = self.line.lock().take_oldest(link);
        match oldest {
            None => Some(value),
            Some(pending) => pending.answer(value, true),
        }
    }

    /// Hands in an answer to the oldest question behind which another one comes; returns it if nobody waits
    /// for it. [`complete`](Self::complete) has the last one, and [`end`](Self::end) says that it was.
    pub fn add(&self, link: Option<u32>, value: V) -> Option<V> {
        let oldest = self.line.lock().oldest(link);
        match oldest {
            None => Some(value),
            Some((_, pending)) => pending.answer(value, false),
        }
    }

    /// No more answers come to the oldest question, and the next belongs to the one behind it. Returns
    /// whether anybody waits for that.
    pub fn end(&self, link: Option<u32>) -> bool {
        let oldest = self.line.lock().take_oldest(link);
        oldest.is_some_and(|pending| pending.end())
    }

    /// Has every call that waits fail with [`Error::NotConnected`]. By the time this returns
    /// none of their messages is written any more. Those that were still take their answers.
    pub fn fail_all(&self) {
        let line = self.line.lock();
        line.asking.iter().chain(line.asked.values()).for_each(Pending::fail);
    }

    /// How many calls wait for an answer. It looks at each.
    pub fn len(&self) -> usize {
        let line = self.line.lock();
        let all = line.asking.iter().chain(line.asked.values());
        all.filter(|pending| pending.is_open()).count()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V> Clone for CallsInOrder<V> {
    fn clone(&self) -> Self {
        Self { line: Arc::clone(&self.line) }
    }
}

impl<V> Default for CallsInOrder<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> fmt::Debug for CallsInOrder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallsInOrder").finish_non_exhaustive()
    }
}
