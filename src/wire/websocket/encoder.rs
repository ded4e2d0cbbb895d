//! From messages to bytes.

use std::io::{self, Read, Write};

use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketContext};
use tungstenite::{Bytes, Error, Message as Wire};

use crate::message::{CloseFrame, Message};
use crate::policy::Limits;

/// The writing side of a WebSocket. It encodes into a buffer of its own, which goes to the
/// stream when it is full or flushed.
#[derive(Debug)]
pub(crate) struct Encoder {
    context: WebSocketContext,
    role: Role,
    /// Bytes encoded so far, whether they have reached the stream or not.
    encoded: u64,
}

/// What tungstenite sees: a stream that is written and never read.
struct Target<'a>(&'a mut dyn Write);

impl Read for Target<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Write for Target<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Encoder {
    pub(crate) fn new(role: Role) -> Self {
        // nothing is read with this context, so its read buffer can be next to nothing
        let limits = Limits { message: usize::MAX, frame: usize::MAX };
        let config = super::config(limits).read_buffer_size(16);
        Self { context: WebSocketContext::new(role, Some(config)), role, encoded: 0 }
    }

    /// How many bytes have been encoded, buffered ones included.
    pub(crate) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// Encodes a message as one frame.
    pub(crate) fn message(&mut self, message: Message, stream: &mut dyn Write) -> io::Result<()> {
        let (opcode, payload) = split(message);
        self.frame(Frame::message(payload, OpCode::Data(opcode), true), stream)
    }

    /// Encodes a message as fragments of at most `size` bytes (RFC 6455 section 5.4), calling
    /// `between` after each but the last: a control frame may pass there.
    pub(crate) fn fragments<S: Write>(
        &mut self,
        message: Message,
        size: usize,
        stream: &mut S,
        mut between: impl FnMut(&mut Self, &mut S) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut opcode, mut payload) = split(message);
        while payload.len() > size {
            let fragment = payload.split_to(size);
            self.frame(Frame::message(fragment, OpCode::Data(opcode), false), stream)?;
            opcode = Data::Continue;
            between(self, stream)?;
        }
        self.frame(Frame::message(payload, OpCode::Data(opcode), true), stream)
    }

    pub(crate) fn ping(&mut self, payload: Bytes, stream: &mut dyn Write) -> io::Result<()> {
        self.frame(Frame::ping(payload), stream)
    }

    pub(crate) fn pong(&mut self, payload: Bytes, stream: &mut dyn Write) -> io::Result<()> {
        self.frame(Frame::pong(payload), stream)
    }

    /// Encodes a close frame and flushes; nothing may be encoded after it.
    pub(crate) fn close(
        &mut self,
        frame: Option<&CloseFrame>,
        stream: &mut dyn Write,
    ) -> io::Result<()> {
        let frame = frame.map(|frame| tungstenite::protocol::CloseFrame {
            code: frame.code.0.into(),
            reason: frame.reason.as_str().into(),
        });
        self.frame(Frame::close(frame), stream)?;
        self.flush(stream)
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self, stream: &mut dyn Write) -> io::Result<()> {
        self.context.flush(&mut Target(stream)).map_err(io_error)
    }

    fn frame(&mut self, frame: Frame, stream: &mut dyn Write) -> io::Result<()> {
        let mask = (self.role == Role::Client).then_some([0; 4]);
        let header = FrameHeader { mask, ..FrameHeader::default() };
        let payload = frame.payload().len();
        self.encoded += (header.len(payload as u64) + payload) as u64;
        self.context.write(&mut Target(stream), Wire::Frame(frame)).map_err(io_error)
    }
}

fn split(message: Message) -> (Data, Bytes) {
    match message {
        Message::Text(text) => (Data::Text, text.into()),
        Message::Binary(bytes) => (Data::Binary, bytes),
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use crate::message::CloseCode;
    use crate::wire::Item;

    const LIMITS: Limits = Limits { message: 1 << 20, frame: 1 << 20 };

    fn decode(role: Role, bytes: &[u8]) -> Vec<Item> {
        let mut decoder = Decoder::new(role, Vec::new(), LIMITS);
        let mut stream = bytes;
        std::iter::from_fn(|| decoder.next(&mut stream).ok()).collect()
    }

    #[test]
    fn what_is_encoded_is_decoded_and_counted_at_every_length() {
        for (role, peer) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
            let (mut encoder, mut bytes) = (Encoder::new(role), Vec::new());
            let mut expected = Vec::new();
            for length in [0, 1, 125, 126, 127, 65535, 65536, 200_000] {
                let message = Message::from("x".repeat(length));
                encoder.message(message.clone(), &mut bytes).unwrap();
                expected.push(Item::Message(message));
            }
            encoder.ping(Bytes::from_static(b"1"), &mut bytes).unwrap();
            encoder.pong(Bytes::new(), &mut bytes).unwrap();
            let close = CloseFrame::new(CloseCode::GOING_AWAY, "bye");
            encoder.close(Some(&close), &mut bytes).unwrap();
            expected.push(Item::Ping(Bytes::from_static(b"1")));
            expected.push(Item::Pong(Bytes::new()));
            expected.push(Item::Close(Some(close)));
            assert_eq!(encoder.encoded(), bytes.len() as u64);
            assert_eq!(decode(peer, &bytes), expected);
        }
    }

    #[test]
    fn a_ping_passes_between_fragments() {
        let (mut encoder, mut bytes) = (Encoder::new(Role::Client), Vec::new());
        let message = Message::from("0123456789");
        encoder
            .fragments(message.clone(), 4, &mut bytes, |encoder, stream| {
                encoder.ping(Bytes::new(), stream)
            })
            .unwrap();
        encoder.flush(&mut bytes).unwrap();
        let ping = || Item::Ping(Bytes::new());
        assert_eq!(decode(Role::Server, &bytes), [ping(), ping(), Item::Message(message)]);
    }
}
