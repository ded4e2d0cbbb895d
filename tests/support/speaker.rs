//! A client of sessions made by hand: it says what `src/resume/PROTOCOL.md` says, and whatever else a test
//! wants said.
#![allow(dead_code, reason = "each test file uses its share of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::bare::*;

/// How messages are set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    WebSocket,
    Lines,
    /// Behind four bytes of length.
    Prefixed,
}

pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// What a server says on a link of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Text(String),
    Binary(Vec<u8>),
    /// With this code.
    Close(Option<u16>),
    /// The stream ended.
    End(End),
}

impl Said {
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// What outlives a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub token: String,
    pub attempt: u64,
    pub received: u64,
}

impl Kept {
    /// The next offer.
    pub fn offer(&mut self) -> String {
        self.attempt += 1;
        format!("s {} attempt={} received={}", self.token, self.attempt, self.received)
    }
}

/// A client on one link.
pub struct Speaker {
    pub carrier: Carrier,
    stream: Box<dyn Stream>,
    /// The same without TLS.
    pub socket: TcpStream,
    /// The last answer that came.
    pub answer: String,
    pub kept: Kept,
    /// What the server has counted, if the session goes on; `None` in a new one.
    pub counted: Option<u64>,
}

/// The request that asks for these subprotocols.
pub fn session_request(path: &str, subprotocols: &str) -> String {
    let request = REQUEST.replacen("GET / ", &format!("GET {path} "), 1);
    let line = format!("\r\nSec-WebSocket-Protocol: {subprotocols}\r\n\r\n");
    request.replacen("\r\n\r\n", &line, 1)
}

/// The value of a header.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Opens a WebSocket for these subprotocols; returns the head of the answer, too.
pub fn upgrade_for(address: SocketAddr, path: &str, subprotocols: &str) -> (TcpStream, String) {
    let mut stream = connect(address);
    stream.write_all(session_request(path, subprotocols).as_bytes()).unwrap();
    let head = super::read_head(&mut stream);
    (stream, head)
}

impl Speaker {
    /// Nothing is said yet, not even an offer.
    pub fn mute(carrier: Carrier, stream: Box<dyn Stream>, socket: TcpStream) -> Self {
        let kept = Kept { token: String::new(), attempt: 0, received: 0 };
        Self { carrier, stream, socket, answer: String::new(), kept, counted: None }
    }

    /// The same on a WebSocket of this path and these subprotocols, the first of which the server has to choose.
    pub fn at(address: SocketAddr, path: &str, subprotocols: &str) -> Self {
        let (stream, head) = upgrade_for(address, path, subprotocols);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let first = subprotocols.split(',').next().unwrap();
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), Some(first), "{head}");
        Self::over(Carrier::WebSocket, stream)
    }

    pub fn over(carrier: Carrier, socket: TcpStream) -> Self {
        Self::mute(carrier, Box::new(socket.try_clone().unwrap()), socket)
    }

    pub fn to(address: SocketAddr) -> Self {
        Self::at(address, "/", "everlink.1")
    }

    /// Begins a session.
    pub fn new(address: SocketAddr) -> Self {
        Self::to(address).begin()
    }

    pub fn begin(mut self) -> Self {
        self.offer("s new");
        assert_eq!(self.counted, None);
        self.report();
        self
    }

    /// Makes the next offer of a session, and reports if there is an answer.
    pub fn resume(address: SocketAddr, kept: &mut Kept) -> Self {
        Self::to(address).go_on(kept)
    }

    pub fn go_on(mut self, kept: &mut Kept) -> Self {
        let offer = kept.offer();
        self.claim(&offer, kept);
        self.report();
        self
    }

    /// Makes this offer of a session, and reads the answer.
    pub fn claim(&mut self, offer: &str, kept: &Kept) {
        self.kept = kept.clone();
        self.offer(offer);
    }

    /// Makes an offer, and reads the answer.
    pub fn offer(&mut self, offer: &str) {
        self.say(offer);
        let answer = match self.hear() {
            Said::Text(answer) => answer,
            other => panic!("{other:?} is no answer to {offer:?}"),
        };
        let mut words = answer.split(' ');
        assert_eq!(words.next(), Some("s"), "{answer}");
        let token = words.next().unwrap().to_owned();
        let received = words.next().unwrap().strip_prefix("received=").unwrap().parse().unwrap();
        let is_same = token == self.kept.token;
        if is_same {
            self.counted = Some(received);
        } else {
            assert_eq!(received, 0, "{answer}");
            self.counted = None;
            self.kept = Kept { token, attempt: 0, received: 0 };
        }
        self.answer = answer;
    }

    pub fn report(&mut self) {
        let report = format!("r {}", self.kept.received);
        self.say(&report);
    }

    /// Sends a message of the program's.
    pub fn send(&mut self, text: &str) {
        self.say(&format!("m{text}"));
    }

    /// Sends a whole message.
    pub fn say(&mut self, text: &str) {
        self.try_say(text).expect("the server takes it");
    }

    pub fn try_say(&mut self, text: &str) -> std::io::Result<()> {
        let bytes = match self.carrier {
            Carrier::WebSocket => masked(TEXT, text.as_bytes()),
            Carrier::Lines => format!("{text}\n").into_bytes(),
            Carrier::Prefixed => [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat(),
        };
        self.stream.write_all(&bytes)?;
        self.stream.flush()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// The next thing that is said; pings are answered, and pongs passed over.
    pub fn hear(&mut self) -> Said {
        let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
            Ok(text) => Said::Text(text),
            Err(error) => Said::Binary(error.into_bytes()),
        };
        loop {
            let heard = match self.carrier {
                Carrier::WebSocket => read_frame(&mut self.stream),
                Carrier::Lines => self.line().map(|line| (0, line)),
                Carrier::Prefixed => self.prefixed().map(|message| (0, message)),
            };
            match heard {
                Ok((0 | TEXT, bytes)) => return text(bytes),
                Ok((BINARY, bytes)) => return Said::Binary(bytes),
                Ok((PING, payload)) => self.write(&masked(PONG, &payload)),
                Ok((PONG, _)) => {}
                Ok((CLOSE, body)) => {
                    let code = body.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return Said::Close(code);
                }
                Ok(other) => panic!("{other:?}"),
                Err(end) => return Said::End(end),
            }
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, End> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        loop {
            read_all(&mut self.stream, &mut byte)?;
            match byte[0] {
                b'\n' => return Ok(line),
                byte => line.push(byte),
            }
        }
    }

    fn prefixed(&mut self) -> Result<Vec<u8>, End> {
        let mut length = [0; 4];
        read_all(&mut self.stream, &mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        read_all(&mut self.stream, &mut message)?;
        Ok(message)
    }

    /// The next message of the program's, counted; what asks for a report gets it.
    pub fn recv(&mut self) -> String {
        loop {
            match self.hear() {
                Said::Text(text) => match text.split_at(1) {
                    ("m", text) => {
                        self.kept.received += 1;
                        return text.to_owned();
                    }
                    ("g", count) => self.kept.received += count.trim().parse::<u64>().unwrap(),
                    ("a", "") => self.report(),
                    ("r" | "x", _) => {}
                    _ => panic!("{text:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next thing but questions, which are not answered.
    pub fn hear_unasked(&mut self) -> Said {
        loop {
            match self.hear() {
                said if said == Said::text("a") => {}
                said => return said,
            }
        }
    }

    /// The next thing but questions, which are not answered, beats and messages, which are not counted.
    pub fn hear_but_beats(&mut self) -> Said {
        loop {
            match self.hear() {
                Said::Text(text) if matches!(text.get(..1), Some("a" | "x" | "m")) => {}
                said => return said,
            }
        }
    }

    /// The next thing that is not about counting: no message, report, question or gap.
    pub fn hear_end(&mut self) -> Said {
        loop {
            match self.hear() {
                Said::Text(text) if !text.starts_with('e') => {}
                other => return other,
            }
        }
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<Said> {
        let mut rest = Vec::new();
        while !matches!(rest.last(), Some(Said::End(_))) {
            rest.push(self.hear());
        }
        rest
    }

    /// Reads to the end; returns the code of the close frame, if one came.
    pub fn close_code(&mut self) -> Option<u16> {
        let mut codes = self.rest().into_iter().filter_map(|said| match said {
            Said::Close(code) => code,
            _ => None,
        });
        codes.next_back()
    }

    /// Says that the session is over, and reads to the end.
    pub fn end(&mut self, code: u16) -> Vec<Said> {
        self.report();
        self.say(&format!("e {code}"));
        self.rest()
    }

    /// Cuts the link.
    pub fn reset(self) -> Kept {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
        self.kept
    }

    /// Whether the server says nothing for a while.
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let result = self.socket.peek(&mut [0]);
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(result, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}
