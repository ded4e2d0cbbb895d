//! A price feed: log in, subscribe, notice gaps in the numbering and repair them, on each link anew.
//!
//! ```text
//! cargo run --example market_feed
//! ```
//!
//! The exchange is in the same process. It loses a tick now and then, and its first connection.

use std::collections::HashMap;
use std::time::Duration;

use everlink::config::{Backoff, SendOptions};
use everlink::{Calls, Client, Error, LoginError, Message, SendError, Server, Session, Waiting};
use serde::{Deserialize, Serialize};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    Auth {
        key: String,
    },
    Subscribe {
        symbols: Vec<String>,
    },
    /// What is the price now, and at which number is the feed?
    Snapshot {
        symbol: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Update {
    Welcome,
    Denied,
    Tick { symbol: String, number: u64, price: f64 },
    Snapshot { symbol: String, number: u64, price: f64 },
}

fn main() -> Result<()> {
    env_logger::init();
    let exchange = Server::bind("127.0.0.1:0", |session| {
        if let Err(error) = trade(&session) {
            println!("exchange  a session ended: {error}");
        }
    })?;
    let client = Client::builder(format!("ws://{}", exchange.local_addr()))
        .backoff(Backoff::exponential().initial(Duration::from_millis(50)))
        .login(|session| {
            session.send(Message::from_json(&Request::Auth { key: "t0p-secret".into() })?)?;
            match session.recv()?.json()? {
                Update::Welcome => {}
                Update::Denied => Err(LoginError::permanent("the key is denied"))?,
                other => Err(format!("expected a welcome, got {other:?}"))?,
            }
            let symbols = vec!["BTC-EUR".into(), "ETH-EUR".into()];
            session.send(Message::from_json(&Request::Subscribe { symbols })?)?;
            Ok(())
        })
        .on_event(|_, event| println!("client    {event}"))
        .connect()?;
    follow(&client)?;
    client.close();
    Ok(())
}

/// Keeps prices until a lost connection and some lost ticks are repaired.
fn follow(client: &Client) -> Result<()> {
    // the price of each symbol, and the number of its last tick; none while a snapshot is awaited
    let mut prices: HashMap<String, (u64, f64)> = HashMap::new();
    let snapshots: Calls<String, (u64, f64)> = Calls::new();
    let mut asked: HashMap<String, Waiting<(u64, f64)>> = HashMap::new();
    let (mut link, mut gaps, mut repaired) = (None, 0, 0);
    while link < Some(2) || repaired < 4 {
        let message = client.recv_timeout(Duration::from_secs(10))?;
        if message.link() != link {
            // numbers start anew with each link
            link = message.link();
            prices.clear();
            asked.clear();
        }
        match message.json()? {
            Update::Tick { symbol, number: 1, price } => drop(prices.insert(symbol, (1, price))),
            Update::Tick { symbol, number, price } => match prices.get_mut(&symbol) {
                Some(last) if last.0 + 1 == number => *last = (number, price),
                // the snapshot was newer
                Some(last) if last.0 >= number => {}
                Some(_) => {
                    println!("client    {symbol}: tick {number} has none before it");
                    gaps += 1;
                    prices.remove(&symbol);
                    // the next link starts anew: there it would be a question too many
                    let question =
                        Message::from_json(&Request::Snapshot { symbol: symbol.clone() })?;
                    let options = SendOptions::new().this_link_only();
                    match snapshots.ask_with(client.sender(), symbol.clone(), question, options) {
                        Ok(waiting) => drop(asked.insert(symbol, waiting)),
                        Err(SendError { error: Error::NotConnected, .. }) => {}
                        Err(refused) => return Err(refused.into()),
                    }
                }
                None => {}
            },
            Update::Snapshot { symbol, number, price } => {
                snapshots.complete(&symbol, (number, price));
                // nobody waits for one of a link that is gone
                if let Some(Ok(Some(last))) =
                    asked.remove(&symbol).map(|waiting| waiting.try_wait())
                {
                    println!("client    {symbol}: repaired at {number}");
                    repaired += 1;
                    prices.insert(symbol, last);
                }
            }
            Update::Welcome | Update::Denied => return Err("an answer to nothing".into()),
        }
    }
    println!("{gaps} gaps, {repaired} repaired; prices: {prices:?}");
    Ok(())
}

/// The exchange's side of a session.
fn trade(session: &Session) -> Result<()> {
    let key = match session.recv()?.json()? {
        Request::Auth { key } => key,
        other => return Err(format!("expected a key, got {other:?}").into()),
    };
    let verdict = if key == "t0p-secret" { Update::Welcome } else { Update::Denied };
    session.send(Message::from_json(&verdict)?)?;
    let symbols = match session.recv()?.json()? {
        Request::Subscribe { symbols } => symbols,
        other => return Err(format!("expected a subscription, got {other:?}").into()),
    };
    let is_first = session.server().stats().accepted == 1;
    for number in 1.. {
        for (index, symbol) in symbols.iter().enumerate() {
            // some are lost, each symbol's at its own time
            if number % 20 != 10 + index as u64 {
                let (symbol, price) = (symbol.clone(), 100.0 + number as f64);
                session.send(Message::from_json(&Update::Tick { symbol, number, price })?)?;
            }
        }
        if is_first && number == 35 {
            println!("exchange  cuts the connection");
            session.abort();
        }
        // answers what is asked; the wait for a question is the pace of the ticks
        match session.recv_timeout(Duration::from_millis(5)) {
            Ok(message) => {
                if let Request::Snapshot { symbol } = message.json()? {
                    let price = 100.0 + number as f64;
                    let snapshot = Update::Snapshot { symbol, number, price };
                    session.send(Message::from_json(&snapshot)?)?;
                }
            }
            Err(Error::Timeout) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
