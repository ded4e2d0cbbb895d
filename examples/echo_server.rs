//! A server that sends everything back.
//!
//! ```text
//! cargo run --example echo_server -- 127.0.0.1:9001
//! cargo run --example echo_server -- tcp://127.0.0.1:9002 --framing raw
//! ```

mod shared;

use std::time::Duration;

use clap::Parser;
use crossbeam_channel::bounded;
use everlink::{Heartbeat, Server, Session};

#[derive(Debug, Parser)]
#[command(about = "A server that sends everything back")]
struct Options {
    /// Where to listen: host:port or ws://host:port for WebSocket, tcp://host:port for plain
    /// TCP; port 0 takes a free one
    #[arg(default_value = "127.0.0.1:9001")]
    address: String,
    /// How messages are set off on tcp://
    #[arg(long, value_enum, default_value = "lines")]
    framing: shared::FramingName,
    /// A beat of the clients on tcp://
    #[arg(long, value_name = "TEXT", default_value = "ping")]
    ping: String,
    /// What it is answered with
    #[arg(long, value_name = "TEXT", default_value = "pong")]
    pong: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let options = Options::parse();
    let (scheme, address) = match options.address.split_once("://") {
        Some((scheme @ ("ws" | "tcp"), address)) => (scheme, address.trim_end_matches('/')),
        Some((other, _)) => return Err(format!("unknown scheme {other:?}").into()),
        None => ("ws", options.address.as_str()),
    };
    let mut builder = Server::builder();
    if scheme == "tcp" {
        let heartbeat =
            Heartbeat::listen(Duration::from_secs(60)).answer(options.ping, options.pong);
        builder = builder.framing(options.framing.into()).heartbeat(heartbeat);
    }
    let server = builder.bind(address, echo)?;
    println!("listening on {scheme}://{}", server.local_addr());

    let (interrupt, interrupted) = bounded(1);
    ctrlc::set_handler(move || {
        let _ = interrupt.try_send(());
    })?;
    interrupted.recv()?;
    let report = server.shutdown(Duration::from_secs(2));
    println!("{}", if report.drained { "all sessions ended" } else { "some sessions were cut" });
    Ok(())
}

fn echo(session: Session) {
    for message in session.iter() {
        if session.send(message).is_err() {
            break;
        }
    }
}
