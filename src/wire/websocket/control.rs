//! Control frames (RFC 6455 section 5.5).

use tungstenite::protocol::frame::coding::Control;

use super::decoder::protocol;
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame};
use crate::wire::Item;
use crate::wire::assembly::NotUtf8;

/// The longest payload of a control frame.
pub(super) const MAX_CONTROL: usize = 125;

/// The item that a control frame is.
pub(super) fn control(opcode: Control, payload: &[u8]) -> Result<Item<'_>, Failure> {
    match opcode {
        Control::Ping => Ok(Item::Ping(payload)),
        Control::Pong => Ok(Item::Pong(payload)),
        Control::Close => close(payload).map(Item::Close),
        // never: reading the header refuses them
        Control::Reserved(opcode) => Err(protocol(format!("the reserved opcode {opcode}"))),
    }
}

/// The body of a close frame (RFC 6455 section 5.5.1), with its code as it came.
fn close(payload: &[u8]) -> Result<Option<CloseFrame>, Failure> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(protocol("a close frame of one byte")),
        [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
    };
    if !code.is_sendable() {
        return Err(protocol(format!("close code {code} in a close frame")));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| NotUtf8)?;
    Ok(Some(CloseFrame::new(code, reason)))
}
