//! A live table of connections: what each is doing, how long an answer takes, what travels, what
//! waits, and why it was lost last.
//!
//! ```text
//! cargo run --example monitor -- ws://127.0.0.1:9001 wss://localhost:9002/feed
//! cargo run --example monitor
//! ```
//!
//! Without a URL it watches six clients of a server of its own, through proxies that break things
//! every now and then, so that there is something to see.
//!
//! Keys: up and down choose a connection; `r` has it dial anew, `c` closes it; `p` holds the
//! picture, and goes on; `q` ends.

mod draw;
mod watched;
mod world;

use std::error::Error;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use crossbeam_channel::{Receiver, bounded, select, tick, unbounded};
use everlink::config::{Heartbeat, Timeouts};
use everlink::{Client, ClientBuilder};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;
use watched::Watched;
use world::World;

/// How often the table is drawn anew.
const FRAME: Duration = Duration::from_millis(250);

/// How long a goodbye may take at the end.
const GOODBYE: Duration = Duration::from_millis(500);

#[derive(Debug, Parser)]
#[command(about = "A live table of connections")]
struct Options {
    /// What to connect to; nothing: a server of its own, and things that go wrong
    urls: Vec<String>,
    /// Seconds between two pings of a connection
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    // its threads end with the process at the latest
    let world = if options.urls.is_empty() { Some(World::start()?) } else { None };
    let mut app =
        App { watched: Vec::new(), table: TableState::new().with_selected(0), held: None };
    match &world {
        Some(world) => {
            for (name, builder) in world.clients() {
                app.watch(name, builder)?;
            }
        }
        None => {
            let interval = Duration::from_secs(options.interval);
            for url in &options.urls {
                let heartbeat = Heartbeat::every(interval).dead_after(interval * 3);
                // what is received is only counted
                let builder = Client::builder(url).heartbeat(heartbeat).on_message(|_, _| {});
                let name = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                app.watch(name.to_owned(), builder)?;
            }
        }
    }
    let (stop, stopped) = bounded::<()>(0);
    let mut stop = Some(stop);
    ctrlc::set_handler(move || drop(stop.take()))?;
    let keys = keys()?;

    // a panic restores the terminal too
    let mut terminal = ratatui::try_init()?;
    let result = app.run(&mut terminal, &keys, &stopped);
    ratatui::restore();
    app.close();
    Ok(result?)
}

/// Keys as they are pressed. The thread waits for the terminal, and ends with the process.
fn keys() -> io::Result<Receiver<io::Result<Event>>> {
    let (sender, keys) = unbounded();
    thread::Builder::new().name("keys".into()).spawn(move || {
        loop {
            let event = event::read();
            let is_over = event.is_err();
            if sender.send(event).is_err() || is_over {
                break;
            }
        }
    })?;
    Ok(keys)
}

struct App {
    watched: Vec<Watched>,
    /// Which connection is chosen, and which are seen.
    table: TableState,
    /// Since when the picture is held: it shows that moment.
    held: Option<Instant>,
}

impl App {
    fn watch(&mut self, name: String, builder: ClientBuilder) -> Result<(), everlink::Error> {
        // whoever presses q does not want to wait for the goodbye of a peer that is silent
        let timeouts = Timeouts::new().close(GOODBYE);
        let builder = builder.name(name.as_str()).timeouts(timeouts);
        self.watched.push(Watched::new(name, builder)?);
        Ok(())
    }

    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        keys: &Receiver<io::Result<Event>>,
        stopped: &Receiver<()>,
    ) -> io::Result<()> {
        let frames = tick(FRAME);
        loop {
            let moment = (self.held.unwrap_or_else(Instant::now), self.held.is_some());
            terminal.draw(|frame| draw::draw(frame, &self.watched, &mut self.table, moment))?;
            select! {
                recv(frames) -> _ => if self.held.is_none() {
                    self.watched.iter_mut().for_each(Watched::look);
                },
                recv(keys) -> event => match event {
                    Ok(event) => if self.is_last(&event?) {
                        return Ok(());
                    },
                    Err(_) => return Ok(()),
                },
                // told to by a signal
                recv(stopped) -> _ => return Ok(()),
            }
        }
    }

    /// Does what a key says; returns whether that is to end.
    fn is_last(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let chosen = self.table.selected().and_then(|index| self.watched.get(index));
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('p') => {
                self.held = if self.held.is_none() { Some(Instant::now()) } else { None };
            }
            KeyCode::Char('r') => chosen.into_iter().for_each(Watched::reconnect),
            KeyCode::Char('c') => chosen.into_iter().for_each(Watched::close),
            KeyCode::Up | KeyCode::Char('k') => self.table.select_previous(),
            // it is kept within the rows when they are drawn
            KeyCode::Down | KeyCode::Char('j') => self.table.select_next(),
            _ => {}
        }
        false
    }

    /// All at once: each may need its time for a goodbye.
    fn close(self) {
        for watched in &self.watched {
            watched.close();
        }
    }
}
