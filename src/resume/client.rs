//! What a client makes of the answer to its offer.

use super::{Answer, Counts, Offer};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another session begins.
    New,
    /// The session that was offered goes on: the server has counted so much of it, and has so much.
    Resumed { received: u64, has: u64 },
    /// No server can say that.
    Violation,
}

/// `counts` are those of the session that was offered.
pub(crate) fn judge(offer: &Offer, answer: &Answer, counts: Option<&Counts>) -> Verdict {
    let (received, has) = (answer.received, answer.has.unwrap_or(answer.received));
    let is_same = matches!(offer, Offer::Resume { token, .. } if *token == answer.token);
    match counts.filter(|_| is_same) {
        Some(counts) if counts.is_possible(received, has) => Verdict::Resumed { received, has },
        None if received == 0 && has == 0 => Verdict::New,
        _ => Verdict::Violation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::Token;

    #[test]
    fn each_answer_to_each_offer() {
        let [ours, other] = [(); 2].map(|()| Token::generate().unwrap());
        let counts = Counts::default();
        for _ in 0..5 {
            counts.reach(counts.number());
        }
        assert_eq!(counts.report(2), Ok(()));
        let resume = Offer::Resume { token: ours.clone(), attempt: 1, received: 9, has: None };
        let answer = |token: &Token, received, has| Answer {
            token: token.clone(),
            received,
            has,
            window: None,
        };
        let resumed = |received, has| Verdict::Resumed { received, has };
        for (offer, answer, verdict) in [
            (&Offer::New, answer(&other, 0, None), Verdict::New),
            (&Offer::New, answer(&other, 1, None), Verdict::Violation),
            (&resume, answer(&other, 0, None), Verdict::New),
            (&resume, answer(&other, 0, Some(1)), Verdict::Violation),
            (&resume, answer(&ours, 1, None), Verdict::Violation),
            (&resume, answer(&ours, 2, None), resumed(2, 2)),
            (&resume, answer(&ours, 2, Some(4)), resumed(2, 4)),
            (&resume, answer(&ours, 3, Some(2)), Verdict::Violation),
            (&resume, answer(&ours, 5, None), resumed(5, 5)),
            (&resume, answer(&ours, 5, Some(6)), Verdict::Violation),
            (&resume, answer(&ours, 6, None), Verdict::Violation),
        ] {
            let found = judge(offer, &answer, Some(&counts));
            assert_eq!(found, verdict, "{offer:?} {answer:?}");
        }
    }
}
