//! One connection, and what was seen of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use everlink::stats::{ClientStats, Rates};
use everlink::{Client, ClientBuilder, ClientStatus, Event, Events, State};

/// Rates are those of the last so many looks.
const RATE_LOOKS: usize = 8;

/// How many round trips are drawn.
pub const TRIPS: usize = 18;

/// How many events of a connection are kept.
const EVENTS: usize = 50;

pub struct Watched {
    pub name: String,
    pub status: ClientStatus,
    pub stats: ClientStats,
    pub rates: Rates,
    /// The newest last; `None` where there was no link.
    pub trips: VecDeque<Option<Duration>>,
    /// When each came, and what it was; the newest last.
    pub events: VecDeque<(Instant, String, bool)>,
    client: Client,
    subscription: Events,
    before: VecDeque<ClientStats>,
    /// How many pings had an answer at the last look.
    answered: u64,
}

impl Watched {
    pub fn new(name: String, builder: ClientBuilder) -> Result<Self, everlink::Error> {
        let client = builder.start()?;
        let subscription = client.subscribe();
        Ok(Self {
            name,
            status: client.status(),
            stats: client.stats(),
            rates: Rates::default(),
            trips: VecDeque::new(),
            events: VecDeque::new(),
            client,
            subscription,
            before: VecDeque::new(),
            answered: 0,
        })
    }

    /// Takes in what is new.
    pub fn look(&mut self) {
        (self.status, self.stats) = (self.client.status(), self.client.stats());
        if let Some(earlier) = self.before.front() {
            self.rates = self.stats.rates_since(earlier);
        }
        push(&mut self.before, self.stats.clone(), RATE_LOOKS);
        let answered = self.stats.pings_sent.saturating_sub(self.stats.unanswered_pings);
        if self.status.state != State::Connected {
            if self.trips.back().is_some_and(Option::is_some) {
                push(&mut self.trips, None, TRIPS);
            }
        } else if answered != self.answered {
            push(&mut self.trips, self.stats.last_round_trip, TRIPS);
        }
        self.answered = answered;
        for event in self.subscription.receiver().try_iter() {
            if matches!(event, Event::Connecting { .. }) {
                continue;
            }
            let is_bad = !matches!(event, Event::Connected { .. } | Event::Closed { .. });
            push(&mut self.events, (Instant::now(), event.to_string(), is_bad), EVENTS);
        }
    }

    pub fn reconnect(&self) {
        // of a closed one nothing more is to be had, as the table says
        let _ = self.client.reconnect();
    }

    /// Starts to close, and does not wait for that.
    pub fn close(&self) {
        let _ = self.client.start_close(1000, "");
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}
