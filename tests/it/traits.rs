//! What every public type is: shown, and handed to other threads; and what each is besides.

use std::error::Error as StdError;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::iter::FusedIterator;

use everlink::config::*;
use everlink::failure::*;
use everlink::stats::*;
use everlink::transport::*;
use everlink::*;

/// Asserts that each type has all of the traits: a list that compiles.
macro_rules! are {
    ($($trait:path),+ => $($type:ty),+ $(,)?) => {
        const _: () = {
            const fn is<T: $($trait +)+ ?Sized>() {}
            $(is::<$type>();)+
        };
    };
}

are!(Debug, Send, Sync, Unpin => Client, ClientStatus, CloseReport, Event, Events, Iter<'_>, LoginError,
    Next, State, Proxy, Error, Body, Decision, Failure, FailureKind, HandshakeError, ProxyError,
    TlsError, OpeningRequest, ClientStats, SessionStats, Field, FieldValue, Rates, RoundTrips, FailureCounts, CloseCode, CloseFrame, Message, MessageRef<'_>, Payload, Text,
    AgreedCompression, Backoff, Delivery, Framing, Heartbeat, Jitter, LengthField, Limits, Overflow, Packet, Prefix, Queue,
    SocketOptions, Timeouts, Undelivered, Writes, Receipt, Calls<u64, String>, CallsInOrder<String>, Waiting<String>, SendError,
    SendOptions, Sender, Answer, Incoming, Server, ServerBuilder, ServerHandle, ServerStats, Session,
    ShutdownReport, SlowSession, Bytes);
#[cfg(feature = "deflate")]
are!(Debug, Send, Sync, Unpin, Clone => Compression);
#[cfg(feature = "tls")]
are!(Debug, Send, Sync, Unpin, Clone, Default => Tls);
#[cfg(feature = "chaos")]
are!(Debug, Send, Sync, Unpin => chaos::FaultProxy, chaos::Faults, chaos::Cut, chaos::Direction);

// hooks that may change what they have captured, and halves of a connection, are one thread's at a
// time
are!(Debug, Send => ClientBuilder, LoginSession<'_>, Duplex);

// handles, and what was found out
are!(Clone => Client, ClientStatus, CloseReport, Event, Proxy, OpeningRequest, Backoff, Framing, Heartbeat,
    Receipt, Calls<u64, String>, CallsInOrder<String>, Sender, Answer, Incoming, ServerHandle, Session, Message, Payload, Text,
    Body);

// values: what they are is all there is to them
are!(Clone, Eq, Hash => Next, State, Body, Decision, FailureKind, ClientStats, SessionStats, Field, FieldValue, RoundTrips, FailureCounts, CloseCode, CloseFrame, Message,
    Payload, Text, AgreedCompression, Delivery, Jitter, LengthField, Limits, Overflow, Prefix, Queue,
    SocketOptions, Timeouts, Undelivered, Writes, SendOptions, ServerStats, ShutdownReport,
    SlowSession);
are!(Copy => Field, FieldValue, Rates, RoundTrips, FailureCounts, Next, State, FailureKind, CloseCode, AgreedCompression, Delivery, Jitter, LengthField,
    Limits, Overflow, Prefix, Queue, SocketOptions, Timeouts, Undelivered, Writes, SendOptions,
    ServerStats, ShutdownReport, SlowSession);
are!(Eq => Proxy, CloseReport);
#[cfg(feature = "chaos")]
are!(Copy, Eq, Hash => chaos::Faults, chaos::Cut, chaos::Direction);

are!(Default => CloseReport, ClientStats, SessionStats, Rates, FailureCounts, Payload, Text, Backoff, Delivery, Heartbeat, Jitter, Limits, Overflow,
    Queue, SocketOptions, Timeouts, Writes, SendOptions, Calls<u64, String>, CallsInOrder<String>, ServerStats,
    SlowSession, Body);

// what people are shown
are!(Display => Field, FieldValue, Event, State, Next, FailureKind, CloseCode, CloseFrame, Message, MessageRef<'_>, Text);
are!(StdError => Error, Failure, HandshakeError, ProxyError, TlsError, SendError, LoginError, Undelivered);

are!(AsRef<[u8]> => Message, MessageRef<'_>, Payload, Body);
are!(FusedIterator => Events, Iter<'_>, Waiting<String>);

// what a program replaces is an object that threads share
are!(Send, Sync => dyn Resolve, dyn Connect, dyn Hangup);

#[test]
fn what_the_lists_say_compiles() {
    // and nothing is shown as nothing
    for shown in [
        format!("{:?}", Timeouts::new()),
        format!("{:?}", Queue::new()),
        format!("{:?}", Text::default()),
        format!("{:?}", Client::builder("ws://127.0.0.1:9")),
        format!("{:?}", Server::builder()),
        format!("{:?}", Calls::<u64, String>::new()),
    ] {
        assert!(!shown.is_empty());
    }
}

#[test]
fn each_public_name_has_one_path_and_says_something_at_the_root() {
    let record = include_str!("../api/everlink.txt");
    let mut paths = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for line in record.lines() {
        let item = line.split(" pub ").last().unwrap_or(line).trim_start_matches("pub ");
        let Some((kind, path)) = item.split_once(' ') else { continue };
        if !matches!(kind, "struct" | "enum" | "trait" | "union" | "use") {
            continue;
        }
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        let path = path[..end.unwrap_or(path.len())].trim_end_matches(':');
        paths.entry(path.rsplit("::").next().unwrap_or(path)).or_default().push(path);
    }
    assert!(paths.len() > 70, "the record is read: {paths:?}");
    let twice: Vec<_> = paths.values().filter(|paths| paths.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for vague in ["Body", "Field", "Next", "Prefix", "Queue", "Rates", "Writes", "Reason"] {
        assert_eq!(paths[vague][0].split("::").count(), 3, "{vague} says little at the root");
    }
}
