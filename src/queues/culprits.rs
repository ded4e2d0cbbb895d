//! Which message a link has died of.

use super::byte_queue::ByteQueue;
use super::entry::Entry;

/// Takes out the largest of what was cut off, is kept, or is gone (a number and a size). Returns its size, and
/// itself if it is still here.
pub(super) fn take_largest(
    queue: &mut ByteQueue<Entry>,
    kept: &mut ByteQueue<Entry>,
    gone: Option<(u64, usize)>,
) -> Option<(usize, Option<Entry>)> {
    let largest = |entries: &mut dyn Iterator<Item = (usize, &Entry)>| {
        let largest = entries.max_by_key(|(_, entry)| entry.size());
        largest.map(|(index, entry)| (entry.size(), index))
    };
    let begun = largest(&mut queue.iter().take_while(|entry| entry.begun).enumerate());
    let held = largest(&mut kept.iter().enumerate().filter(|(_, entry)| !entry.is_login));
    let size = [begun.map(|b| b.0), held.map(|h| h.0), gone.map(|g| g.1)];
    let size = size.into_iter().flatten().max()?;
    let entry = match (begun, held) {
        (Some((of, index)), _) if of == size => queue.remove(index),
        (_, Some((of, index))) if of == size => kept.remove(index),
        _ => None,
    };
    Some((size, entry))
}

/// The first that the peer has not confirmed is the suspect: takes it out if it was that of so many links that
/// were sound.
pub(super) fn suspect(
    queue: &mut ByteQueue<Entry>,
    kept: &mut ByteQueue<Entry>,
    was_sound: bool,
    limit: u32,
) -> Option<Entry> {
    let is_kept = !kept.is_empty();
    // one that was cut off goes back to the queue
    let queue = if is_kept { kept } else { queue };
    let first = queue.iter_mut().next().filter(|first| is_kept || first.begun)?;
    if first.is_login {
        return None;
    }
    first.is_suspect = true;
    first.links_ended += u32::from(was_sound);
    if first.links_ended < limit { None } else { queue.pop_front() }
}
