//! A device that loses no reading, whatever happens to its connection, and to itself: each reading is
//! in a journal on disk before it is sent, and leaves it when the other side has confirmed it.
//!
//! ```text
//! cargo run --example device_uplink
//! cargo run --example device_uplink -- ws://127.0.0.1:9001 /tmp/journal    the device alone
//! ```
//!
//! Without arguments the back end is in this process and the device in another, which is killed with
//! SIGKILL three times in the middle of its work, and whose connection is cut.
//!
//! What is confirmed is with the peer's endpoint. A service that may itself be killed answers with a
//! number of its own once it has stored a reading, and the device waits for that instead.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use crossbeam_channel::{after, unbounded};
use everlink::config::{Backoff, Delivery};
use everlink::{Client, Receipt, Server};
use redb::{Database, ReadableTable, TableDefinition};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How many readings the device takes in its life.
const COUNT: u64 = 300;

#[derive(Debug, Parser)]
#[command(about = "A device that loses no reading")]
struct Options {
    /// The back end
    #[arg(requires = "journal")]
    url: Option<String>,
    /// The file of the journal
    journal: Option<PathBuf>,
}

fn main() -> Result<()> {
    env_logger::init();
    match Options::parse() {
        Options { url: Some(url), journal: Some(journal) } => device(&url, &journal),
        _ => watch(),
    }
}

/// Readings that are not confirmed yet, by their numbers.
const READINGS: TableDefinition<'_, u64, &str> = TableDefinition::new("readings");
/// How many readings were taken.
const TAKEN: TableDefinition<'_, (), u64> = TableDefinition::new("taken");

struct Journal(Database);

impl Journal {
    fn open(path: &Path) -> Result<Self> {
        let database = Database::create(path)?;
        let begun = database.begin_write()?;
        begun.open_table(READINGS)?;
        begun.open_table(TAKEN)?;
        begun.commit()?;
        Ok(Self(database))
    }

    /// Writes a reading down and crosses out those that are confirmed, both or neither.
    fn write(&self, reading: Option<(u64, &str)>, confirmed: &[u64]) -> Result<()> {
        let begun = self.0.begin_write()?;
        {
            let mut readings = begun.open_table(READINGS)?;
            for number in confirmed {
                readings.remove(number)?;
            }
            if let Some((number, text)) = reading {
                readings.insert(number, text)?;
                begun.open_table(TAKEN)?.insert((), number)?;
            }
        }
        begun.commit()?;
        Ok(())
    }

    /// How many readings were taken, and those that are not confirmed.
    fn read(&self) -> Result<(u64, Vec<(u64, String)>)> {
        let begun = self.0.begin_read()?;
        let taken = begun.open_table(TAKEN)?.get(())?.map_or(0, |count| count.value());
        let mut open = Vec::new();
        for entry in begun.open_table(READINGS)?.iter()? {
            let (number, text) = entry?;
            open.push((number.value(), text.value().to_owned()));
        }
        Ok((taken, open))
    }
}

/// Takes readings and uploads them, from where it was stopped, if it was.
fn device(url: &str, journal: &Path) -> Result<()> {
    let journal = Journal::open(journal)?;
    let client = Client::builder(url)
        // what a dead link had taken is sent again on the next
        .delivery(Delivery::AtLeastOnce)
        .backoff(Backoff::exponential().initial(Duration::from_millis(50)))
        .start()?;
    let mut unconfirmed: VecDeque<(u64, Receipt)> = VecDeque::new();
    let mut upload = |number: u64, text: &str| -> Result<Vec<u64>> {
        unconfirmed.push_back((number, client.send_confirmed(format!("{number} {text}"))?));
        let mut confirmed = Vec::new();
        while unconfirmed.front().is_some_and(|(_, receipt)| receipt.is_confirmed()) {
            confirmed.extend(unconfirmed.pop_front().map(|(number, _)| number));
        }
        Ok(confirmed)
    };
    let (taken, open) = journal.read()?;
    let mut confirmed = Vec::new();
    for (number, text) in open {
        confirmed.extend(upload(number, &text)?);
    }
    for number in taken + 1..=COUNT {
        // the sensor has something to say every few milliseconds
        let _ = after(Duration::from_millis(3)).recv();
        let text = format!("{}.5 degrees", 20 + number % 7);
        journal.write(Some((number, &text)), &confirmed)?;
        confirmed = upload(number, &text)?;
    }
    client.flush(Duration::from_secs(20))?;
    let (_, open) = journal.read()?;
    journal.write(None, &open.iter().map(|(number, _)| *number).collect::<Vec<_>>())?;
    client.close();
    Ok(())
}

/// Runs a back end and the device, kills the device and cuts its connection, and counts.
fn watch() -> Result<()> {
    let (sender, arriving) = unbounded();
    let server = Server::bind("127.0.0.1:0", move |session| {
        for message in &session {
            let _ = sender.send(message.to_string());
        }
    })?;
    let url = format!("ws://{}", server.local_addr());
    let folder = std::env::temp_dir().join(format!("everlink-uplink-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let journal = folder.join("journal");
    let mut device = Device::start(&url, &journal)?;

    // how often each reading has come
    let mut arrived: BTreeMap<u64, u32> = BTreeMap::new();
    let mut killed = 0;
    while arrived.len() < COUNT as usize {
        let reading = arriving.recv_timeout(Duration::from_secs(20))?;
        let number = reading.split(' ').next().unwrap_or_default().parse()?;
        *arrived.entry(number).or_default() += 1;
        match arrived.len() {
            60 | 120 | 180 if killed < arrived.len() / 60 => {
                device.0.kill()?;
                device.0.wait()?;
                killed += 1;
                println!("killed after {} readings", arrived.len());
                device = Device::start(&url, &journal)?;
            }
            90 => server.sessions().iter().for_each(|session| session.abort()),
            _ => {}
        }
    }
    let status = device.0.wait()?;
    let (taken, open) = Journal::open(&journal)?.read()?;
    std::fs::remove_dir_all(&folder)?;
    let twice = arrived.values().filter(|times| **times > 1).count();
    println!(
        "{taken} taken, {} arrived ({twice} more than once), {} left in the journal",
        arrived.len(),
        open.len()
    );
    let is_complete = arrived.keys().copied().eq(1..=COUNT);
    if status.success() && killed == 3 && is_complete && open.is_empty() {
        Ok(())
    } else {
        Err("something is missing".into())
    }
}

/// The device as a process of its own; killed when this one ends early.
struct Device(Child);

impl Device {
    fn start(url: &str, journal: &Path) -> Result<Self> {
        let program = std::env::current_exe()?;
        let child = Command::new(program).arg(url).arg(journal).stdin(Stdio::null()).spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // it has ended, most often
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
