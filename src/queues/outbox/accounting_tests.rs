//! Every message that was accepted is counted once, somewhere, at every moment.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::Queue;

/// What happens to an outbox.
#[derive(Debug, Clone)]
enum Step {
    /// So many bytes are sent; the message lives for ever, or is over before it can be written.
    Send { size: usize, is_stale: bool },
    /// The writer takes so many bytes.
    Take(usize),
    /// The socket has taken so many messages whole.
    Write(usize),
    /// The peer confirms some of what was written.
    Confirm(u64),
    /// The link dies with what the writer holds, maybe for a message that was too large.
    LoseLink { too_large: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..40_usize, prop::bool::weighted(0.2))
            .prop_map(|(size, is_stale)| Step::Send { size, is_stale }),
        2 => (1..100_usize).prop_map(Step::Take),
        2 => (1..5_usize).prop_map(Step::Write),
        1 => (0..100_u64).prop_map(Step::Confirm),
        1 => any::<bool>().prop_map(|too_large| Step::LoseLink { too_large }),
    ];
    prop::collection::vec(step, 0..80)
}

fn check(tally: Tally, before: Tally) -> Result<(), TestCaseError> {
    let Tally { accepted, passed_on, waiting, dropped, expired, handed_back, .. } = tally;
    let sum = passed_on + waiting as u64 + dropped + expired + handed_back;
    prop_assert_eq!(accepted, sum, "{:?}", tally);
    let goes_back = accepted < before.accepted
        || passed_on < before.passed_on
        || dropped < before.dropped
        || expired < before.expired
        || handed_back < before.handed_back
        || tally.resent < before.resent;
    prop_assert!(!goes_back, "{:?} after {:?}", tally, before);
    Ok(())
}

proptest! {
    #[test]
    fn every_message_is_counted_once_at_every_moment(
        steps in steps(),
        overflow in prop::sample::select(
            vec![Overflow::Wait, Overflow::Fail, Overflow::DropOldest, Overflow::DropNewest]
        ),
        delivery in prop::sample::select(vec![Delivery::AtMostOnce, Delivery::AtLeastOnce]),
    ) {
        let limits = Queue::new().messages(8).bytes(100).overflow(overflow);
        let outbox = Outbox::new(limits, usize::MAX, None, delivery, true);
        let (mut batch, mut accepted, mut written) = (VecDeque::new(), 0, 0);
        let past = Instant::now().checked_sub(Duration::from_secs(1));
        let mut before = outbox.tally();
        for step in steps {
            match step {
                Step::Send { size, is_stale } => {
                    let expires = past.filter(|_| is_stale);
                    let message = Message::from(vec![0; size]);
                    let terms = Terms { expires, ..Terms::default() };
                    accepted += u64::from(outbox.push(message, terms, WaitFor::Nothing).is_ok());
                }
                Step::Take(bytes) => outbox.take(&mut batch, bytes),
                Step::Write(messages) => {
                    let count = messages.min(batch.len());
                    let entries: Vec<Entry> = batch.drain(..count).collect();
                    written = entries.last().map_or(written, |entry| written.max(entry.number));
                    outbox.written(entries.into_iter());
                }
                Step::Confirm(number) => outbox.confirmed(number.min(written)),
                Step::LoseLink { too_large } => {
                    outbox.restore_begun(&mut batch);
                    outbox.link_lost();
                    if too_large {
                        let _ = outbox.take_too_large();
                    }
                    outbox.link_buried();
                }
            }
            let tally = outbox.tally();
            prop_assert_eq!(tally.accepted, accepted);
            check(tally, before)?;
            before = tally;
        }
        outbox.shut();
        outbox.restore(&mut batch);
        let handed_back = outbox.drain().len() as u64;
        let tally = outbox.tally();
        check(tally, before)?;
        prop_assert_eq!((tally.waiting, tally.handed_back), (0, handed_back));
        if delivery == Delivery::AtMostOnce {
            prop_assert_eq!(tally.resent, 0);
        }
    }
}
