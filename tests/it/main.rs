//! All tests that share a process: a module for each promise. What needs a process of its own, for it
//! counts what the whole process has or installs what there is once (a logger, a recorder), is a file
//! beside this folder, or a test that begins with [`support::alone`].

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod beats;
mod callbacks;
mod calls;
mod calls_in_order;
mod chaos;
mod compression;
mod confirmations;
mod confirming;
mod connect;
mod decisions;
mod delivery;
mod dial;
mod direct;
#[cfg(unix)]
mod doors;
mod drain;
mod effects;
mod endpoints;
mod ends;
mod faults;
mod framing;
mod heartbeat;
mod herd;
#[cfg(unix)]
mod interop;
#[cfg(unix)]
mod interop_sessions;
mod json;
mod links;
mod messages;
#[cfg(unix)]
mod namespaces;
mod observability;
mod opening;
mod options;
mod readable;
mod receive_rates;
mod reconnect;
mod reports;
mod requests;
mod resume;
mod resume_claims;
mod resume_client;
mod resume_client_ends;
mod resume_cuts;
mod resume_ends;
mod resume_framed;
mod resume_places;
mod resume_server;
mod resume_tcp;
mod resume_wire;
#[cfg(unix)]
mod reverse_proxy;
mod rooms;
mod sending;
mod server;
mod server_handle;
mod services;
mod session_handlers;
mod shutdown;
mod stats;
mod status;
mod tcp;
mod tls;
mod tls_server;
mod too_large;
mod topics;
mod traits;
mod writing;
