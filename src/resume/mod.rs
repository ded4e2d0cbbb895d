//! Sessions that survive their connection: what goes over the wire, what both ends count, and what
//! each of them decides. No sockets, no threads and no queues in here.

mod client;
mod counts;
mod header;
mod report;
mod server;
#[cfg(test)]
mod simulation_tests;
#[cfg(all(test, shuttle))]
mod takeover_model;
mod token;

pub(crate) use client::{Verdict, judge};
pub(crate) use counts::Counts;
pub(crate) use header::{Answer, HEADER, Offer};
pub(crate) use report::Report;
pub(crate) use server::{After, Death, admits, after_death};
pub(crate) use token::Token;
