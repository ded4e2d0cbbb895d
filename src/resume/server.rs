//! What a server makes of a claim, and of the death of a link.

use super::Counts;

/// Whether a client that has received so many messages can go on with a session.
pub(crate) fn admits(counts: &Counts, received: u64) -> bool {
    !counts.is_given_up() && counts.is_possible(received)
}

/// What is known of a link that is dead and joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    /// It ended in a way that ends its session: a close frame of the peer's, a violation, an end
    /// that this side wanted.
    pub(crate) is_final: bool,
    /// The handler has returned, or the session was closed, so that nothing more will be sent
    /// than what is left.
    pub(crate) is_closing: bool,
    /// There is something that the peer may not have.
    pub(crate) is_left: bool,
}

/// What becomes of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It waits for its client.
    Detached,
    /// It waits a moment: a client that has never reported may have had no answer, and then nobody
    /// ever comes.
    Briefly,
    Over,
}

pub(crate) fn after_death(counts: &Counts, death: Death) -> After {
    let Death { is_final, is_closing, is_left } = death;
    if is_final || counts.is_given_up() || is_closing && !is_left {
        After::Over
    } else if counts.is_reported() {
        After::Detached
    } else {
        After::Briefly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_waits_for_who_can_come_back() {
        let counts = Counts::default();
        let death = |is_final, is_closing, is_left| Death { is_final, is_closing, is_left };
        assert_eq!(after_death(&counts, death(false, false, true)), After::Briefly);
        assert_eq!(after_death(&counts, death(true, false, true)), After::Over);
        assert!(counts.report(0));
        for (death, after) in [
            (death(false, false, false), After::Detached),
            (death(true, false, true), After::Over),
            (death(false, true, true), After::Detached),
            (death(false, true, false), After::Over),
        ] {
            assert_eq!(after_death(&counts, death), after, "{death:?}");
        }
        assert!(admits(&counts, 0) && !admits(&counts, 1));
        counts.give_up();
        assert!(!admits(&counts, 0));
        assert_eq!(after_death(&counts, death(false, false, true)), After::Over);
    }
}
