//! A raw TCP connection that is kept alive with `ping` and `pong`, loses its server, and comes
//! back: by itself the first time, by hand the second.
//!
//! ```text
//! cargo run --example tcp_heartbeat
//! ```

use std::time::{Duration, Instant};

use everlink::config::{Backoff, Framing, Heartbeat};
use everlink::{Client, Error, Server};

const BEAT: Duration = Duration::from_millis(200);

fn serve(address: &str) -> Result<Server, Error> {
    Server::builder()
        .framing(Framing::lines())
        // both sides send `ping`, and answer `pong` to the other's
        .heartbeat(Heartbeat::ping_pong().interval(BEAT).dead_after(BEAT * 5))
        .bind(address, |session| {
            for message in session.iter() {
                let echo = format!("echo: {}", message.as_text().unwrap_or_default());
                if session.send(echo).is_err() {
                    break;
                }
            }
        })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let begun = Instant::now();
    let say = move |text: String| println!("{:6.3} s  {text}", begun.elapsed().as_secs_f64());
    let server = serve("127.0.0.1:0")?;
    let address = server.local_addr().to_string();

    let client = Client::builder(format!("tcp://{address}"))
        .framing(Framing::lines())
        .heartbeat(Heartbeat::ping_pong().interval(BEAT).dead_after(BEAT * 5))
        // five attempts, the same time apart, then back to the program
        .backoff(Backoff::fixed(BEAT))
        .max_attempts(5)
        // a link that was up for this long makes the count start anew
        .stable_after(BEAT * 2)
        .on_event(move |_, event| say(event.to_string()))
        .connect()?;
    let exchange = |text: &str| -> Result<(), Error> {
        client.send(text)?;
        let answer = client.recv_timeout(Duration::from_secs(5))?;
        say(format!("received       {:?}", answer.as_text().unwrap_or_default()));
        Ok(())
    };
    exchange("one")?;
    std::thread::sleep(BEAT * 4);
    let stats = client.stats();
    say(format!("{} beats, round trip {:.1?}", stats.pings_sent, stats.last_round_trip));

    say("the server goes down, and is back soon".into());
    server.shutdown(Duration::from_secs(1));
    std::thread::sleep(BEAT * 2);
    let server = serve(&address)?;
    exchange("two")?;
    std::thread::sleep(BEAT * 3);

    say("the server goes down for good".into());
    server.shutdown(Duration::from_secs(1));
    match client.recv() {
        Err(Error::GaveUp(_)) => say("the program decides: a new server, and on by hand".into()),
        other => return Err(format!("expected the client to give up, got {other:?}").into()),
    }
    let server = serve(&address)?;
    client.reconnect()?;
    exchange("three")?;
    client.close();
    server.shutdown(Duration::from_secs(1));
    Ok(())
}
