//! A client: what a program holds of it, and what keeps it connected.

mod after;
mod attempt;
mod builder;
mod close;
mod core;
mod event;
mod events;
mod handle;
mod held;
mod iter;
mod journal;
mod life;
mod login;
#[cfg(feature = "serde")]
mod record;
mod route;
mod status;
mod streak;
mod watch;

pub use builder::ClientBuilder;
pub use close::CloseReport;
pub use event::{Event, Next};
pub use events::Events;
pub use handle::Client;
pub use held::SessionStart;
pub use iter::Iter;
pub use login::{LoginError, LoginSession};
pub use status::{ClientStatus, State};
