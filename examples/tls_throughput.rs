//! everlink over TLS against tungstenite over rustls, one thread each way, in one run.
//!
//! ```text
//! cargo run --release --example tls_throughput
//! ```
//!
//! Prints medians of interleaved rounds and their ratio: 64 KiB messages, to a peer that only
//! reads and from a peer that only writes.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use everlink::rustls::pki_types::{PrivateKeyDer, ServerName};
use everlink::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned,
};
use everlink::{Client, Message, Tls};
use rcgen::{CertificateParams, KeyPair};
use tungstenite::handshake::server::{Request, Response};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const SIZE: usize = 64 * 1024;
const COUNT: usize = 4096;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let key = KeyPair::generate()?;
    let cert = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::try_from(key.serialize_der())?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], private)?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (server, client) = (Arc::new(server), Arc::new(client));

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            thread::spawn(move || serve(stream, &server));
        }
    });

    let mut times = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        times[0].push(raw_send(address, &client)?);
        times[1].push(everlink_send(address, &client)?);
        times[2].push(raw_receive(address, &client)?);
        times[3].push(everlink_receive(address, &client)?);
        times[4].push(everlink_handle(address, &client)?);
    }
    let rates = times.map(|mut times| {
        times.sort();
        (SIZE * COUNT) as f64 / times[ROUNDS / 2].as_secs_f64() / f64::from(1 << 20)
    });
    println!("64 KiB over TLS | raw tungstenite, MiB/s | everlink, MiB/s | ratio");
    println!("send | {:.0} | {:.0} | {:.2}", rates[0], rates[1], rates[1] / rates[0]);
    println!("receive, channel | {:.0} | {:.0} | {:.2}", rates[2], rates[3], rates[3] / rates[2]);
    println!("receive, handler | {:.0} | {:.0} | {:.2}", rates[2], rates[4], rates[4] / rates[2]);
    Ok(())
}

/// Reads everything on `/sink` and then says so; writes everything on `/source`.
fn serve(stream: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = StreamOwned::new(ServerConnection::new(Arc::clone(config))?, stream);
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the type is tungstenite's")]
    let callback = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let mut socket =
        tungstenite::accept_hdr(stream, callback).map_err(|error| error.to_string())?;
    let is_source = path == "/source";
    if is_source {
        let message = tungstenite::Message::from(vec![1; SIZE]);
        for _ in 0..COUNT {
            socket.send(message.clone())?;
        }
    } else {
        for _ in 0..COUNT {
            socket.read()?;
        }
        socket.send("done".into())?;
    }
    while socket.read().is_ok() {}
    Ok(())
}

fn raw(
    address: SocketAddr,
    path: &str,
    config: &Arc<ClientConfig>,
) -> Result<tungstenite::WebSocket<StreamOwned<ClientConnection, TcpStream>>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, stream);
    let (socket, _) = tungstenite::client(format!("ws://localhost{path}"), stream)
        .map_err(|error| error.to_string())?;
    Ok(socket)
}

fn connect(address: SocketAddr, path: &str, config: &Arc<ClientConfig>) -> Result<Client> {
    let url = format!("wss://localhost:{}{path}", address.port());
    let tls = Tls::new().config(Arc::clone(config));
    Ok(Client::builder(&url).address(address).tls(tls).connect()?)
}

fn raw_send(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Duration> {
    let mut socket = raw(address, "/sink", config)?;
    let message = tungstenite::Message::from(vec![1; SIZE]);
    let begun = Instant::now();
    for _ in 0..COUNT {
        socket.send(message.clone())?;
    }
    socket.read()?;
    Ok(begun.elapsed())
}

fn everlink_send(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Duration> {
    let client = connect(address, "/sink", config)?;
    let message = Message::from(vec![1; SIZE]);
    let begun = Instant::now();
    for _ in 0..COUNT {
        client.send(message.clone())?;
    }
    client.recv()?;
    Ok(begun.elapsed())
}

/// Receives on the reader thread.
fn everlink_handle(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Duration> {
    let url = format!("wss://localhost:{}/source", address.port());
    let (done, all_done) = mpsc::channel();
    let mut count = 0;
    let client = Client::builder(&url)
        .address(address)
        .tls(Tls::new().config(Arc::clone(config)))
        .on_message(move |_, _| {
            count += 1;
            if count == COUNT {
                let _ = done.send(Instant::now());
            }
        });
    let begun = Instant::now();
    let _client = client.connect()?;
    Ok(all_done.recv()?.duration_since(begun))
}

fn raw_receive(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Duration> {
    let mut socket = raw(address, "/source", config)?;
    let begun = Instant::now();
    for _ in 0..COUNT {
        socket.read()?;
    }
    Ok(begun.elapsed())
}

fn everlink_receive(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Duration> {
    let client = connect(address, "/source", config)?;
    let begun = Instant::now();
    for _ in 0..COUNT {
        client.recv()?;
    }
    Ok(begun.elapsed())
}
