//! What a client makes of the answer to its opening handshake.

use super::{Answer, Counts, Offer, Token};

/// What there is once the server has answered 101. A session that was asked for is over, unless it
/// is resumed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A link that nothing outlives.
    Ordinary,
    /// A new session with this token.
    New(Token),
    /// The session that was asked for goes on, and the server has received so many messages of it.
    Resumed(u64),
    /// The two ends do not agree on what there is: hang up, for one of them may think that there
    /// is a session.
    Disagreed,
}

/// `counts` are those of the session that was asked for.
pub(crate) fn judge(offer: &Offer, answer: Option<&Answer>, counts: Option<&Counts>) -> Verdict {
    match (offer, answer) {
        (Offer::New, None) => Verdict::Ordinary,
        (Offer::New, Some(Answer { token, received: None, .. })) => Verdict::New(token.clone()),
        // nothing was asked to go on
        (Offer::New, Some(_)) => Verdict::Disagreed,
        // the server may have resumed it, with the header cut out of its answer
        (Offer::Resume { .. }, None) => Verdict::Disagreed,
        (Offer::Resume { token, .. }, Some(answer)) => match answer.received {
            None if answer.token != *token => Verdict::New(answer.token.clone()),
            Some(received)
                if answer.token == *token
                    && counts.is_some_and(|counts| counts.is_possible(received)) =>
            {
                Verdict::Resumed(received)
            }
            _ => Verdict::Disagreed,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_to_each_offer() {
        let [ours, other] = [(); 2].map(|()| Token::generate().unwrap());
        let counts = Counts::default();
        for _ in 0..5 {
            counts.send();
        }
        assert!(counts.report(2));
        let resume = Offer::Resume { token: ours.clone(), received: 9 };
        let answer =
            |token: &Token, received| Some(Answer { token: token.clone(), window: 1, received });
        for (offer, answer, verdict) in [
            (&Offer::New, None, Verdict::Ordinary),
            (&Offer::New, answer(&other, None), Verdict::New(other.clone())),
            (&Offer::New, answer(&other, Some(0)), Verdict::Disagreed),
            (&resume, None, Verdict::Disagreed),
            (&resume, answer(&other, None), Verdict::New(other.clone())),
            (&resume, answer(&ours, None), Verdict::Disagreed),
            (&resume, answer(&other, Some(3)), Verdict::Disagreed),
            (&resume, answer(&ours, Some(1)), Verdict::Disagreed),
            (&resume, answer(&ours, Some(2)), Verdict::Resumed(2)),
            (&resume, answer(&ours, Some(5)), Verdict::Resumed(5)),
            (&resume, answer(&ours, Some(6)), Verdict::Disagreed),
        ] {
            let found = judge(offer, answer.as_ref(), Some(&counts));
            assert_eq!(found, verdict, "{offer:?} {answer:?}");
        }
    }
}
