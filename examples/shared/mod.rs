//! What `cat` and `echo_server` have in common: how messages are set off on `tcp://`.

use clap::ValueEnum;
use everlink::config::{Framing, Prefix};

/// A framing by its name on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FramingName {
    /// Lines
    Lines,
    /// A 16-bit big-endian length before each message
    U16,
    /// A 32-bit big-endian length before each message
    U32,
    /// Whatever a read yields
    Raw,
}

impl From<FramingName> for Framing {
    fn from(name: FramingName) -> Self {
        match name {
            FramingName::Lines => Self::lines(),
            FramingName::U16 => Self::length_prefixed(Prefix::U16),
            FramingName::U32 => Self::length_prefixed(Prefix::U32),
            FramingName::Raw => Self::raw(),
        }
    }
}
