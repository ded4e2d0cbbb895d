//! Watch a client live through five ways in which a connection dies.
//!
//! ```text
//! cargo run --example demo
//! ```
//!
//! The server is in the same process and echoes. Between it and the client stands a proxy that
//! does something bad every now and then.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use everlink::chaos::{Cut, Direction, FaultProxy, Faults};
use everlink::{Backoff, Client, Delivery, Event, Heartbeat};
use tungstenite::protocol::CloseFrame;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What happens to the connection once enough was sent over it.
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
            Self::Reset => "the connection is reset".into(),
            Self::EndOfStream => "the stream ends without a close frame".into(),
            Self::Silence => "nothing gets through any more, and the connection stays open".into(),
            Self::Restart => "the server closes with 1012 (service restart)".into(),
            Self::Refuse(time) => format!("the server dies, and refuses connections for {time:?}"),
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
/// How many messages are sent between two faults.
const BETWEEN: usize = 100;
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
    let restart = Arc::new(AtomicBool::new(false));
    let proxy = FaultProxy::start(serve(Arc::clone(&restart))?)?;

    let (report, outages) = crossbeam_channel::unbounded();
    let client = Client::builder(&format!("ws://{}", proxy.address()))
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
    let (mut sent, mut unconfirmed, mut survived) = (0, 0, 0);
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
            Fault::Restart => restart.store(true, SeqCst),
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
        unconfirmed += outages.recv_timeout(Duration::from_secs(10))?;
        survived += 1;
        proxy.set(Faults::none())?;
        client.wait_connected(Duration::from_secs(10))?;
    }
    send_some()?;
    client.send("end")?;
    let (echoed, in_order) = receiving.join().map_err(|_| "the receiving thread panicked")?;
    client.flush(PING_INTERVAL * 10)?;
    let round_trip = client.stats().last_round_trip;
    client.close();

    if let Some(round_trip) = round_trip {
        clock.say("client", &format!("round trip     {round_trip:.1?}"));
    }
    let lost = sent - echoed;
    println!(
        "demo: {survived} outages survived, {sent} sent, {echoed} echoed, \
         {unconfirmed} unconfirmed at an outage, {lost} lost"
    );
    Ok(survived == FAULTS.len() && in_order && lost == 0)
}

/// Counts the numbers that came back, up to the end; returns also whether they came in order.
/// What was sent again may come again: that is no new number.
fn receive(client: &Client) -> (usize, bool) {
    let (mut echoed, mut last, mut in_order) = (0, None, true);
    for message in client {
        let Some(text) = message.as_text() else { continue };
        if text == "end" {
            break;
        }
        let number = text.parse::<usize>().ok();
        if number > last {
            in_order &= number == Some(last.map_or(0, |last| last + 1));
            last = number;
            echoed += 1;
        }
    }
    (echoed, in_order)
}

/// Echoes on every connection, and says goodbye on the next message when it is to restart.
fn serve(restart: Arc<AtomicBool>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let restart = Arc::clone(&restart);
            // an error is the end of one connection
            thread::spawn(move || drop(echo(stream, &restart)));
        }
    });
    Ok(address)
}

fn echo(stream: TcpStream, restart: &AtomicBool) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut socket = tungstenite::accept(stream)?;
    loop {
        let message = socket.read()?;
        if message.is_text() {
            socket.send(message)?;
        }
        if restart.swap(false, SeqCst) {
            socket.close(Some(CloseFrame { code: 1012.into(), reason: "restart".into() }))?;
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
        self.say("client", &event.to_string());
    }
}
