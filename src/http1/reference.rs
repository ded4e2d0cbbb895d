//! Where a reference leads from a base (RFC 3986 section 5.2), and what may stand in a request.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::url::{UrlParts, split};

/// What is percent-encoded in a path and in a query, as browsers do it (WHATWG URL, the path
/// and special-query sets). What is encoded already stays as it is.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\'');

pub(super) fn encode_path(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, PATH).into()
}

pub(super) fn encode_query(query: &str) -> Cow<'_, str> {
    utf8_percent_encode(query, QUERY).into()
}

/// What a reference means at its base.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) scheme: Option<&'a str>,
    pub(super) authority: Option<&'a str>,
    pub(super) path: String,
    pub(super) query: Option<&'a str>,
}

/// Section 5.2.2, the strict way.
pub(super) fn resolve<'a>(base: &UrlParts<'a>, reference: &'a str) -> Target<'a> {
    let given = split(reference);
    let (scheme, authority) = (base.scheme, base.authority);
    if given.scheme.is_some() {
        let path = remove_dot_segments(given.path);
        return Target {
            scheme: given.scheme,
            authority: given.authority,
            path,
            query: given.query,
        };
    }
    if given.authority.is_some() {
        let path = remove_dot_segments(given.path);
        return Target { scheme, authority: given.authority, path, query: given.query };
    }
    if given.path.is_empty() {
        let query = given.query.or(base.query);
        return Target { scheme, authority, path: base.path.into(), query };
    }
    let path = if given.path.starts_with('/') {
        remove_dot_segments(given.path)
    } else {
        remove_dot_segments(&merge(base, given.path))
    };
    Target { scheme, authority, path, query: given.query }
}

/// Section 5.2.3.
fn merge(base: &UrlParts<'_>, path: &str) -> String {
    if base.authority.is_some() && base.path.is_empty() {
        return format!("/{path}");
    }
    let folder = base.path.rfind('/').map_or("", |slash| &base.path[..=slash]);
    format!("{folder}{path}")
}

/// Section 5.2.4, over segments instead of a buffer.
fn remove_dot_segments(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let mut kept: Vec<&str> = Vec::with_capacity(segments.len());
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match *segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => {
                kept.push(other);
                continue;
            }
        }
        if is_last {
            // what ends in a dot segment is a folder
            kept.push("");
        }
    }
    let slash = if is_absolute { "/" } else { "" };
    format!("{slash}{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_base(reference: &str) -> String {
        let base = split("http://a/b/c/d;p?q");
        let Target { scheme, authority, path, query } = resolve(&base, reference);
        let mut text = format!("{}:", scheme.unwrap());
        if let Some(authority) = authority {
            text += &format!("//{authority}");
        }
        text += &path;
        if let Some(query) = query {
            text += &format!("?{query}");
        }
        if let Some(fragment) = split(reference).fragment {
            text += &format!("#{fragment}");
        }
        text
    }

    #[test]
    fn the_normal_examples_of_section_5_4_1() {
        for (reference, target) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("g#s", "http://a/b/c/g#s"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y#s"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../", "http://a/"),
            ("../../g", "http://a/g"),
        ] {
            assert_eq!(at_base(reference), target, "{reference:?}");
        }
    }

    #[test]
    fn the_abnormal_examples_of_section_5_4_2() {
        for (reference, target) in [
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g#s/./x", "http://a/b/c/g#s/./x"),
            ("g#s/../x", "http://a/b/c/g#s/../x"),
            ("http:g", "http:g"),
        ] {
            assert_eq!(at_base(reference), target, "{reference:?}");
        }
    }

    #[test]
    fn a_base_without_a_path_has_the_root() {
        assert_eq!(resolve(&split("ws://h?q"), "x").path, "/x");
        assert_eq!(resolve(&split("ws://h"), "../x").path, "/x");
    }
}
