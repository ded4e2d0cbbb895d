//! The frame that confirms: a pong that answers no ping (RFC 6455 section 5.5.3).

const MARK: [u8; 4] = *b"ELR1";

/// How many messages of the session whoever sends it has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report(pub(crate) u64);

impl Report {
    /// The payload of the pong.
    pub(crate) fn payload(self) -> [u8; 12] {
        let mut payload = [0; 12];
        payload[..4].copy_from_slice(&MARK);
        payload[4..].copy_from_slice(&self.0.to_be_bytes());
        payload
    }

    /// `None` if the pong is an ordinary one.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let count = payload.strip_prefix(&MARK)?;
        Some(Self(u64::from_be_bytes(count.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_twelve_bytes_and_nothing_else_is_one() {
        assert_eq!(Report(258).payload(), *b"ELR1\0\0\0\0\0\0\x01\x02");
        assert_eq!(Report::parse(b"ELR1\0\0\0\0\0\0\x01\x02"), Some(Report(258)));
        for payload in [&b""[..], b"ELR1", b"ELR1\0\0\0\0\0\0\x01", b"ELR2\0\0\0\0\0\0\x01\x02"] {
            assert_eq!(Report::parse(payload), None);
        }
        assert_eq!(Report::parse(b"ELR1\0\0\0\0\0\0\x01\x02\x03"), None);
    }
}
