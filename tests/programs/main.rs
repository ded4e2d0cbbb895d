//! Whole programs, the examples, which are built first. A program of its own: beside a compiler the
//! times that other tests promise do not hold.

#[path = "../support/mod.rs"]
mod support;

mod chat;
mod examples;
mod monitor;
mod prometheus;
#[cfg(feature = "tls")]
mod protocols;
mod services;
