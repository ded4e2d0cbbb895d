//! One question: who waits for its answers, and what its table holds of it.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{SendError, SendOptions, Sender};
use crate::error::Error;
use crate::message::Message;
use crate::policy::Undelivered;
use crate::queues::question::{Fate, Lasts, NoAnswer, Place, Question, Unanswered};
use crate::queues::terms::{Terms, WaitFor};
use crate::sync::Mutex;

/// How long a wait on the one thread that receives goes on for another thread to begin to.
const NO_RECEIVER: Duration = Duration::from_millis(250);

/// A question that was asked, from [`Calls::ask`](crate::Calls::ask) or
/// [`CallsInOrder::ask`](crate::CallsInOrder::ask). Dropping it gives the answer up: a message that is not
/// written yet is withdrawn from the outbox and makes room, and one that would have to be written again is
/// not ([`Undelivered::Withdrawn`](crate::failure::Undelivered::Withdrawn)).
///
/// Whatever ends the wait wakes every thread that waits: the answer, the end of the client or session, that
/// of the link where the question lasts no longer, and that its message was dropped or has expired.
///
/// A question may have several answers: each wait takes the next one, and as an iterator it ends behind
/// the [last](crate::Calls::complete). An error is the last item, too.
///
/// ```
/// use std::time::Duration;
/// use everlink::{Calls, Client, Error, Server};
///
/// // counts up to what it is asked for, and says when it is done
/// let server = Server::bind("127.0.0.1:0", |session| {
///     for message in &session {
///         for number in 1..=message.to_string().parse().unwrap_or(0) {
///             let _ = session.send(number.to_string());
///         }
///         let _ = session.send("done");
///     }
/// })?;
/// let calls: Calls<&str, String> = Calls::new();
/// let answers = calls.clone();
/// let client = Client::builder(format!("ws://{}", server.local_addr()))
///     .on_message(move |_, message| match message.as_text() {
///         Some("done") => drop(answers.end(&"count")),
///         Some(number) => drop(answers.add(&"count", number.to_owned())),
///         None => {}
///     })
///     .connect()?;
/// let numbers = calls.ask(client.sender(), "count", "3")?;
/// // something else can be done meanwhile
/// assert_eq!(numbers.wait_timeout(Duration::from_secs(5))?, "1");
/// let rest: Vec<String> = numbers.collect::<Result<_, Error>>()?;
/// assert_eq!(rest, ["2", "3"]);
/// # Ok::<(), everlink::Error>(())
/// ```
#[must_use = "dropping it gives the answer up, and takes the question back if it is not written yet"]
pub struct Waiting<V> {
    sender: Sender,
    pending: Pending<V>,
    /// Whether the iterator has had its last item.
    is_over: bool,
}

impl<V> Waiting<V> {
    pub(super) fn new(sender: &Sender, lasts: Lasts) -> Self {
        Self { sender: sender.clone(), pending: Pending::new(lasts), is_over: false }
    }

    /// The other end, for a table.
    pub(super) fn pending(&self) -> Pending<V> {
        self.pending.clone()
    }

    /// Sends the question.
    pub(super) fn send(
        &self,
        message: Message,
        options: &SendOptions,
        wait: WaitFor,
    ) -> Result<(), SendError> {
        let question = Some(Arc::clone(&self.pending.question));
        self.sender.push(message, Terms { question, ..options.terms(None) }, wait)
    }

    /// Waits for the next answer, as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Error::NoMoreAnswers`] behind the last one; [`Error::NotConnected`] if the question's
    /// [link](crate::config::SendOptions::this_link_only) is gone, or after
    /// [`fail_all`](crate::Calls::fail_all); [`Error::Undelivered`] if its message will not be written, which
    /// says why; [`Error::Closed`] once the client or session is at its end. [`Error::GaveUp`], at once, while
    /// the client has given up: the question stays, and can be waited for again after
    /// [`reconnect`](crate::Client::reconnect).
    ///
    /// [`Error::WouldWaitForever`] instead of a wait that cannot end, as
    /// [`Calls::call`](crate::Calls::call) says; the question stays here, too.
    pub fn wait(&self) -> Result<V, Error> {
        self.wait_until(None)
    }

    /// Waits for the next answer, at most for `timeout`. The question stays when that is over.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), and [`Error::Timeout`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<V, Error> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Waits for the next answer until `deadline`: for several questions that have one time together.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), and [`Error::Timeout`].
    pub fn wait_deadline(&self, deadline: Instant) -> Result<V, Error> {
        self.wait_until(Some(deadline))
    }

    /// The next answer if there is one now. It never waits, and may be called in a handler.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait), but for [`Error::WouldWaitForever`].
    pub fn try_wait(&self) -> Result<Option<V>, Error> {
        self.sender.end()?;
        match self.next_until(Some(Instant::now())) {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the one answer of a call, and gives it up at the end: with [`Error::Timeout`] nobody has
    /// handed in any.
    pub(super) fn finish(self, deadline: Option<Instant>) -> Result<V, Error> {
        let mut result = self.wait_until(deadline);
        if matches!(result, Err(Error::Timeout)) {
            // from here on nobody can
            let is_late = self.pending.question.fail(Unanswered::NotConnected);
            result = match self.pending.take() {
                Some(answer) => Ok(answer),
                None if is_late => Err(Error::Timeout),
                None => self.next_until(None),
            };
        }
        match result {
            // its time to live ends with the call
            Err(Error::Undelivered(Undelivered::Expired)) => Err(Error::Timeout),
            result => result,
        }
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<V, Error> {
        if let Some(answer) = self.try_wait()? {
            return Ok(answer);
        }
        self.sender.check_wait_until(deadline)?;
        let is_alone = || self.sender.end.plain().is_received_here_alone();
        let patience = Instant::now() + NO_RECEIVER;
        if is_alone() && deadline.is_none_or(|deadline| deadline > patience) {
            match self.next_until(Some(patience)) {
                Err(Error::Timeout) if is_alone() => {
                    let reason = "no thread but this one receives, so nobody can take the answer: \
                                  wait on another thread, or receive on one";
                    return Err(Error::WouldWaitForever { reason });
                }
                Err(Error::Timeout) => {}
                result => return result,
            }
        }
        self.next_until(deadline)
    }

    fn next_until(&self, deadline: Option<Instant>) -> Result<V, Error> {
        let wait = || self.pending.question.wait(deadline, || self.pending.take());
        let mut taken = wait();
        if let Err(NoAnswer::Due) = taken {
            // nobody else looks while nothing is written
            self.sender.end()?.outbox().drop_expired();
            taken = wait();
        }
        taken.map_err(|nothing| match nothing {
            NoAnswer::TimedOut | NoAnswer::Due => Error::Timeout,
            NoAnswer::GaveUp(cause) => Error::GaveUp(cause),
            NoAnswer::Ended(Fate::Failed(Unanswered::NotConnected)) => Error::NotConnected,
            NoAnswer::Ended(Fate::Failed(Unanswered::Closed)) => Error::Closed,
            NoAnswer::Ended(Fate::Failed(Unanswered::Undelivered(why))) => Error::Undelivered(why),
            NoAnswer::Ended(Fate::Answered | Fate::Open) => Error::NoMoreAnswers,
        })
    }
}

/// The answers as they come, each waited for as long as it takes. Behind the last there is nothing; where
/// more should have come, the error is the last item.
impl<V> Iterator for Waiting<V> {
    type Item = Result<V, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = match self.wait() {
            Err(Error::NoMoreAnswers) => None,
            result => Some(result),
        };
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<V> FusedIterator for Waiting<V> {}

impl<V> Drop for Waiting<V> {
    fn drop(&mut self) {
        // in the child of a `fork` nobody touches its lock
        let Ok(end) = self.sender.end() else { return };
        self.pending.question.fail(Unanswered::NotConnected);
        end.outbox().withdraw(&self.pending.question);
        // here, where nothing is locked: no table has values of the program's to drop
        while self.pending.take().is_some() {}
    }
}

impl<V> fmt::Debug for Waiting<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// A question as its table has it. None of the program's code runs in here but where it is dropped.
pub(super) struct Pending<V> {
    question: Arc<Question>,
    /// Those that nobody has taken yet. Its lock is taken with that of the question, and no other in it.
    answers: Arc<Mutex<VecDeque<V>>>,
}

impl<V> Pending<V> {
    fn new(lasts: Lasts) -> Self {
        Self { question: Arc::new(Question::new(lasts)), answers: Arc::default() }
    }

    fn take(&self) -> Option<V> {
        self.answers.lock().pop_front()
    }

    /// Hands an answer over, or back if nobody waits for it.
    pub(super) fn answer(&self, value: V, is_last: bool) -> Option<V> {
        let mut value = Some(value);
        self.question.answer(is_last, || self.answers.lock().extend(value.take()));
        value
    }

    /// No more answers come. Returns whether somebody waits for that.
    pub(super) fn end(&self) -> bool {
        self.question.answer(true, || {})
    }

    pub(super) fn fail(&self) {
        self.question.fail(Unanswered::NotConnected);
    }

    pub(super) fn is_open(&self) -> bool {
        self.question.is_open()
    }

    /// Whether the other is the same question.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.question, &other.question)
    }

    /// The number of the message, once it is accepted; 0 before that.
    pub(super) fn number(&self) -> u64 {
        self.question.number()
    }

    pub(super) fn place(&self) -> Place {
        self.question.place()
    }
}

impl<V> Clone for Pending<V> {
    fn clone(&self) -> Self {
        Self { question: Arc::clone(&self.question), answers: Arc::clone(&self.answers) }
    }
}
