//! What a market data feed sends: JSON of about 200 bytes, whose members are always the same and whose
//! values differ a little from one message to the next. The same seed makes the same messages.

use fastrand::Rng;

const SEED: u64 = 20_250_304;

/// Name, and price in hundredths at the beginning.
const SYMBOLS: [(&str, u64); 16] = [
    ("BTC-USD", 8_741_235),
    ("ETH-USD", 218_477),
    ("SOL-USD", 14_391),
    ("XRP-USD", 248),
    ("ADA-USD", 94),
    ("DOGE-USD", 21),
    ("LTC-USD", 10_644),
    ("BCH-USD", 33_120),
    ("LINK-USD", 1_502),
    ("AVAX-USD", 2_087),
    ("DOT-USD", 447),
    ("UNI-USD", 718),
    ("ATOM-USD", 463),
    ("AAVE-USD", 19_871),
    ("BTC-EUR", 8_240_116),
    ("ETH-EUR", 205_961),
];

/// The feed, without an end.
pub struct Ticks {
    random: Rng,
    prices: [u64; SYMBOLS.len()],
    sequence: u64,
    /// Since midnight.
    micros: u64,
}

impl Ticks {
    pub fn new() -> Self {
        Self {
            random: Rng::with_seed(SEED),
            prices: SYMBOLS.map(|(_, price)| price),
            sequence: 1_043_882_000,
            micros: (14 * 60 + 30) * 60 * 1_000_000,
        }
    }

    /// Busy symbols come often, as they do.
    fn symbol(&mut self) -> usize {
        self.random.usize(..SYMBOLS.len()).min(self.random.usize(..SYMBOLS.len()))
    }

    fn size(&mut self) -> String {
        format!("{}.{:04}", self.random.u64(..20), self.random.u64(..10_000))
    }
}

impl Iterator for Ticks {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let symbol = self.symbol();
        let price = &mut self.prices[symbol];
        // up or down by at most 0.05 %
        let step = *price / 2_000;
        *price = (*price + self.random.u64(..=2 * step)).saturating_sub(step).max(1);
        let price = *price;
        let spread = 1 + self.random.u64(..3);
        self.sequence += 1 + self.random.u64(..4);
        self.micros += self.random.u64(1..3_000);
        let side = if self.random.bool() { "buy" } else { "sell" };
        let (bid_size, ask_size, size) = (self.size(), self.size(), self.size());
        Some(format!(
            r#"{{"type":"ticker","symbol":"{}","sequence":{},"time":"{}","bid":"{}","bid_size":"{bid_size}","ask":"{}","ask_size":"{ask_size}","price":"{}","size":"{size}","side":"{side}"}}"#,
            SYMBOLS[symbol].0,
            self.sequence,
            time(self.micros),
            decimal(price.saturating_sub(spread)),
            decimal(price + spread),
            decimal(price),
        ))
    }
}

fn decimal(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("2025-03-04T{hour:02}:{minute:02}:{second:02}.{:06}Z", micros % 1_000_000)
}

#[test]
fn a_tick_has_about_200_bytes_and_every_run_has_the_same() {
    let ticks: Vec<String> = Ticks::new().take(10_000).collect();
    let mean = ticks.iter().map(String::len).sum::<usize>() / ticks.len();
    assert!((190..=215).contains(&mean), "{mean}: {}", ticks[0]);
    assert!(Ticks::new().take(ticks.len()).eq(ticks));
}
