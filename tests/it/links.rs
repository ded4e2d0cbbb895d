//! The documents of the repository: every link leads somewhere, and every command names something
//! that exists. What the guide says of the library's items is checked by `cargo doc`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            let is_made = name.starts_with('.') || name == "target" || name == "node_modules";
            if entry.file_type().unwrap().is_dir() && !is_made {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

struct Document {
    links: Vec<String>,
    anchors: HashSet<String>,
    code: Vec<String>,
}

impl Document {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut document = Self { links: Vec::new(), anchors: HashSet::new(), code: Vec::new() };
        let (mut heading, mut block) = (None::<String>, None::<String>);
        for event in Parser::new(&text) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    document.anchors.extend(heading.take().map(|heading| anchor(&heading)));
                }
                Event::Start(Tag::CodeBlock(_)) => block = Some(String::new()),
                Event::End(TagEnd::CodeBlock) => document.code.extend(block.take()),
                Event::Text(text) | Event::Code(text) => {
                    for gathered in [&mut heading, &mut block].into_iter().flatten() {
                        gathered.push_str(&text);
                    }
                    if block.is_none() {
                        document.code.push(text.into_string());
                    }
                }
                _ => {}
            }
        }
        document
    }
}

/// As web sites with Git repositories make them.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Why a link leads nowhere.
fn complaint(document: &Path, link: &str) -> Option<String> {
    const OURS: &str = "https://docs.rs/everlink/latest/everlink/";
    if let Some(page) = link.strip_prefix(OURS) {
        let module = page.split(['/', '#']).next().unwrap_or_default();
        let source = root().join("src").join(module);
        let exists = source.is_dir() || source.with_extension("rs").is_file();
        return (!exists).then(|| format!("there is no module {module}"));
    }
    // an item of the library, which `cargo doc` looks for
    let is_item = link.contains("::") || link.starts_with("crate");
    if is_item || link.starts_with("https://") || link.starts_with("http://127.0.0.1") {
        return None;
    }
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => document.to_owned(),
        path => document.parent()?.join(path),
    };
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    if fragment.is_empty() || target.extension().is_none_or(|extension| extension != "md") {
        return None;
    }
    let is_there = Document::read(&target).anchors.contains(fragment);
    (!is_there).then(|| "there is no such heading".to_owned())
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut complaints = Vec::new();
    let mut count = 0;
    for path in documents() {
        for link in Document::read(&path).links {
            count += 1;
            if let Some(complaint) = complaint(&path, &link) {
                complaints.push(format!("{}: {link}: {complaint}", path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(count > 100, "only {count} links were found");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let readme = root().join("README.md");
    for link in ["src/nothing.rs", "#no-such-heading", "CONTRIBUTING.md#nor-this", "examples/none"]
    {
        assert!(complaint(&readme, link).is_some(), "{link}");
    }
    assert_eq!(anchor("What it guarantees, and what not"), "what-it-guarantees-and-what-not");
}

/// `--example NAME`, `--test NAME`, `examples/NAME.rs`, `tests/NAME.rs` and the like.
#[test]
fn what_the_documents_tell_to_run_or_to_read_exists() {
    let mut missing = Vec::new();
    let mut count = 0;
    for path in documents() {
        // a changelog speaks of what was, too
        if path.ends_with("CHANGELOG.md") {
            continue;
        }
        let text = Document::read(&path).code.join("\n");
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || "`(),;[]'\"".contains(c))
            .map(|word| word.trim_end_matches(['.', ':']))
            .collect();
        for pair in words.windows(2) {
            let folder = match pair[0] {
                "--example" => "examples",
                "--test" => "tests",
                _ => continue,
            };
            // a placeholder
            if pair[1].chars().all(|c| c.is_uppercase()) {
                continue;
            }
            count += 1;
            let found = root().join(folder).join(pair[1]);
            if !found.is_dir() && !found.with_extension("rs").is_file() {
                missing.push(format!("{}: {} {}", path.display(), pair[0], pair[1]));
            }
        }
        for word in words {
            let is_path =
                ["src/", "tests/", "examples/", ".ci/"].iter().any(|at| word.starts_with(at));
            if !is_path || word.contains(['*', '<', '{', '$']) || word.contains("NAME") {
                continue;
            }
            count += 1;
            let beside = path.parent().is_some_and(|folder| folder.join(word).exists());
            if !root().join(word).exists() && !beside {
                missing.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 20, "only {count} were found");
}
