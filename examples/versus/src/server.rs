//! The neutral peer: tungstenite on threads, one for each connection. What it does depends on
//! the path: `/echo`, `/sink?COUNT` (reads so many messages, then says so), `/source?COUNT&SIZE`
//! (writes so many as fast as it can).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

pub fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = move || {
                // a client that is done is gone
                let _ = serve(stream);
            };
            let _ = thread::Builder::new().stack_size(256 * 1024).spawn(serve);
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nodelay(true)?;
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the type is tungstenite's")]
    let callback = |request: &Request, response: Response| {
        path = request.uri().to_string();
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, callback).map_err(|e| e.to_string())?;
    let (task, numbers) = path.split_once('?').unwrap_or((&path, ""));
    let numbers: Vec<usize> = numbers.split('&').filter_map(|n| n.parse().ok()).collect();
    match (task, numbers.as_slice()) {
        ("/sink", [count]) => sink(&mut socket, *count)?,
        ("/source", [count, size]) => source(&mut socket, *count, *size)?,
        _ => echo(&mut socket)?,
    }
    while socket.read().is_ok() {}
    Ok(())
}

fn sink(socket: &mut WebSocket<TcpStream>, count: usize) -> tungstenite::Result<()> {
    let mut seen = 0;
    while seen < count {
        seen += usize::from(socket.read()?.is_binary());
    }
    socket.send("done".into())
}

fn source(socket: &mut WebSocket<TcpStream>, count: usize, size: usize) -> tungstenite::Result<()> {
    // starts when told to, so that connecting is not measured
    socket.read()?;
    let message = Message::from(vec![1; size]);
    for _ in 0..count {
        socket.write(message.clone())?;
    }
    socket.flush()
}

/// Answers what has come with one write: neutral to how a client batches.
fn echo(socket: &mut WebSocket<TcpStream>) -> tungstenite::Result<()> {
    loop {
        // waits for the first, then takes what else there is without waiting
        let mut next = socket.read();
        socket.get_ref().set_nonblocking(true)?;
        loop {
            match next {
                Ok(message) if message.is_binary() => socket.write(message)?,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    break;
                }
                Err(error) => return Err(error),
            }
            next = socket.read();
        }
        socket.get_ref().set_nonblocking(false)?;
        socket.flush()?;
    }
}
