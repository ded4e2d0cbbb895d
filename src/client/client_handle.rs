//! A client, as its own callbacks see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::error::Error;
use crate::message::Message;
use crate::sender::{Sender, sends};
use crate::sync::Ours;

/// The client itself, lent to its callbacks [`on_event`](crate::ClientBuilder::on_event) and
/// [`decide`](crate::ClientBuilder::decide), which are there before
/// [`Client`](crate::Client) is.
///
/// It sends, reconnects and starts to close. It does not keep the client open, and a clone may be kept:
/// once the client is closed, its calls say [`Error::Closed`](crate::Error::Closed). Called by a
/// callback nothing waits.
///
/// ```
/// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
/// use everlink::{Client, Event};
///
/// let client = Client::builder(&url)
///     .on_event(|client, event| {
///         if let Event::Connected { link, .. } = event {
///             // behind what is queued already; what is to go out first belongs into `login`
///             let _ = client.send(format!("this is link {link}"));
///         }
///     })
///     .connect()?;
/// assert_eq!(client.recv()?, "this is link 1");
/// # Ok::<(), everlink::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientHandle {
    core: Ours<Core>,
    sender: Sender,
}

impl ClientHandle {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let sender = Sender::new(Arc::<Core>::clone(core));
        Self { core: Ours::new(Arc::clone(core)), sender }
    }

    /// The number of the client: [`Client::id`](crate::Client::id).
    pub fn id(&self) -> u64 {
        self.sender.id()
    }

    sends!();

    /// [`Client::reconnect`](crate::Client::reconnect): makes a new link now.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn reconnect(&self) -> Result<(), Error> {
        self.core.get().ok_or(Error::Closed)?.reconnect()
    }

    /// [`Client::set_endpoints`](crate::Client::set_endpoints): where the next attempt goes.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_endpoints(
        &self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        self.core.get().ok_or(Error::Closed)?.set_endpoints(urls)
    }
}

impl fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}
