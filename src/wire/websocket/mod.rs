//! WebSocket (RFC 6455): tungstenite's codec, one context for each direction.
//!
//! A [`Decoder`] only ever reads and an [`Encoder`] only ever writes, so two threads can own one
//! each over the same connection. tungstenite answers pings and close frames by itself, from
//! whichever context read them; the decoder swallows those answers, and the reader hands them
//! to the writer instead.

mod decoder;
mod encoder;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

use tungstenite::protocol::WebSocketConfig;

use crate::policy::Limits;

/// How much is read from the socket at once.
const READ_BUFFER: usize = 4 * 1024;

/// How much is encoded before it is written to the socket.
pub(crate) const WRITE_BUFFER: usize = 64 * 1024;

fn config(limits: Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.frame))
}
