//! The architecture as a test: each folder of `src` is a layer that knows only those below it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From the top floor down. What stands on one floor does not know its neighbours.
const FLOORS: [&[&str]; 14] = [
    &["fuzzing", "guide"],
    &["client", "server"],
    &["metrics"],
    &["link", "sender"],
    &["stats"],
    &["queues", "handshake"],
    &["dial"],
    &["wire", "chaos"],
    &["transport", "settings"],
    &["error"],
    &["failure"],
    &["policy"],
    &["message", "resume"],
    &["sync", "seconds"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The name of each source file below `src`, and its text without its tests.
fn library() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&src, &mut found);
    let name = |path: &PathBuf| {
        path.strip_prefix(&src).expect("it is below src").display().to_string().replace('\\', "/")
    };
    let is_test = |name: &String| name.ends_with("tests.rs") || name.ends_with("model.rs");
    let text = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a source file is text");
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.collect::<Vec<_>>().join("\n")
    };
    let library = found.iter().map(|path| (name(path), text(path)));
    library.filter(|(name, _)| !is_test(name)).collect()
}

fn room_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name).trim_end_matches(".rs")
}

fn floor_of(room: &str) -> usize {
    let floor = FLOORS.iter().position(|rooms| rooms.contains(&room));
    floor.unwrap_or_else(|| panic!("{room} stands on no floor: add it to this list"))
}

#[test]
fn each_room_knows_only_those_below_it() {
    let mut wrong = Vec::new();
    for (name, text) in library() {
        let room = room_of(&name);
        if room == "lib" {
            continue;
        }
        for used in text.split("crate::").skip(1) {
            let used = used.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
            if !used.is_empty() && used != room && floor_of(used) <= floor_of(room) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_room_is_too_large_to_be_seen_whole() {
    let large: Vec<String> = library()
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > 600)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(large.is_empty(), "{large:#?}");
}
