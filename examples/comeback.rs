//! How soon many sessions are back after an outage.
//!
//! ```text
//! cargo run --release --example comeback -- [--sessions 200] [--outage 8] [--refuse]
//! ```
//!
//! The network between the clients and a server that is full of them goes away. The clients notice at once, the
//! server does not: all its places are taken by connections that are half open. What is dialed meanwhile waits for the
//! network, or with `--refuse` ends at once. Each client sends something without a network, and gets it back when it
//! has one.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use everlink::config::Resume;
use everlink::{Client, Event, Server, SessionStart};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(about = "How soon many sessions are back after an outage")]
struct Options {
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// In seconds
    #[arg(long, default_value_t = 8)]
    outage: u64,
    /// Connections end at once while there is no network, instead of waiting for it
    #[arg(long)]
    refuse: bool,
}

fn main() -> ExitCode {
    env_logger::init();
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("comeback: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let Options { sessions, outage, refuse } = *options;
    let server = Server::builder()
        .resume(Resume::within(2 * PATIENCE))
        .max_connections(sessions)
        .bind("127.0.0.1:0", |session| {
        for message in &session {
            if session.send(message).is_err() {
                return;
            }
        }
    })?;
    let network = Network::start(server.local_addr(), refuse)?;
    let (came, comes) = crossbeam_channel::unbounded();
    let mut clients = Vec::new();
    for _ in 0..sessions {
        let came = came.clone();
        let builder = Client::builder(format!("ws://{}", network.address)).resume(Resume::new());
        clients.push(builder.on_event(move |_, event| {
            if let Event::Connected { session, attempts, .. } = event {
                let _ = came.send((Instant::now(), *session, *attempts));
            }
        }));
    }
    let clients: Vec<Client> =
        clients.into_iter().map(|builder| builder.connect()).collect::<Result<_, _>>()?;
    for _ in &clients {
        comes.recv_timeout(PATIENCE)?;
    }
    network.goes();
    for (number, client) in clients.iter().enumerate() {
        client.send(number.to_string())?;
    }
    thread::sleep(Duration::from_secs(outage));
    let (early, full) = (comes.len(), server.stats().connections);
    let back = network.comes_back();
    let mut times = Vec::new();
    let (mut resumed, mut most) = (0, 0);
    for _ in &clients {
        let (at, session, attempts) = comes.recv_timeout(PATIENCE)?;
        times.push(at.saturating_duration_since(back));
        resumed += usize::from(matches!(session, SessionStart::Resumed { .. }));
        most = most.max(attempts);
    }
    let mut wrong = 0;
    for (number, client) in clients.iter().enumerate() {
        wrong += usize::from(client.recv_timeout(PATIENCE)? != *number.to_string());
    }
    clients.iter().for_each(|client| drop(client.start_close(1000, "")));
    times.sort();
    println!(
        "comeback: {resumed} of {sessions} sessions resumed after {outage} s without a network, at a \
         server with {full} of {sessions} connections: the first after {:.0?}, half of them after \
         {:.0?}, the last after {:.0?}; at most {most} attempts, {wrong} answers are wrong",
        times[0],
        times[sessions / 2],
        times[sessions - 1],
    );
    Ok(resumed == sessions && wrong == 0 && early == 0)
}

/// What is between clients and server.
struct Network {
    address: SocketAddr,
    inside: Arc<Inside>,
}

#[derive(Default)]
struct Inside {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_down: bool,
    /// How often it has gone.
    outages: usize,
    clients: Vec<TcpStream>,
    /// What the server still believes in.
    half_open: Vec<TcpStream>,
}

impl Inside {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a connection on, once there is a network.
    fn pass(&self, client: TcpStream, server: SocketAddr) -> io::Result<()> {
        let state = self.lock();
        let state = self.changed.wait_while(state, |state| state.is_down);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let server = TcpStream::connect(server)?;
        let outages = state.outages;
        state.clients.push(client.try_clone()?);
        state.half_open.push(server.try_clone()?);
        drop(state);
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let _ = io::copy(&mut &client, &mut &server);
        // who is without a network tells the server nothing
        if self.lock().outages == outages {
            server.shutdown(Shutdown::Both)?;
        }
        Ok(())
    }
}

impl Network {
    fn start(server: SocketAddr, refuses: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, inside) = (listener.local_addr()?, Arc::<Inside>::default());
        let accepting = Arc::clone(&inside);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let inside = Arc::clone(&accepting);
                if !refuses || !inside.lock().is_down {
                    thread::spawn(move || inside.pass(client, server));
                }
            }
        });
        Ok(Self { address, inside })
    }

    /// The clients notice, the server does not.
    fn goes(&self) {
        let mut state = self.inside.lock();
        state.is_down = true;
        state.outages += 1;
        for client in state.clients.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn comes_back(&self) -> Instant {
        self.inside.lock().is_down = false;
        self.inside.changed.notify_all();
        Instant::now()
    }
}
