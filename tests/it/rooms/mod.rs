//! The architecture as a test: each folder of `src` is a layer that knows only those below it, files
//! do not go in circles, and a type is whole in its file.

mod sources;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use sources::Library;

/// From the top floor down. What stands on one floor does not know its neighbours.
const FLOORS: [&[&str]; 15] = [
    &["fuzzing", "guide", "options"],
    &["client", "server"],
    &["metrics"],
    &["link", "sender"],
    &["stats"],
    &["queues", "handshake"],
    &["dial"],
    &["wire", "chaos", "http1"],
    &["transport", "settings"],
    &["error"],
    &["failure"],
    &["resume"],
    &["policy"],
    &["message"],
    &["sync", "seconds"],
];

/// Where one type needs them; most files have a third of that.
const MAX_LINES: usize = 600;

static LIBRARY: LazyLock<Library> = LazyLock::new(Library::read);

fn room_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name).trim_end_matches(".rs")
}

fn floor_of(room: &str) -> usize {
    let floor = FLOORS.iter().position(|rooms| rooms.contains(&room));
    floor.unwrap_or_else(|| panic!("{room} stands on no floor: add it to this list"))
}

/// Nothing but the exceptions, and each of those.
fn check(rule: &str, found: impl IntoIterator<Item = String>, exceptions: &[&str]) {
    let found: BTreeSet<String> = found.into_iter().collect();
    let exceptions: BTreeSet<String> = exceptions.iter().map(|name| (*name).into()).collect();
    let new: Vec<_> = found.difference(&exceptions).collect();
    let stale: Vec<_> = exceptions.difference(&found).collect();
    assert!(new.is_empty(), "{rule}: {new:#?}");
    assert!(stale.is_empty(), "no exceptions any more, take them off the list: {stale:#?}");
}

#[test]
fn each_room_knows_only_those_below_it() {
    let mut wrong = Vec::new();
    for (user, used) in &LIBRARY.uses {
        let room = room_of(user);
        let is_above = |used: &&String| {
            let used = room_of(used);
            used != room && (used == "lib" || floor_of(used) <= floor_of(room))
        };
        if room != "lib" {
            wrong.extend(used.iter().filter(is_above).map(|used| format!("{user} uses {used}")));
        }
    }
    check("only rooms below are used", wrong, &[]);
}

#[test]
fn no_room_is_too_large_to_be_seen_whole() {
    let large = LIBRARY.lines.iter().filter(|(_, lines)| **lines > MAX_LINES);
    check("files are short", large.map(|(name, lines)| format!("{name}: {lines} lines")), &[]);
}

#[test]
fn files_do_not_use_each_other_in_circles() {
    let used_by = |name: &str| LIBRARY.uses.get(name).into_iter().flatten();
    let goes_round = |start: &&String| {
        let mut reached: BTreeSet<&String> = BTreeSet::new();
        let mut next: Vec<&String> = used_by(start).collect();
        while let Some(name) = next.pop() {
            if reached.insert(name) {
                next.extend(used_by(name));
            }
        }
        reached.contains(*start)
    };
    let round = LIBRARY.uses.keys().filter(goes_round).cloned();
    check("no file is reached from itself", round, CIRCLES);
}

#[test]
fn a_type_is_whole_in_its_file() {
    let strayed = LIBRARY.strayed_impls.iter();
    let strayed = strayed.map(|((home, name), file)| format!("{name} of {home} in {file}"));
    check("what a type can do stands beside it, or beside the trait", strayed, &[]);
}

#[test]
fn fields_are_private_to_their_file() {
    let open = LIBRARY.open_types.iter().map(|(file, name)| format!("{file} {name}"));
    let exceptions: Vec<&str> = PLAIN.iter().map(|(name, _)| *name).collect();
    check("fields are private, but those of plain values", open, &exceptions);
}

#[test]
fn nothing_is_named_by_the_re_exports_of_lib() {
    let named = LIBRARY.named_by_lib.iter().map(|(file, name)| format!("crate::{name} in {file}"));
    check("each thing is named where it is defined", named, &[]);
}

/// Files in circles. A type has a function that begins its builder, and a builder has one that
/// begins the type.
const CIRCLES: &[&str] =
    &["client/builder.rs", "client/handle.rs", "server/builder.rs", "server/mod.rs"];

/// Plain values: their fields are what they are, and no invariant lies between them.
const PLAIN: &[(&str, &str)] = &[
    ("policy/compression.rs Compression", "a setting, checked at the start"),
    ("policy/framing.rs Framing", "a setting, checked at the start"),
    ("policy/codec.rs Packet", "what a codec hands over"),
    ("policy/framing.rs Delimiter", "a setting, checked at the start"),
    ("policy/heartbeat.rs Heartbeat", "a setting, checked at the start"),
    ("policy/limits.rs MaxSizes", "a setting, filled in"),
    ("policy/queue.rs Bounds", "a setting, filled in"),
    ("policy/resume.rs Resume", "a setting, checked at the start"),
    ("policy/resume.rs Unconfirmed", "a setting, filled in"),
    ("policy/timeouts.rs Resolved", "a setting, filled in"),
    ("resume/answer.rs Answer", "pieces of a text"),
    ("server/admission.rs ConnectionLimits", "two numbers"),
    ("server/answer.rs Answer", "what a hook hands over"),
    ("server/opening.rs Opening", "what has come of a call"),
    ("server/resumable.rs Terms", "three numbers"),
    ("server/resumption.rs EndedSession", "what a call takes"),
    ("server/incoming.rs Secured", "what a handshake has brought"),
    ("server/incoming.rs Incoming", "pieces of a request"),
    ("stats/table.rs Metric", "a row of a table"),
    ("chaos/conditions.rs ProxyState", "what one lock protects"),
    ("chaos/faults.rs Faults", "what is to go wrong; the proxy reads it"),
    ("client/attempt.rs Hooks", "what a builder hands over"),
    ("client/attempt.rs Success", "what has come of a call"),
    ("client/core.rs Core", "parts that a client's threads share; each keeps its own order"),
    ("http1/url.rs Authority", "pieces of a text"),
    ("http1/url.rs Credentials", "pieces of a text"),
    ("http1/url.rs UrlParts", "pieces of a text"),
    ("failure/text.rs Chain", "a way to show what it wraps"),
    ("failure/text.rs OneLine", "a way to show what it wraps"),
    ("dial/proxy/mod.rs Proxy", "pieces of a text"),
    ("handshake/gate.rs Gate", "what a builder hands over"),
    ("handshake/request.rs OpeningRequest", "what is said; a program has checked methods for it"),
    ("handshake/server.rs Upgrade", "what has come of a call"),
    ("metrics/names.rs Sample", "what a series is called, and a value"),
    ("handshake/client.rs Handshake", "what has come of a call"),
    ("http1/endpoint.rs Endpoint", "pieces of a text"),
    ("http1/reference.rs Target", "pieces of a text"),
    ("link/link.rs Ended", "what has come of a link"),
    ("link/link.rs Parts", "what a call takes"),
    ("link/opened.rs Opened", "what a call takes"),
    ("link/pings.rs Covered", "two numbers"),
    ("link/reader.rs Work", "what a call takes"),
    (
        "link/shared.rs Shared",
        "what three threads share, each thing with a type and a lock of its own",
    ),
    ("server/core.rs ServerCore", "what the threads of a server share"),
    ("link/close_request.rs CloseRequest", "what a call takes"),
    ("link/control.rs Slots", "what was in the slots"),
    ("link/life.rs Orders", "what the writer is to do"),
    ("link/beat_clock.rs Seen", "what a step is made from"),
    ("queues/entry.rs Entry", "a message that goes from hand to hand, with what is known of it"),
    ("queues/terms.rs Tally", "numbers that were read at one moment"),
    ("queues/terms.rs Terms", "what goes with a message"),
    ("queues/terms.rs TooLarge", "what has come of a call"),
    ("wire/framed/encoder.rs Unencoded", "what has come of a call"),
    ("wire/framed/splitter.rs Found", "what has come of a call"),
    ("http1/head.rs ResponseHead", "pieces of a text"),
    ("transport/duplex.rs Duplex", "three pieces that three threads own"),
];
