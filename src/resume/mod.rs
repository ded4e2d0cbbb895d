//! Sessions that survive their connection: what goes over the wire, what both ends count, and what
//! each of them decides. No sockets, no threads and no queues in here.

#![allow(dead_code, unused_imports, reason = "offers, answers and notes are not spoken yet")]

mod answer;
mod client;
mod counts;
mod header;
mod note;
mod number;
mod offer;
mod report;
mod server;
#[cfg(test)]
mod simulation_tests;
pub(crate) mod subprotocol;
#[cfg(all(test, shuttle))]
mod takeover_model;
mod token;
mod words;

pub(crate) use client::{Verdict, judge};
pub(crate) use counts::Counts;
pub(crate) use header::{Answer, HEADER, Offer};
pub(crate) use number::MAX_NUMBER;
pub(crate) use report::Report;
pub(crate) use server::{After, Death, admits, after_death};
pub(crate) use token::Token;

/// The messages of a session, until those of the header are gone.
pub(crate) mod talk {
    pub(crate) use super::{answer::Answer, note::Note, offer::Offer};
}
