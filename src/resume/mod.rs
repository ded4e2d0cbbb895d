//! Sessions that survive their connection: what their ends say to each other, what both count, and what
//! a client makes of an answer. No sockets, no threads and no queues in here. The protocol is written down
//! in `PROTOCOL.md`.

mod answer;
mod client;
mod counts;
mod note;
mod number;
mod offer;
pub(crate) mod subprotocol;
mod token;
mod words;

pub(crate) use answer::Answer;
pub(crate) use client::{Verdict, judge};
pub(crate) use counts::{Counts, Impossible};
pub(crate) use note::Note;
pub(crate) use offer::Offer;
pub(crate) use token::Token;
