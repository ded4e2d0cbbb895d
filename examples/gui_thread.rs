//! A connection beside a thread that draws: that thread must never wait for the network, and whatever
//! happens on the network has to come to it as one of its own events.
//!
//! ```text
//! cargo run --example gui_thread
//! ```
//!
//! The window is a model of one: an event loop on the main thread with a status bar and a list. With
//! a real toolkit the channel is what it offers for other threads (winit's `EventLoopProxy`, GTK's
//! `MainContext::invoke`, a `QueuedConnection`), and the rest stays.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use everlink::config::{Backoff, Heartbeat};
use everlink::{Client, Event, Message, Server};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What wakes the window.
enum Wake {
    /// Somebody has typed a line and pressed the button.
    Submit(&'static str),
    /// Somebody wants the window to close.
    CloseWindow,
    Received(Message),
    Connection(Event),
}

/// What the window shows.
#[derive(Default)]
struct Window {
    status: String,
    list: Vec<String>,
    closing: bool,
}

/// Everything that happens on the network becomes an event of the window's.
fn connect(url: &str, wake: &Sender<Wake>) -> Result<Client> {
    let (received, happened) = (wake.clone(), wake.clone());
    let client = Client::builder(url)
        .heartbeat(Heartbeat::every(Duration::from_millis(500)))
        .backoff(Backoff::fixed(Duration::from_millis(100)))
        // the window may be gone: nobody is there to be told then
        .on_message(move |_, message| drop(received.send(Wake::Received(message.into_owned()))))
        .on_event(move |_, event| drop(happened.send(Wake::Connection(event.clone()))))
        // not connect(): that would wait for the server
        .start()?;
    Ok(client)
}

impl Window {
    /// Runs until the client is closed. No branch waits for the network.
    fn run(
        &mut self,
        client: &Client,
        wakes: &Receiver<Wake>,
        mut drawn: impl FnMut(&Self),
    ) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match wakes.recv_timeout(left)? {
                // without a link it is queued, and goes out on the next; never waits
                Wake::Submit(line) => match client.try_send(line) {
                    Ok(()) => self.list.push(format!("> {line}")),
                    Err(refused) => self.status = format!("not sent, try again: {refused}"),
                },
                Wake::Received(message) => self.list.push(format!("< {message}")),
                Wake::Connection(Event::Closed { .. }) => return Ok(()),
                Wake::Connection(event) => self.status = event.to_string(),
                // close() would wait for the goodbye
                Wake::CloseWindow => {
                    self.closing = true;
                    client.sender().start_close(1000, "")?;
                }
            }
            drawn(self);
        }
    }
}

fn echo(address: &str) -> Result<Server> {
    Ok(Server::bind(address, |session| {
        for message in &session {
            if session.send(message).is_err() {
                return;
            }
        }
    })?)
}

fn main() -> Result<()> {
    env_logger::init();
    let server = echo("127.0.0.1:0")?;
    let address = server.local_addr().to_string();
    let (wake, wakes) = mpsc::channel();
    let client = connect(&format!("ws://{address}"), &wake)?;

    // what a person does, as soon as the window shows what they wait for
    let mut server = Some(server);
    let mut step = 0;
    let mut window = Window::default();
    let mut statuses = Vec::new();
    window.run(&client, &wakes, |window| {
        if statuses.last() != Some(&window.status) {
            println!("status: {}", window.status);
            statuses.push(window.status.clone());
        }
        let shown = |line: &str| window.list.iter().any(|shown| shown == line);
        let submit = |line| drop(wake.send(Wake::Submit(line)));
        match step {
            0 if window.status.starts_with("connected") => submit("one"),
            // the server goes, while the window stays as it is
            1 if shown("< one") => drop(server.take()),
            2 if window.status.contains("failed") => submit("two"),
            // and comes back
            3 if shown("> two") => server = echo(&address).ok(),
            4 if shown("< two") => drop(wake.send(Wake::CloseWindow)),
            _ => return,
        }
        step += 1;
    })?;
    println!("{}", window.list.join("\n"));
    if step == 5 && window.closing && window.list == ["> one", "< one", "> two", "< two"] {
        Ok(())
    } else {
        Err(format!("the window was closed after {step} steps").into())
    }
}
