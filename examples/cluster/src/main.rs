//! A chat of several server processes behind haproxy, with Redis between them: see `README.md`.

mod bench;
mod check;
mod client;
mod node;
mod presence;
mod processes;
mod room;
mod store;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use crossbeam_channel::{Receiver, bounded};

pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

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
        address: std::net::SocketAddr,
        /// How many server processes
        #[arg(long, default_value = "2", value_parser = clap::value_parser!(u8).range(1..=16))]
        nodes: u8,
    },
    /// Kill servers under load, and fail if a message was lost or came twice
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
    let result = match Options::parse().what {
        What::Up { address, nodes } => up(address, nodes.into()),
        What::Check { clients, messages } => check::run(clients, messages),
        What::Bench { clients, rate } => bench::run(clients, rate),
        What::Node(options) => node::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Disconnects when the process is told to end.
pub fn stopped() -> Result<Receiver<()>> {
    let (stop, stopped) = bounded::<()>(0);
    let mut stop = Some(stop);
    ctrlc::set_handler(move || drop(stop.take()))?;
    Ok(stopped)
}

fn up(address: std::net::SocketAddr, nodes: usize) -> Result<()> {
    let stopped = stopped()?;
    let Some(cluster) = processes::Cluster::start(nodes, Some(address))? else { return Ok(()) };
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
