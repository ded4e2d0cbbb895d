//! By which subprotocol both ends of a WebSocket agree on sessions: `everlink.1`, or
//! `everlink.1.NAME` where the program's own is NAME.

const SESSIONS: &str = "everlink.1";

/// The one of a program that itself speaks `name`.
pub(crate) fn of(name: Option<&str>) -> String {
    match name {
        None => SESSIONS.into(),
        Some(name) => format!("{SESSIONS}.{name}"),
    }
}

/// `None` if it is no session's, otherwise the NAME in it, if there is one.
pub(crate) fn parse(offered: &str) -> Option<Option<&str>> {
    match offered.strip_prefix(SESSIONS)? {
        "" => Some(None),
        rest => rest.strip_prefix('.').filter(|name| !name.is_empty()).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subprotocol_of_sessions_has_the_name_of_the_programs_own() {
        for (text, name) in [
            ("everlink.1", None),
            ("everlink.1.chat", Some("chat")),
            ("everlink.1.a.b", Some("a.b")),
            ("everlink.1..", Some(".")),
            ("everlink.1.everlink.1", Some("everlink.1")),
        ] {
            assert_eq!(parse(text), Some(name), "{text}");
            assert_eq!(of(name), text);
        }
        for other in [
            "",
            "chat",
            "everlink",
            "everlink.1.",
            "everlink.10",
            "everlink.10.chat",
            "everlink.2",
            "everlink.1chat",
            "everlink.1 ",
            " everlink.1",
            "Everlink.1",
            "EVERLINK.1.chat",
            "x.everlink.1",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
