//! The client that the Autobahn test suite tests: runs all its cases, echoing, then asks for the
//! report. [tests/autobahn/run.sh](../tests/autobahn/run.sh) starts it, and the server of the suite.
//!
//! ```text
//! cargo run --release --example autobahn_client -- ws://127.0.0.1:9101
//! ```

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use everlink::config::Compression;
use everlink::failure::Decision;
use everlink::{Client, ClientBuilder, Error, Failure, State};

/// How long the suite may take to say how many cases there are.
const SILENCE: Duration = Duration::from_secs(60);

/// How long an echo may take to be written, on a link that may have died.
const WRITING: Duration = Duration::from_secs(2);

/// A case that takes longer is mentioned.
const SLOW: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
#[command(about = "The client that the Autobahn test suite tests")]
struct Options {
    /// Where `wstest -m fuzzingserver` listens
    url: String,
    /// The name in the report
    #[arg(long, default_value = "everlink")]
    agent: String,
}

fn main() -> Result<(), Box<dyn StdError>> {
    env_logger::init();
    let Options { url, agent } = Options::parse();
    let url = url.trim_end_matches('/');
    let count = case_count(&format!("{url}/getCaseCount"))?;
    println!("{count} cases");
    for case in 1..=count {
        let begun = Instant::now();
        let end = echo(&format!("{url}/runCase?case={case}&agent={agent}"))?;
        let took = begun.elapsed();
        if took > SLOW {
            println!("case number {case} took {took:.1?}: {end:?}");
        }
    }
    echo(&format!("{url}/updateReports?agent={agent}"))?;
    Ok(())
}

/// One link and no second: each case looks at a link from its beginning to its end.
fn builder(url: &str) -> ClientBuilder {
    Client::builder(url).compression(Compression::new()).decide(|_, _| Decision::GiveUp)
}

fn case_count(url: &str) -> Result<u32, Box<dyn StdError>> {
    let client = builder(url).connect()?;
    let message = client.recv_timeout(SILENCE)?;
    client.close();
    Ok(message.as_text().ok_or("the number of cases is not a text")?.parse()?)
}

/// Sends back what comes until the link ends; returns why it ended. Some cases want to see the echo
/// of a message although a violation follows right behind it, so each echo is written before the next
/// bytes are looked at.
fn echo(url: &str) -> Result<Option<Arc<Failure>>, Error> {
    let client = builder(url)
        .on_message(|sender, message| {
            if sender.try_send(message).is_ok() {
                let _ = sender.wait_sent(WRITING);
            }
        })
        .connect()?;
    let events = client.subscribe();
    // the end may have come before the subscription
    while client.state() != State::GaveUp && events.recv().is_ok() {}
    let end = client.status().last_failure;
    client.close();
    Ok(end)
}
