//! A client: what a program holds of it, and what keeps it connected.

mod attempt;
mod builder;
mod client_handle;
mod core;
mod endpoints;
mod event;
mod events;
mod handle;
mod life;
mod login;
mod network;
mod route;
mod session;
mod status;
mod streak;

pub use builder::ClientBuilder;
pub use client_handle::ClientHandle;
pub use event::Event;
pub use events::Events;
pub use handle::{Client, CloseReport};
pub use login::{LoginError, LoginSession};
pub use session::SessionStart;
pub use status::{ClientStatus, State};
