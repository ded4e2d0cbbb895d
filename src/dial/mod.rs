//! From a name to a connected socket: lookup, addresses in turn, proxies, and the program's own
//! connector. `close()` interrupts every one of them.

mod addresses;
mod connect;
mod connector;
mod interrupt;
mod proxy;
mod resolve;

pub(crate) use addresses::Addresses;
pub(crate) use connect::Dialer;
pub(crate) use connector::Connector;
pub(crate) use interrupt::Interrupt;
pub(crate) use proxy::Environment;
pub use proxy::Proxy;
pub(crate) use resolve::{Resolver, System};
