//! A program that sends, and is told what becomes of it.

use super::*;

/// A program with its outbox.
pub(super) struct Program {
    pub(super) owner: Owner,
    /// Its session, if it is a server's.
    session: Option<usize>,
    /// It has ended the session.
    pub(super) is_closing: bool,
    /// Messages that can be withdrawn.
    pub(super) withdrawable: Vec<usize>,
}

impl Program {
    pub(super) fn new(
        session: Option<usize>,
        protocols: &[Protocol; 2],
        settings: &Arc<Settings>,
        rules: &Rules,
    ) -> Self {
        let side = if session.is_some() { SERVER } else { CLIENT };
        let lost = Lost::default();
        let tells = Arc::clone(&lost);
        let limits = Queue::new().messages(rules.room).overflow(rules.overflow);
        let delivery = if side == CLIENT { rules.delivery } else { Delivery::AtMostOnce };
        let outbox = Outbox::new(limits, usize::MAX, None, delivery, true)
            .telling(Some(Arc::new(move |message, why| tells.lock().push((message, why)))));
        let owner = Owner {
            side,
            protocols: protocols.clone(),
            settings: Arc::clone(settings),
            outbox: Arc::new(outbox),
            mailbox: Arc::new(Mailbox::new(Queue::new().messages(1))),
            counters: Arc::new(Counters::default()),
            lost,
        };
        Self { owner, session, is_closing: false, withdrawable: Vec::new() }
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.owner.outbox
    }

    pub(super) fn send(&mut self, random: &mut Rng, truth: &mut Truth) {
        if self.is_closing {
            return;
        }
        let is_for_this_link = random.u8(..8) == 0;
        let has_receipt = random.u8(..4) == 0;
        let side = self.owner.side;
        let name = truth.begin(side, self.session, is_for_this_link && !has_receipt);
        truth.show(|| {
            format!("  {side} sends {name}, this link: {is_for_this_link}, receipt: {has_receipt}")
        });
        let mut text = name.to_string();
        (0..random.usize(..20)).for_each(|_| text.push('.'));
        let message =
            if random.bool() { Message::from(text) } else { Message::from(text.into_bytes()) };
        let receipt = has_receipt.then(|| Receipt::new(1));
        let lasts = if random.bool() { Lasts::UntilAnswered } else { Lasts::WithItsLink };
        let question = (random.u8(..4) == 0).then(|| Arc::new(Question::new(lasts)));
        let expires = (random.u8(..4) == 0)
            .then(|| Instant::now() + TIME_TO_LIVE.mul_f64(0.2 * f64::from(random.u8(1..6))));
        truth.fates[name].receipt.clone_from(&receipt);
        truth.fates[name].question.clone_from(&question);
        if question.is_some() {
            self.withdrawable.push(name);
        }
        let terms = Terms {
            receipt,
            expires,
            this_link: is_for_this_link,
            is_uncompressed: false,
            is_shared: false,
            deflated: None,
            key: None,
            question,
        };
        let is_accepted = self.owner.outbox.push(message, terms, WaitFor::Nothing).is_ok();
        self.hear(truth);
        if !is_accepted {
            truth.fates[name].told.get_or_insert(Undelivered::Dropped);
        }
    }

    /// The program hears of what was lost.
    pub(super) fn hear(&self, truth: &mut Truth) {
        self.owner.hear(truth);
    }

    pub(super) fn withdraw(&mut self, random: &mut Rng, truth: &mut Truth) {
        if self.withdrawable.is_empty() {
            return;
        }
        let name = self.withdrawable.swap_remove(random.usize(..self.withdrawable.len()));
        if let Some(question) = truth.fates[name].question.clone() {
            question.fail(Unanswered::NotConnected);
            self.outbox().withdraw(&question);
        }
    }

    /// Takes out what is left, for good.
    pub(super) fn hand_back(&self, truth: &mut Truth) {
        let left = self.outbox().drain();
        self.hear(truth);
        left.iter().for_each(|message| truth.handed_back(name(message.as_bytes())));
    }
}
