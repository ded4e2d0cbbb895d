//! Peers made by hand: frames over plain sockets, and nothing that helps.
#![allow(dead_code, reason = "each test file uses its share of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use tungstenite::handshake::derive_accept_key;

use super::{Listener, PATIENCE, read_head};

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// How the peer ended the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    InOrder,
    Reset,
}

/// Accepts a connection and upgrades it.
pub fn upgrade(listener: &Listener) -> TcpStream {
    let mut stream = listener.accept_raw();
    let request = read_head(&mut stream);
    stream.write_all(upgraded(&request).as_bytes()).expect("write the answer");
    stream
}

/// What upgrades the client with this request.
pub fn upgraded(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = derive_accept_key(key.expect("a request has a key").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

pub const REQUEST: &str = "GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n\
                           Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    stream.set_nodelay(true).expect("set nodelay");
    stream
}

/// Opens a WebSocket.
pub fn open(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(REQUEST.as_bytes()).expect("write the request");
    let answer = read_head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    stream
}

/// A frame with this first byte, as a server sends it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    encode(first, payload, 0)
}

/// The same as a client sends it, masked with zeros.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    encode(first, payload, 0x80)
}

fn encode(first: u8, payload: &[u8], mask_bit: u8) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(mask_bit | short as u8),
        medium @ 126..0x1_0000 => {
            bytes.push(mask_bit | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(mask_bit | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    if mask_bit > 0 {
        bytes.extend([0; 4]);
    }
    bytes.extend_from_slice(payload);
    bytes
}

pub fn close_body(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// The next frame, unmasked, or how the stream ended.
pub fn read_frame(stream: &mut impl Read) -> Result<(u8, Vec<u8>), End> {
    let mut head = [0; 2];
    read_all(stream, &mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut bytes = [0; 2];
            read_all(stream, &mut bytes)?;
            usize::from(u16::from_be_bytes(bytes))
        }
        127 => {
            let mut bytes = [0; 8];
            read_all(stream, &mut bytes)?;
            u64::from_be_bytes(bytes) as usize
        }
        short => usize::from(short),
    };
    let mut key = [0; 4];
    if head[1] & 0x80 > 0 {
        read_all(stream, &mut key)?;
    }
    let mut payload = vec![0; length];
    read_all(stream, &mut payload)?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok((head[0], payload))
}

pub fn read_all(stream: &mut impl Read, buffer: &mut [u8]) -> Result<(), End> {
    match stream.read_exact(buffer) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(End::InOrder),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
        Err(error) => panic!("the stream does not end: {error}"),
    }
}

/// The next message that the peer gets, which is text.
pub fn next_text_frame(stream: &mut TcpStream) -> String {
    loop {
        let (first, payload) = read_frame(stream).expect("a frame");
        if first == TEXT {
            return String::from_utf8(payload).expect("text is UTF-8");
        }
    }
}

/// All frames up to the end of the stream, and how it ended.
pub fn read_frames(stream: &mut impl Read) -> (Vec<(u8, Vec<u8>)>, End) {
    let mut frames = Vec::new();
    loop {
        match read_frame(stream) {
            Ok(frame) => frames.push(frame),
            Err(end) => return (frames, end),
        }
    }
}
