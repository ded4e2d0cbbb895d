//! everlink against what a user would pick instead, in one run.
//!
//! ```text
//! cargo run --release --manifest-path examples/versus/Cargo.toml [-- --quick]
//! ```
//!
//! Rounds are interleaved, so that whatever the machine does besides hits all alike; what is
//! printed are medians and their ratio to raw tungstenite in the same run. Client and server are
//! on the same machine.

mod contender;
mod server;

use std::time::Duration;

use contender::{Contender, Result};

const ALL: [Contender; 5] = [
    Contender::Raw,
    Contender::RawBatched,
    Contender::TokioTungstenite,
    Contender::EverlinkChannel,
    Contender::EverlinkHandler,
];

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, share) = if quick { (3, 20) } else { (7, 2) };
    let server = server::start()?;

    println!("| workload | {} |", ALL.map(Contender::name).join(" | "));
    println!("| --- | {} |", ALL.map(|_| "---").join(" | "));
    for (size, count) in [(32, 1_000_000), (1024, 300_000), (65_536, 10_000), (1 << 20, 600)] {
        let count = (count / share).max(60);
        let rates = interleave(rounds, |who| Ok(rate(count, who.send(server, count, size)?)))?;
        print_rates(&format!("send {size} B, 1/s"), &rates);
    }
    for (size, count) in [(32, 2_000_000), (1024, 500_000), (65_536, 10_000), (1 << 20, 600)] {
        let count = (count / share).max(60);
        let rates = interleave(rounds, |who| Ok(rate(count, who.receive(server, count, size)?)))?;
        print_rates(&format!("receive {size} B, 1/s"), &rates);
    }
    let count = 500_000 / share;
    let rates = interleave(rounds, |who| Ok(rate(count, who.pipelined(server, count, 256)?)))?;
    print_rates("echo 32 B, 256 under way, 1/s", &rates);

    let count = 20_000 / share;
    let mut tails = Vec::new();
    let middles = interleave(rounds, |who| {
        let mut times = who.echo(server, count)?;
        times.sort();
        tails.push((who, micros(times[times.len() * 99 / 100])));
        Ok(micros(times[times.len() / 2]))
    })?;
    print_rates("echo 32 B, p50, us", &middles);
    let tails = ALL.map(|who| {
        median(tails.iter().filter(|(of, _)| *of == who).map(|(_, tail)| *tail).collect())
    });
    print_rates("echo 32 B, p99, us", &tails);
    Ok(())
}

/// The median of each contender, over rounds in which all of them take their turn.
fn interleave(
    rounds: usize,
    mut measure: impl FnMut(Contender) -> Result<f64>,
) -> Result<[f64; ALL.len()]> {
    let mut values = ALL.map(|_| Vec::new());
    for _ in 0..rounds {
        for (who, values) in ALL.into_iter().zip(&mut values) {
            values.push(measure(who).map_err(|error| format!("{}: {error}", who.name()))?);
        }
    }
    Ok(values.map(median))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn print_rates(workload: &str, values: &[f64; ALL.len()]) {
    let raw = values[0];
    let cells = values.map(|value| format!("{value:.0} ({:.2})", value / raw));
    println!("| {workload} | {} |", cells.join(" | "));
}
