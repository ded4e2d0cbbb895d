//! A server that sends everything back.
//!
//! ```text
//! cargo run --example echo_server -- 127.0.0.1:9001
//! cargo run --example echo_server -- tcp://127.0.0.1:9002 --framing raw
//! cargo run --example echo_server -- 127.0.0.1:9003 --compress
//! cargo run --example echo_server -- 127.0.0.1:9004 --tls cert.pem key.pem
//! ```

mod shared;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use crossbeam_channel::bounded;
use everlink::config::{Compression, Heartbeat, Limits, Queue, Tls};
use everlink::{Server, Session};

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
    /// Speak TLS with this certificate chain and key (PEM)
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    tls: Vec<PathBuf>,
    /// Compress messages for clients that offer it
    #[arg(long)]
    compress: bool,
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
    // it is a tool: whoever tries something out shall not meet the small default
    let mut builder =
        Server::builder().limits(Limits::new().message(64 << 20)).outbox(Queue::new());
    if scheme == "tcp" {
        let heartbeat =
            Heartbeat::listen(Duration::from_secs(60)).answer(options.ping, options.pong);
        builder = builder.framing(options.framing.into()).heartbeat(heartbeat);
    }
    if options.compress {
        builder = builder.compression(Compression::new());
    }
    let mut secure = "";
    if let [cert, key] = options.tls.as_slice() {
        builder = builder.tls(Tls::new().identity_files(cert, key));
        secure = "s";
    }
    let server = builder.bind(address, echo)?;
    println!("listening on {scheme}{secure}://{}", server.local_addr());

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
