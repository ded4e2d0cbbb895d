//! What is said on a fresh link before it has its threads: one message after the other.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::time::Instant;

use super::opened::Opened;
use crate::failure::Failure;
use crate::message::{CloseFrame, Message};
use crate::transport::Timed;
use crate::wire::{Item, Output, Unencoded};

/// A fresh link in the hands of one thread. Every call has its deadline.
pub(crate) struct Talk<'a> {
    opened: &'a mut Opened,
    out: Output,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(opened: &'a mut Opened) -> Self {
        Self { opened, out: Output::new() }
    }

    pub(crate) fn opened(&mut self) -> &mut Opened {
        self.opened
    }

    /// Sends a message, in a session one of this kind.
    pub(crate) fn send(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        deadline: Instant,
    ) -> io::Result<()> {
        self.encode(message, kind)?;
        self.drain(deadline)
    }

    /// Encodes a message, in a session one of this kind.
    ///
    /// # Errors
    ///
    /// The program's codec does not encode it: nothing was.
    pub(crate) fn encode(&mut self, message: &Message, kind: Option<u8>) -> Result<(), Unencoded> {
        self.opened.encoder.plain(message, kind, &mut self.out)
    }

    /// Says something about the session.
    pub(crate) fn say(&mut self, said: &impl Display, deadline: Instant) -> io::Result<()> {
        self.send(&Message::from(said.to_string()), None, deadline)
    }

    /// Writes what is encoded.
    pub(crate) fn drain(&mut self, deadline: Instant) -> io::Result<()> {
        let mut stream = Timed::new(&mut self.opened.duplex, deadline);
        while !self.out.is_empty() {
            match stream.write(self.out.first(usize::MAX))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.out.advance(count),
            }
        }
        stream.flush()
    }

    /// Receives the next message. Pings are answered meanwhile, and a goodbye is returned.
    ///
    /// # Errors
    ///
    /// Whatever ended the link.
    pub(crate) fn recv(&mut self, deadline: Instant) -> Result<Message, Failure> {
        loop {
            let Opened { duplex, decoder, buffer, .. } = &mut *self.opened;
            match decoder.decode(buffer) {
                Ok(Some(Item::Message(message))) => return Ok(message.into_owned()),
                Ok(Some(Item::Pong(_))) => {}
                Ok(Some(Item::Ping(payload))) => {
                    let payload = payload.to_vec();
                    self.opened.encoder.pong(&payload, &mut self.out);
                    self.drain(deadline)?;
                }
                Ok(Some(Item::Close(frame))) => {
                    let shown = self.opened.secrets.clean_close(frame.as_ref());
                    self.close(frame.as_ref(), deadline);
                    return Err(Failure::Closed(shown));
                }
                Ok(None) => match Timed::new(duplex, deadline).read(buffer.space()) {
                    Ok(0) => return Err(decoder.end_of_stream(buffer)),
                    Ok(count) => buffer.filled(count),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(decoder.end_of_stream(buffer).cut_off());
                    }
                    Err(error) => return Err(error.into()),
                },
                Err(failure) => {
                    if let Some(code) = failure.told() {
                        self.close(Some(&CloseFrame::new(code, "")), deadline);
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// What it says, if it is about the session: that is a text, where the protocol tells texts from others.
    pub(crate) fn text_of<'m>(&self, message: &'m Message) -> Option<&'m str> {
        match self.opened.protocol.is_websocket() {
            true => message.as_text(),
            false => std::str::from_utf8(message.as_bytes()).ok(),
        }
    }

    /// Says goodbye to the link, once. A courtesy: it is over either way.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>, deadline: Instant) {
        if !std::mem::replace(&mut self.opened.is_closed, true) {
            self.opened.encoder.close(frame, &mut self.out);
            let _ = self.drain(deadline);
        }
    }

    /// The same, and lets the peer read what was said last: a socket that is closed with unread bytes in it is
    /// reset, which can destroy what the peer has not read yet.
    pub(crate) fn finish(&mut self, frame: Option<&CloseFrame>, deadline: Instant) {
        self.close(frame, deadline);
        Timed::new(&mut self.opened.duplex, deadline).let_read();
    }
}
