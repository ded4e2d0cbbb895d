//! Watch a client live through five ways in which a connection dies.
//!
//! ```text
//! cargo run --example demo
//! ```
//!
//! The server is in the same process. It echoes, and after a while does something bad.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use everlink::{Backoff, Client, Delivery, Event, Heartbeat, Next};
use socket2::SockRef;
use tungstenite::protocol::CloseFrame;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What the server does to a connection once it has echoed enough.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Reset,
    EndOfStream,
    Silence,
    Restart,
    Refuse(Duration),
}

impl Fault {
    fn words(self) -> String {
        match self {
            Self::Reset => "resets the connection".into(),
            Self::EndOfStream => "ends the stream without a close frame".into(),
            Self::Silence => "falls silent with the connection open".into(),
            Self::Restart => "closes with 1012 (service restart)".into(),
            Self::Refuse(time) => format!("dies, and refuses connections for {time:?}"),
        }
    }
}

const FAULTS: [Fault; 5] = [
    Fault::Reset,
    Fault::EndOfStream,
    Fault::Silence,
    Fault::Restart,
    Fault::Refuse(Duration::from_secs(3)),
];
/// How many messages the server echoes before each fault.
const ECHOES: usize = 100;
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// The pause between two messages of the client.
const PACE: Duration = Duration::from_millis(5);

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
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (calm, calmed) = mpsc::channel();
    thread::spawn(move || {
        if let Err(error) = serve(listener, address, clock, &calm) {
            clock.say("server", &format!("failed: {error}"));
        }
    });

    let (report, reported) = mpsc::channel();
    let client = Client::builder(&format!("ws://{address}"))
        // what the server has not confirmed when a link dies is sent again on the next
        .delivery(Delivery::AtLeastOnce)
        .heartbeat(Heartbeat::every(PING_INTERVAL).dead_after(Duration::from_secs(2)))
        .backoff(
            Backoff::exponential().initial(Duration::from_millis(200)).max(Duration::from_secs(1)),
        )
        .stable_after(Duration::from_millis(300))
        .on_event(move |event| {
            clock.event(event);
            if let Event::Disconnected { unconfirmed, .. } = event {
                let _ = report.send(*unconfirmed);
            }
        })
        .start()?;

    let receiving = thread::spawn({
        let client = client.clone();
        move || receive(&client)
    });
    // send until the server has run out of bad ideas, and a little longer
    let mut sent = 0_u64;
    let mut left = ECHOES;
    while left > 0 {
        client.send(sent.to_string())?;
        sent += 1;
        if !matches!(calmed.recv_timeout(PACE), Err(mpsc::RecvTimeoutError::Timeout)) {
            left -= 1;
            thread::sleep(PACE);
        }
    }
    client.send("end")?;
    let (echoed, in_order) = receiving.join().map_err(|_| "the receiving thread panicked")?;
    client.flush(PING_INTERVAL * 10)?;
    let round_trip = client.stats().last_round_trip;
    client.close();

    let outages: Vec<u64> = reported.try_iter().collect();
    let unconfirmed: u64 = outages.iter().sum();
    if let Some(round_trip) = round_trip {
        clock.say("client", &format!("round trip     {round_trip:.1?}"));
    }
    let lost = sent.saturating_sub(echoed);
    let adds_up = outages.len() == FAULTS.len() && in_order && echoed == sent;
    println!(
        "demo: {} outages survived, {sent} sent, {echoed} echoed, \
         {unconfirmed} unconfirmed at an outage, {lost} lost",
        outages.len()
    );
    Ok(adds_up)
}

/// Counts the numbers that came back, up to the end; returns also whether they came in order.
/// What was sent again may come again: that is no new number.
fn receive(client: &Client) -> (u64, bool) {
    let (mut echoed, mut last, mut in_order) = (0, None, true);
    for message in client {
        let Some(text) = message.as_text() else { continue };
        if text == "end" {
            break;
        }
        let number = text.parse::<u64>().ok();
        if number > last {
            in_order &= number == Some(last.map_or(0, |last| last + 1));
            last = number;
            echoed += 1;
        }
    }
    (echoed, in_order)
}

/// Serves one connection after the other, each with its fault, the last one without.
fn serve(
    mut listener: TcpListener,
    address: SocketAddr,
    clock: Clock,
    calm: &mpsc::Sender<()>,
) -> Result<()> {
    let mut faults = VecDeque::from(FAULTS);
    let mut silent = Vec::new();
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut socket = tungstenite::accept(stream)?;
        let Some(fault) = faults.pop_front() else {
            for _ in 0..ECHOES {
                let _ = calm.send(());
            }
            while echo(&mut socket).is_ok() {}
            return Ok(());
        };
        for _ in 0..ECHOES {
            echo(&mut socket)?;
        }
        clock.say("server", &fault.words());
        match fault {
            Fault::Reset => {
                SockRef::from(socket.get_ref()).set_linger(Some(Duration::ZERO))?;
            }
            Fault::EndOfStream => socket.get_ref().shutdown(std::net::Shutdown::Write)?,
            Fault::Silence => silent.push(socket),
            Fault::Restart => {
                socket.close(Some(CloseFrame { code: 1012.into(), reason: "restart".into() }))?;
                while socket.read().is_ok() {}
            }
            Fault::Refuse(time) => {
                drop(listener);
                drop(socket);
                thread::sleep(time);
                listener = TcpListener::bind(address)?;
                clock.say("server", "listens again");
            }
        }
    }
}

fn echo(socket: &mut tungstenite::WebSocket<TcpStream>) -> Result<()> {
    loop {
        let message = socket.read()?;
        if message.is_text() {
            return Ok(socket.send(message)?);
        }
    }
}

/// Prints what happens, with the time since the start.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn say(self, who: &str, what: &str) {
        println!("{:7.3} s  {who}  {what}", self.0.elapsed().as_secs_f64());
    }

    fn event(self, event: &Event) {
        let next = |next: &Next| match next {
            Next::Redial { delay, .. } => format!("redial in {delay:.1?}"),
            Next::GiveUp => "giving up".into(),
            _ => "closing".into(),
        };
        let what = match event {
            Event::Connected { attempts, downtime, .. } => {
                format!("connected      attempt {attempts}, after {downtime:.1?} without a link")
            }
            Event::Disconnected { cause, uptime, unconfirmed, next: then, .. } => format!(
                "disconnected   {}; up for {uptime:.1?}, {unconfirmed} unconfirmed, {}",
                cause.report(),
                next(then)
            ),
            Event::AttemptFailed { attempts, cause, next: then, .. } => {
                format!("attempt {attempts} failed: {}; {}", cause.report(), next(then))
            }
            Event::GaveUp { cause, .. } => format!("gave up        {}", cause.report()),
            Event::Closed { clean, .. } => {
                format!("closed         {}", if *clean { "cleanly" } else { "without goodbye" })
            }
            other => format!("{other:?}"),
        };
        self.say("client", &what);
    }
}
