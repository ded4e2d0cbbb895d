//! The neutral peer, a process of its own: tungstenite on threads, one for each connection, and
//! over rustls on a second port. What it does depends on the path: `/echo?FEED` (so many messages before each answer), `/sink?COUNT` (reads
//! so many messages, then says so), `/source?COUNT&SIZE&ENCODED` (writes so many as fast as it can, with
//! ENCODED 1 encoded beforehand),
//! `/ticks?COUNT` (the same with JSON), `/deflated?COUNT` (the same, compressed), `/reset` (resets the connection after the first message).
//! On a third port packets go over plain TCP, in whatever framing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

use crate::contender::Result;
use crate::ticks::Ticks;

/// How the program is told to be the server.
pub const ARGUMENT: &str = "--server";

/// The path of compressed ticks.
pub const DEFLATED: &str = "/deflated";

/// Made beforehand, and many more than what deflate can look back on.
const DIFFERENT_TICKS: usize = 4096;

/// The size of a message on plain TCP.
pub const PACKET: usize = 32;

/// Messages below this size are encoded beforehand.
pub const SMALL: usize = 1024;

/// How many bytes of encoded messages are written at once, at least.
const WRITTEN_AT_ONCE: usize = 64 * 1024;

/// Where the server listens, and what its certificate is. Dropped, it is gone.
pub struct Server {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    /// Where packets of [`PACKET`] bytes go over plain TCP, each with one byte more.
    pub framed: SocketAddr,
    /// In base 64, on one line.
    certificate: String,
    process: Option<Child>,
}

impl Server {
    /// Starts this program again as the server.
    pub fn spawn() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut server = Self::described(&mut lines)?;
        server.process = Some(process);
        Ok(server)
    }

    /// Reads what [`Server::describe`] wrote.
    pub fn described(lines: &mut dyn Iterator<Item = io::Result<String>>) -> Result<Self> {
        let mut line = || -> Result<String> { Ok(lines.next().ok_or("no server")??) };
        let (plain, tls, framed) = (line()?.parse()?, line()?.parse()?, line()?.parse()?);
        Ok(Self { plain, tls, framed, certificate: line()?, process: None })
    }

    pub fn describe(&self) -> String {
        format!("{}\n{}\n{}\n{}\n", self.plain, self.tls, self.framed, self.certificate)
    }

    pub fn client_tls(&self) -> Result<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes())?)?;
        let config =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn pem(&self) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", self.certificate)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The server's own process: listens, says where, and ends when its parent does.
pub fn run() -> Result<()> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".into()])?;
    let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes())?;
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    let config = Arc::new(config);

    // not while the clock of a client is running
    deflated_ticks();
    let plain = listen(|stream| serve(stream, &|stream| stream.try_clone()))?;
    let tls = listen(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config))?;
        let stream = rustls::StreamOwned::new(connection, stream);
        serve(stream, &|stream| stream.sock.try_clone())
    })?;
    let certificate = cert.pem().lines().filter(|line| !line.starts_with('-')).collect();
    let framed = listen(serve_framed)?;
    let server = Server { plain, tls, framed, certificate, process: None };
    print!("{}", server.describe());
    io::stdout().flush()?;
    // the parent holds the other end
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn listen(
    serve: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // a client that is done is gone
            let serve = move || drop(stream.set_nodelay(true).map(|()| serve(stream)));
            let _ = thread::Builder::new().stack_size(256 * 1024).spawn(serve);
        }
    });
    Ok(address)
}

fn serve<S: Read + Write>(
    stream: S,
    socket_of: &dyn Fn(&S) -> io::Result<TcpStream>,
) -> Result<()> {
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the type is tungstenite's")]
    let callback = |request: &Request, mut response: Response| {
        path = request.uri().to_string();
        if path.starts_with(DEFLATED) {
            // tungstenite cannot compress: here it only shakes hands
            let agreed = HeaderValue::from_static("permessage-deflate");
            response.headers_mut().insert("Sec-WebSocket-Extensions", agreed);
        }
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, callback).map_err(|e| e.to_string())?;
    let below = socket_of(socket.get_ref())?;
    let (task, numbers) = path.split_once('?').unwrap_or((&path, ""));
    let numbers: Vec<usize> = numbers.split('&').filter_map(|n| n.parse().ok()).collect();
    match (task, numbers.as_slice()) {
        ("/sink", [count]) => sink(&mut socket, *count)?,
        ("/source", [count, size, is_encoded]) => {
            let message = [vec![1; *size].into()];
            source(&mut socket, *count, &message, *size < SMALL || *is_encoded == 1)?;
        }
        ("/ticks", [count]) => {
            let ticks: Vec<Message> =
                Ticks::new().take(DIFFERENT_TICKS).map(Message::from).collect();
            source(&mut socket, *count, &ticks, true)?;
        }
        (DEFLATED, [count]) => {
            let [first, again] = deflated_ticks();
            // whatever is said, it means go
            let stream = socket.get_mut();
            let _ = stream.read(&mut [0; 1024])?;
            let (mut left, mut ticks) = (*count, first);
            while left > 0 {
                let now = left.min(DIFFERENT_TICKS);
                stream.write_all(&ticks.bytes[..ticks.ends[now - 1]])?;
                (left, ticks) = (left - now, again);
            }
        }
        ("/reset", _) => {
            socket.read()?;
            socket2::SockRef::from(&below).set_linger(Some(Duration::ZERO))?;
            return Ok(());
        }
        _ => echo(&mut socket, &below, numbers.first().copied().unwrap_or(0))?,
    }
    while socket.read().is_ok() {}
    Ok(())
}

/// Whatever makes packets of them: the first says what to do, and is what is sent.
fn serve_framed(mut stream: TcpStream) -> Result<()> {
    let mut packet = [0; PACKET + 1];
    stream.read_exact(&mut packet)?;
    let text = String::from_utf8_lossy(&packet);
    let (task, count) = text.trim().split_once(' ').ok_or("no task")?;
    let mut count: usize = count.parse()?;
    let many = packet.repeat(WRITTEN_AT_ONCE / packet.len());
    if task == "sink" {
        io::copy(&mut (&stream).take((packet.len() * (count - 1)) as u64), &mut io::sink())?;
        count = 1;
    }
    while count > 0 {
        let now = count.min(many.len() / packet.len());
        stream.write_all(&many[..now * packet.len()])?;
        count -= now;
    }
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}

/// Encoded messages, and where each of them ends.
#[derive(Default)]
struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// All ticks compressed, in frames: those of the first round, and those of every round after it,
/// which refer to the same ticks before them.
fn deflated_ticks() -> &'static [Encoded; 2] {
    static TICKS: OnceLock<[Encoded; 2]> = OnceLock::new();
    TICKS.get_or_init(|| {
        let mut stream = Compress::new(Compression::new(6), false);
        [(); 2].map(|()| deflate_ticks(&mut stream))
    })
}

fn deflate_ticks(stream: &mut Compress) -> Encoded {
    let mut encoded = Encoded::default();
    for tick in Ticks::new().take(DIFFERENT_TICKS) {
        let mut payload = Vec::with_capacity(1024);
        // nothing fails: the stream is used as it should be, and a vector takes every byte
        let _ = stream.compress_vec(tick.as_bytes(), &mut payload, FlushCompress::Sync);
        payload.truncate(payload.len() - 4);
        let mut frame = Frame::message(payload, OpCode::Data(Data::Text), true);
        frame.header_mut().rsv1 = true;
        let _ = frame.format(&mut encoded.bytes);
        encoded.ends.push(encoded.bytes.len());
    }
    encoded
}

/// The mean length of a tick's frame, as it is and compressed.
pub fn bytes_of_a_tick() -> Result<[f64; 2]> {
    let ticks: Vec<Message> = Ticks::new().take(DIFFERENT_TICKS).map(Message::from).collect();
    let (plain, count) = encode(&ticks)?;
    let [_, again] = deflated_ticks();
    Ok([plain.len() as f64 / count as f64, again.bytes.len() as f64 / DIFFERENT_TICKS as f64])
}

fn sink<S: Read + Write>(socket: &mut WebSocket<S>, count: usize) -> tungstenite::Result<()> {
    let mut seen = 0;
    while seen < count {
        seen += usize::from(socket.read()?.is_binary());
    }
    socket.send("done".into())
}

/// Sends these messages over and over. Small ones are encoded beforehand and written many at a
/// time: tungstenite takes longer to write one than the fastest here take to read it, and who
/// receives is what is measured.
fn source<S: Read + Write>(
    socket: &mut WebSocket<S>,
    mut count: usize,
    messages: &[Message],
    is_encoded: bool,
) -> tungstenite::Result<()> {
    let (chunk, in_chunk) = if is_encoded { encode(messages)? } else { (Vec::new(), 0) };
    // starts when told to, so that connecting is not measured
    socket.read()?;
    while in_chunk > 0 && count >= in_chunk {
        socket.get_mut().write_all(&chunk)?;
        count -= in_chunk;
    }
    for message in messages.iter().cycle().take(count) {
        socket.write(message.clone())?;
    }
    socket.flush()
}

/// Frames of the messages over and over, and how many they are.
fn encode(messages: &[Message]) -> tungstenite::Result<(Vec<u8>, usize)> {
    let (mut chunk, mut count) = (Vec::new(), 0_usize);
    while chunk.len() < WRITTEN_AT_ONCE || !count.is_multiple_of(messages.len()) {
        let message = &messages[count % messages.len()];
        let opcode = if message.is_text() { Data::Text } else { Data::Binary };
        let payload = message.clone().into_data();
        Frame::message(payload, OpCode::Data(opcode), true).format(&mut chunk)?;
        count += 1;
    }
    Ok((chunk, count))
}

/// Answers what has come with one write: neutral to how a client batches. So many other messages come before each
/// answer.
fn echo<S: Read + Write>(
    socket: &mut WebSocket<S>,
    below: &TcpStream,
    feed: usize,
) -> tungstenite::Result<()> {
    loop {
        // waits for the first, then takes what else there is without waiting
        let mut next = socket.read();
        below.set_nonblocking(true)?;
        loop {
            match next {
                Ok(message) if message.is_binary() => {
                    (0..feed).try_for_each(|_| socket.write(message.clone()))?;
                    socket.write(message)?;
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    break;
                }
                Err(error) => return Err(error),
            }
            next = socket.read();
        }
        below.set_nonblocking(false)?;
        socket.flush()?;
    }
}
