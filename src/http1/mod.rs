//! HTTP/1.1 as far as an opening handshake needs it: URLs, heads, the beginning of a body, cookies.

mod body;
mod cookies;
mod endpoint;
pub(crate) mod head;
mod headers;
mod reference;
mod url;

pub(crate) use body::read as read_body;
pub(crate) use cookies::Jar;
pub(crate) use endpoint::Endpoint;
pub(crate) use headers::{Header, Headers, line};
pub(crate) use url::{Authority, Credentials, absolute, split};
