//! Watch a session live through five ways in which its connection dies.
//!
//! ```text
//! cargo run --example demo
//! ```
//!
//! Server and client are in the same process, and both send numbers all the time. Between them
//! stands a proxy that does something bad every now and then. Nothing is lost, nothing comes twice.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use everlink::chaos::{Cut, Direction, FaultProxy, Faults};
use everlink::config::{Backoff, Heartbeat, Resume};
use everlink::{Client, Event, Message, Server, Session, SessionStart};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What happens to the connection once enough was sent over it.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Reset,
    EndOfStream,
    Silence,
    Handshake,
    Refuse(Duration),
}

impl Fault {
    fn words(self) -> String {
        match self {
            Self::Reset => "the connection is reset".into(),
            Self::EndOfStream => "the stream ends without a close frame".into(),
            Self::Silence => "nothing gets through any more, and the connection stays open".into(),
            Self::Handshake => "it is reset, and so are the next two within their handshake".into(),
            Self::Refuse(time) => format!("it is reset, and connections are refused for {time:?}"),
        }
    }
}

const FAULTS: [Fault; 5] = [
    Fault::Reset,
    Fault::EndOfStream,
    Fault::Silence,
    Fault::Handshake,
    Fault::Refuse(Duration::from_secs(3)),
];
/// How many messages the client sends between two faults.
const BETWEEN: usize = 100;
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// The pause between two messages.
const PACE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    env_logger::init();
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the numbers add up.
fn run() -> Result<bool> {
    let clock = Clock(Instant::now());
    let (server, at_server) = serve()?;
    let proxy = FaultProxy::start(server.local_addr())?;
    let (report, outages) = crossbeam_channel::unbounded();
    let client = Client::builder(format!("ws://{}", proxy.address()))
        // the session goes on over the next connection
        .resume(Resume::new())
        .heartbeat(Heartbeat::every(PING_INTERVAL).dead_after(Duration::from_secs(2)))
        .backoff(
            Backoff::exponential().initial(Duration::from_millis(200)).max(Duration::from_secs(1)),
        )
        .stable_after(Duration::from_millis(300))
        .on_event(move |_, event| {
            clock.event(event);
            if let Event::Connected { session: SessionStart::Resumed { .. }, .. } = event {
                let _ = report.send(());
            }
        })
        .start()?;

    let receiving = thread::spawn({
        let client = client.clone();
        move || Row::of(client.iter())
    });
    let (mut sent, mut survived) = (0, 0);
    let mut send_some = || -> Result<()> {
        for _ in 0..BETWEEN {
            client.send(sent.to_string())?;
            sent += 1;
            thread::sleep(PACE);
        }
        Ok(())
    };
    for fault in FAULTS {
        send_some()?;
        clock.say("world", &fault.words());
        match fault {
            Fault::Reset => proxy.cut(Cut::Reset),
            Fault::EndOfStream => proxy.cut(Cut::EndOfStream),
            Fault::Silence => proxy.set(Faults::none().stall(Direction::Both))?,
            Fault::Handshake => {
                proxy.set(Faults::none().cut_after(Cut::Reset, 330).at_most(3))?;
                proxy.cut(Cut::Reset);
            }
            Fault::Refuse(time) => {
                proxy.set(Faults::none().refuse())?;
                proxy.cut(Cut::Reset);
                thread::sleep(time);
                proxy.set(Faults::none())?;
                clock.say("world", "the server listens again");
            }
        }
        // sends on meanwhile, into the outbox
        send_some()?;
        if matches!(fault, Fault::Silence) {
            // the client finds out by itself
            thread::sleep(PING_INTERVAL * 4);
            proxy.set(Faults::none())?;
        }
        outages.recv_timeout(PATIENCE)?;
        survived += 1;
        proxy.set(Faults::none())?;
    }
    send_some()?;
    client.send("end")?;
    let at_client = receiving.join().map_err(|_| "the receiving thread panicked")?;
    let (at_server, sent_by_server) = at_server.recv_timeout(PATIENCE)?;
    client.close();

    let sent = sent + sent_by_server;
    let received = at_client.received + at_server.received;
    let twice = at_client.twice + at_server.twice;
    // a number that comes late counts as lost where it was missed, and as twice where it comes
    let lost = sent.saturating_sub(received - twice);
    println!(
        "demo: {survived} outages survived, {sent} sent, {received} received, {lost} lost, \
         {twice} twice"
    );
    Ok(survived == FAULTS.len() && lost == 0 && twice == 0)
}

/// The numbers that came from one end, up to its last word.
#[derive(Debug, Default)]
struct Row {
    received: usize,
    twice: usize,
}

impl Row {
    fn of(messages: impl Iterator<Item = Message>) -> Self {
        let (mut row, mut next) = (Self::default(), 0);
        for message in messages {
            let Some(number) = message.as_text().and_then(|text| text.parse::<usize>().ok()) else {
                // the last word
                break;
            };
            row.received += 1;
            row.twice += usize::from(number < next);
            next = next.max(number + 1);
        }
        row
    }
}

/// Sends numbers until the client has said its last word; then tells what it has received, and
/// how many it has sent.
fn serve() -> Result<(Server, Receiver<(Row, usize)>)> {
    let (report, results) = crossbeam_channel::unbounded();
    let server = Server::builder().resume(Resume::within(Duration::from_secs(60))).bind(
        "127.0.0.1:0",
        move |session: Session| {
            let is_over = Arc::new(AtomicBool::new(false));
            let sent = Arc::new(AtomicU64::new(0));
            let sending = thread::spawn({
                let (session, is_over, sent) =
                    (session.clone(), Arc::clone(&is_over), Arc::clone(&sent));
                move || {
                    while !is_over.load(SeqCst) {
                        if session.send(sent.load(SeqCst).to_string()).is_err() {
                            break;
                        }
                        sent.fetch_add(1, SeqCst);
                        thread::sleep(PACE);
                    }
                    let _ = session.send("end");
                }
            });
            let row = Row::of(session.iter());
            is_over.store(true, SeqCst);
            let _ = sending.join();
            let _ = report.send((row, sent.load(SeqCst) as usize));
            // the client closes
            session.iter().for_each(drop);
        },
    )?;
    Ok((server, results))
}

/// Prints what happens, with the time since the start.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn say(self, who: &str, what: &str) {
        println!("{:7.3} s  {who}  {what}", self.0.elapsed().as_secs_f64());
    }

    fn event(self, event: &Event) {
        self.say("client", &event.to_string());
    }
}
