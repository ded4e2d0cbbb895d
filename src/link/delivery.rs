//! From the decoder to the inbox.

use super::shared::Shared;
use crate::failure::{Failure, HANDLER};
use crate::message::MessageRef;
use crate::policy::{Beat, Heartbeat};
use crate::queues::batch::Batch;
use crate::queues::inbox::Inbox;
use crate::queues::mailbox::Room;

/// Names the reader's own code, in case it panics.
pub(super) const READER: &str = "reader";

/// How many bytes a dead link may deliver over the bounds of the inbox, one batch more included: as much as one read
/// brings.
const BEYOND: usize = 128 * 1024;

/// What becomes of the messages that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    All,
    /// Those that come are thrown away.
    Nothing,
    /// The same, and some were: no answer says that they have come, to a peer that would send them elsewhere.
    Missed,
}

/// Delivers the batch. A dead link delivers what it has read even if the inbox is full, but not all that this may
/// inflate to.
///
/// # Errors
///
/// Nothing more is to be decoded: the link is dead, and its cause is known.
pub(super) fn deliver(
    shared: &Shared,
    inbox: &Inbox,
    batch: &mut Batch,
    beyond: &mut usize,
) -> Result<(), Failure> {
    let size = batch.size();
    inbox.deliver(batch, || room(shared));
    match room(shared) {
        Room::Beyond if !inbox.has_room() => *beyond += size,
        // nobody will ever make room
        Room::None if shared.life.is_dead() && !inbox.has_room() => {
            return Err(Failure::Interrupted);
        }
        _ => {}
    }
    if *beyond <= BEYOND { Ok(()) } else { Err(Failure::Interrupted) }
}

/// How much a full inbox may take at the moment.
pub(super) fn room(shared: &Shared) -> Room {
    shared.life.room(shared.is_the_last())
}

/// Hands a message on, unless it belongs to the heartbeat. Runs the program's code.
#[inline(always)]
pub(super) fn take(
    shared: &Shared,
    mut message: MessageRef<'_>,
    inbox: &mut Inbox,
    batch: &mut Batch,
    heartbeat: &Heartbeat,
    taking: &mut Taking,
    place: &mut &'static str,
) {
    if heartbeat.looks_at_messages() {
        match take_beat(shared, message, heartbeat, *taking, place) {
            None => return,
            Some(other) => message = other,
        }
    }
    if *taking != Taking::All {
        *taking = Taking::Missed;
        return shared.mailbox.lose(1);
    }
    shared.counters.received(message.len());
    *place = HANDLER;
    inbox.take(message, batch);
    *place = READER;
}

/// Returns the message if it is none of the heartbeat's.
// by value, and not inlined: a reference to it would keep all others from staying in registers
#[inline(never)]
fn take_beat<'a>(
    shared: &Shared,
    message: MessageRef<'a>,
    heartbeat: &Heartbeat,
    taking: Taking,
    place: &mut &'static str,
) -> Option<MessageRef<'a>> {
    if let Some(answer) = &heartbeat.answer {
        *place = "heartbeat answer";
        let reply = answer(&message);
        *place = READER;
        if let Some(reply) = reply {
            if taking != Taking::Missed {
                shared.control.reply(reply);
                shared.outbox.ring();
            }
            return None;
        }
    }
    if let Beat::Message { is_answer, .. } = &heartbeat.beat {
        *place = "heartbeat predicate";
        let is_answer = is_answer(&message);
        *place = READER;
        if is_answer {
            shared.answered(shared.pings.answer());
            return None;
        }
    }
    Some(message)
}
