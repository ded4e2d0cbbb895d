//! A chat of several server processes behind haproxy, with Redis between them: see `README.md`.

mod bench;
mod check;
mod client;
mod faults;
mod node;
mod presence;
mod processes;
mod room;
mod store;
mod stream;
mod wire;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Parser, Subcommand};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Port 0: a free one.
pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[derive(Debug, Parser)]
#[command(about = "A chat of several everlink servers, with Redis between them")]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start it all, for a look in a browser
    Up {
        /// Where haproxy listens; port 0 takes a free one
        #[arg(default_value = "127.0.0.1:9008")]
        address: SocketAddr,
        /// How many server processes
        #[arg(long, default_value = "2", value_parser = clap::value_parser!(u8).range(1..=16))]
        nodes: u8,
    },
    /// Kill servers under load, break Redis, and fail if a message was lost or came twice
    Check {
        /// How many clients
        #[arg(long, default_value = "40")]
        clients: usize,
        /// How many messages each of them sends
        #[arg(long, default_value = "50")]
        messages: u64,
    },
    /// Measure: messages a second through Redis, and how long each takes to all
    Bench {
        /// How many clients on each of two nodes
        #[arg(long, default_value = "200")]
        clients: usize,
        /// How many messages a second are sent to all of them
        #[arg(long, default_value = "50")]
        rate: u64,
    },
    /// One server process
    Node(node::Options),
}

fn main() -> ExitCode {
    let filter = env_logger::Env::default().default_filter_or("warn,everlink=error");
    env_logger::Builder::from_env(filter).init();
    match run(Options::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<()> {
    let (stop, stopped) = Stop::new();
    let signals = stop.clone();
    ctrlc::set_handler(move || signals.stop())?;
    match what {
        What::Up { address, nodes } => up(address, nodes.into(), &stopped),
        What::Check { clients, messages } => check::run(clients, messages, &stopped),
        What::Bench { clients, rate } => bench::run(clients, rate, &stopped),
        What::Node(options) => node::run(&options, stop, &stopped),
    }
}

/// Whoever is told that the process is to end calls `stop`; whoever waits for it has a receiver, which
/// is disconnected then.
#[derive(Clone)]
pub struct Stop(Arc<Mutex<Option<Sender<()>>>>);

impl Stop {
    pub fn new() -> (Self, Receiver<()>) {
        let (stop, stopped) = bounded(0);
        (Self(Arc::new(Mutex::new(Some(stop)))), stopped)
    }

    pub fn stop(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Waits so long; an error if the process is to end meanwhile.
pub fn pause(stopped: &Receiver<()>, time: Duration) -> Result<()> {
    match stopped.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        _ => Err("stopped".into()),
    }
}

fn up(address: SocketAddr, nodes: usize, stopped: &Receiver<()>) -> Result<()> {
    let Some(cluster) = processes::Cluster::start(nodes, address, stopped)? else { return Ok(()) };
    println!("open http://{} in two windows; Ctrl-C ends it", cluster.address());
    for node in 0..nodes {
        println!(
            "kill -9 {} kills node {node}, and its windows go on elsewhere",
            cluster.pid(node)
        );
    }
    // an error: the other end is dropped by the signal
    let _ = stopped.recv();
    Ok(())
}
