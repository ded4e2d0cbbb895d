//! How to test what a program of one's own does when the network fails: put `chaos::FaultProxy` in
//! between, break something, wait until the program has noticed, mend it, and look at what came out.
//!
//! ```text
//! cargo run --example test_with_chaos
//! ```
//!
//! In a real project the scenarios are `#[test]`s, and `everlink` is a dev-dependency with the feature
//! `chaos`.

use std::collections::BTreeSet;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::config::{Backoff, Delivery, Heartbeat, Timeouts};
use everlink::{Client, Error, Event, Server};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const COUNT: u32 = 200;

/// The program under test: uploads readings, and returns when all of them have arrived. It says what
/// happens to its connection, as any program should that somebody has to run.
fn upload(url: &str, mut say: impl FnMut(&Event) + Send + 'static) -> Result<(), Error> {
    let client = Client::builder(url)
        .delivery(Delivery::AtLeastOnce)
        .heartbeat(Heartbeat::every(Duration::from_millis(100)))
        .timeouts(Timeouts::new().handshake(Duration::from_millis(500)))
        .backoff(Backoff::fixed(Duration::from_millis(10)))
        .on_event(move |_, event| say(event))
        .start()?;
    for number in 0..COUNT {
        client.send(number.to_string())?;
    }
    client.flush(Duration::from_secs(20))?;
    client.close();
    Ok(())
}

/// What is broken, and what the program has to notice before it is mended.
type Scenario = (&'static str, Faults, fn(&Event) -> bool);

fn scenarios() -> [Scenario; 6] {
    [
        ("nothing is broken", Faults::none(), |event| matches!(event, Event::Connected { .. })),
        ("nobody listens", Faults::none().refuse(), is_failed_attempt),
        ("somebody listens and says nothing", Faults::none().mute(), is_failed_attempt),
        ("a black hole in the middle", Faults::none().cut_after(Cut::Silence, 1500), is_death),
        ("a reset in the middle", Faults::none().cut_after(Cut::Reset, 1500), is_death),
        ("cut again and again", Faults::none().cut_within(600), |event| {
            matches!(event, Event::Disconnected { link: 3.., .. })
        }),
    ]
}

fn is_failed_attempt(event: &Event) -> bool {
    matches!(event, Event::AttemptFailed { .. })
}

fn is_death(event: &Event) -> bool {
    matches!(event, Event::Disconnected { .. })
}

/// Runs the program with these faults; returns what has arrived, and whether the program has noticed
/// anything.
fn run((_, faults, is_noticed): Scenario) -> Result<(BTreeSet<u32>, bool)> {
    let (arrived, arriving) = unbounded();
    let server = Server::bind("127.0.0.1:0", move |session| {
        for message in &session {
            let _ = arrived.send(message.to_string());
        }
    })?;
    let proxy = FaultProxy::start(server.local_addr())?;
    let url = format!("ws://{}", proxy.address());
    proxy.set(faults)?;
    let (noticed, notices) = bounded(1);
    upload(&url, move |event| {
        if is_noticed(event) && noticed.try_send(()).is_ok() {
            if let Err(error) = proxy.set(Faults::none()) {
                println!("not mended: {error}");
            }
        }
    })?;
    // what is confirmed is with the endpoint; the handlers still take it
    server.shutdown(Duration::from_secs(5));
    // at-least-once: what comes twice is once in a set
    let arrived = arriving.try_iter().map(|number| number.parse());
    Ok((arrived.collect::<Result<_, _>>()?, notices.try_recv().is_ok()))
}

fn main() -> Result<()> {
    env_logger::init();
    for scenario in scenarios() {
        let name = scenario.0;
        let (arrived, noticed) = run(scenario)?;
        println!("{name}: {} of {COUNT} have arrived", arrived.len());
        if !noticed || !arrived.into_iter().eq(0..COUNT) {
            return Err(format!("{name}: unnoticed, or something is missing").into());
        }
    }
    Ok(())
}
