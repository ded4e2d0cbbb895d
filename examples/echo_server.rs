//! A WebSocket server that sends everything back.
//!
//! ```text
//! cargo run --example echo_server -- 127.0.0.1:9001
//! ```

use std::net::{TcpListener, TcpStream};
use std::thread;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "A WebSocket server that sends everything back")]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(default_value = "127.0.0.1:9001")]
    address: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let listener = TcpListener::bind(Options::parse().address)?;
    println!("listening on ws://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            let peer = stream.peer_addr();
            log::info!("{peer:?}: connected");
            match echo(stream) {
                Ok(()) => log::info!("{peer:?}: closed"),
                Err(error) => log::info!("{peer:?}: {error}"),
            }
        });
    }
    Ok(())
}

fn echo(stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nodelay(true)?;
    let mut socket = tungstenite::accept(stream)?;
    loop {
        match socket.read() {
            Ok(message) if message.is_text() || message.is_binary() => socket.send(message)?,
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
