//! Clients that are cut off all the time, for as long as you like, and a count at the end.
//!
//! ```text
//! cargo run --release --example soak -- [--minutes 2] [--clients 50] [--seed 0]
//! ```
//!
//! Every client sends numbers, at least once, through one of ten proxies to one server. The
//! proxies do random bad things. At the end every number must have arrived, in order on each
//! connection, and no thread, descriptor or memory may be left over.
//!
//! Meanwhile it prints now and then what the library holds: the bytes in use, of which this
//! program's own notes are a part that does not grow. Resident memory beside it is what the
//! allocator got from the system; it keeps much of that for the next burst.

use std::alloc::System;
use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use everlink::chaos::{Cut, Direction, FaultProxy, Faults};
use everlink::config::{Backoff, Delivery, Heartbeat, Timeouts};
use everlink::failure::Decision;
use everlink::{Client, Event, Server, Session};
use hdrhistogram::Histogram;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what is allocated and freed: resident memory says more of allocators than of leaks.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const PROXIES: usize = 10;
const DEAD_AFTER: Duration = Duration::from_millis(1500);
/// The pause between two messages of a client.
const PACE: Duration = Duration::from_millis(5);
/// After each of so many parts of the time what is held is printed.
const REPORTS: u32 = 10;
/// How much more memory than at the start is no leak yet: what allocators keep.
const SLACK_KIB: u64 = 64 * 1024;
/// The same for bytes in use: names of threads that std and the log remember, and the like.
const HEAP_SLACK: usize = 16 * 1024;

#[derive(Debug, Parser)]
#[command(about = "Clients that are cut off all the time, and a count at the end")]
struct Options {
    /// How long it takes
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// How many clients
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Which random faults
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    env_logger::init();
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the server has seen of one client. It does not grow with the numbers: memory that does is
/// the library's.
#[derive(Debug, Default)]
struct Seen {
    /// All numbers below this have come.
    next: u64,
    /// Those that have come before one below them.
    ahead: BTreeSet<u64>,
    duplicates: u64,
    /// Numbers that did not follow on the one before them on their connection.
    out_of_order: u64,
}

impl Seen {
    fn note(&mut self, number: u64) {
        if number < self.next || !self.ahead.insert(number) {
            self.duplicates += 1;
        }
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }

    fn count(&self) -> u64 {
        self.next + self.ahead.len() as u64
    }
}

/// What the clients' events tell, in microseconds.
#[derive(Debug)]
struct Times {
    /// From the fault to the event.
    detection: Histogram<u64>,
    /// From the lost link to the next one.
    recovery: Histogram<u64>,
}

impl Times {
    fn new() -> Result<Self> {
        // up to an hour: the room for all values is taken at once
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 3);
        Ok(Self { detection: histogram()?, recovery: histogram()? })
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

/// When the last fault that kills was done to the connections of a proxy.
type Struck = Arc<Mutex<Option<Instant>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(options: &Options) -> Result<bool> {
    let seen: Arc<Vec<Mutex<Seen>>> =
        Arc::new((0..options.clients).map(|_| Mutex::default()).collect());
    let times = Arc::new(Mutex::new(Times::new()?));

    // once round without faults, so that what is allocated once is not taken for a leak
    soak(options, Duration::from_secs(1), false, &seen, &times)?;
    *lock(&times) = Times::new()?;
    seen.iter().for_each(|seen| *lock(seen) = Seen::default());
    let before = Machine::now();
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    let (sent, reconnects, faults) = soak(options, time, true, &seen, &times)?;
    let numbers: u64 = seen.iter().map(|seen| lock(seen).count()).sum();
    let duplicates: u64 = seen.iter().map(|seen| lock(seen).duplicates).sum();
    let out_of_order: u64 = seen.iter().map(|seen| lock(seen).out_of_order).sum();
    let lost = sent - numbers;
    let (detection, recovery) = {
        let times = lock(&times);
        (percentiles(&times.detection), percentiles(&times.recovery))
    };
    let after = Machine::now();
    println!(
        "soak: {} clients, {:.0} s, seed {}",
        options.clients,
        time.as_secs_f64(),
        options.seed
    );
    println!("  {faults} faults, {reconnects} reconnects");
    println!("  {sent} sent, {lost} lost, {out_of_order} out of order, {duplicates} sent again");
    println!("  detection of a cut or a black hole: {detection}");
    println!("  recovery, from link to link:        {recovery}");
    println!("  threads {} -> {}", before.threads, after.threads);
    println!("  descriptors {} -> {}", before.descriptors, after.descriptors);
    println!("  memory {} -> {} KiB resident", before.resident, after.resident);
    println!("  heap {} -> {} bytes in use", before.heap, after.heap);
    let leaked = after.threads.saturating_sub(before.threads)
        + after.descriptors.saturating_sub(before.descriptors);
    let grown = after.resident.saturating_sub(before.resident);
    // what this program and std keep for good is a hundredth at most
    let kept = after.heap.saturating_sub(before.heap);
    let is_heap_back = kept <= before.heap / 100 + HEAP_SLACK;
    println!("soak: {lost} lost, {leaked} leaked");
    Ok(lost == 0 && out_of_order == 0 && leaked == 0 && is_heap_back && grown < SLACK_KIB)
}

/// Runs everything once from nothing to nothing; returns how much was sent, how often clients
/// came back, and how many faults there were.
fn soak(
    options: &Options,
    time: Duration,
    with_faults: bool,
    seen: &Arc<Vec<Mutex<Seen>>>,
    times: &Arc<Mutex<Times>>,
) -> Result<(u64, u64, u64)> {
    let server = Server::builder().max_connections(100 * options.clients).bind("127.0.0.1:0", {
        let seen = Arc::clone(seen);
        move |session| serve(&session, &seen)
    })?;
    let proxies: Vec<(FaultProxy, Struck)> = (0..PROXIES as u64)
        .map(|number| {
            let proxy = FaultProxy::with_seed(server.local_addr(), options.seed + number)?;
            Ok((proxy, Struck::default()))
        })
        .collect::<Result<_>>()?;
    let clients: Vec<Client> = (0..options.clients)
        .map(|number| {
            let (proxy, struck) = &proxies[number % PROXIES];
            start(proxy, Arc::clone(struck), Arc::clone(times))
        })
        .collect::<Result<_>>()?;

    let deadline = Instant::now() + time;
    let sending: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(name, client)| {
            let client = client.clone();
            thread::spawn(move || send(&client, name, deadline))
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut faults = 0;
    let begun = Instant::now();
    let mut reports = (1..=REPORTS).map(|number| begun + time / REPORTS * number).peekable();
    while Instant::now() < deadline {
        if with_faults && reports.next_if(|due| *due <= Instant::now()).is_some() {
            report(begun.elapsed(), &clients);
        }
        thread::sleep(Duration::from_millis(random.u64(50..300)));
        if with_faults {
            let (proxy, struck) = &proxies[random.usize(..PROXIES)];
            strike(proxy, struck, &mut random)?;
            faults += 1;
        }
    }
    for (proxy, _) in &proxies {
        proxy.set(Faults::none())?;
    }
    let mut sent = 0;
    for sending in sending {
        sent += sending.join().map_err(|_| "a sending thread panicked")??;
    }
    for client in &clients {
        client.flush(Duration::from_secs(60))?;
    }
    let reconnects = clients.iter().map(|client| client.stats().reconnects).sum();
    for client in clients {
        client.close();
    }
    server.shutdown(Duration::from_secs(10));
    Ok((sent, reconnects, faults))
}

fn start(proxy: &FaultProxy, struck: Struck, times: Arc<Mutex<Times>>) -> Result<Client> {
    let mut had_link = false;
    Ok(Client::builder(format!("ws://{}", proxy.address()))
        .delivery(Delivery::AtLeastOnce)
        .heartbeat(Heartbeat::every(DEAD_AFTER / 3).dead_after(DEAD_AFTER))
        .timeouts(Timeouts::new().handshake(DEAD_AFTER))
        .backoff(
            Backoff::exponential()
                .initial(Duration::from_millis(50))
                .max(Duration::from_millis(500)),
        )
        // a proxy that cuts a handshake in two is no reason to give up
        .decide(|_, _| Decision::Retry)
        .on_message(|_, _| {})
        .on_event(move |_, event| match event {
            Event::Disconnected { .. } => {
                if let Some(struck) = *lock(&struck) {
                    record(&mut lock(&times).detection, struck.elapsed());
                }
            }
            // the first time is no recovery
            Event::Connected { downtime, .. } if std::mem::replace(&mut had_link, true) => {
                record(&mut lock(&times).recovery, *downtime);
            }
            _ => {}
        })
        .start()?)
}

/// What is held now. What waits in the clients' outboxes comes and goes with the faults.
fn report(elapsed: Duration, clients: &[Client]) {
    let Machine { threads, resident, heap, .. } = Machine::now();
    let queued: u64 = clients.iter().map(|client| client.stats().outbox_messages as u64).sum();
    println!(
        "  {:5.0} s: {} KiB in use with {threads} threads and {queued} messages queued, {resident} KiB resident",
        elapsed.as_secs_f64(),
        heap / 1024
    );
}

/// Does something bad to the connections of a proxy, or mends it.
fn strike(proxy: &FaultProxy, struck: &Struck, random: &mut fastrand::Rng) -> Result<()> {
    // what kills a link at once or by silence; the rest is slow, or comes later
    let kills = || *lock(struck) = Some(Instant::now());
    *lock(struck) = None;
    match random.u8(0..12) {
        // with no other fault beside it, or what that does later would be counted from here
        0 | 1 => {
            proxy.set(Faults::none())?;
            kills();
            proxy.cut(Cut::Reset);
        }
        2 | 3 => {
            proxy.set(Faults::none())?;
            kills();
            proxy.cut(Cut::EndOfStream);
        }
        4 => {
            kills();
            let directions = [Direction::Both, Direction::ToClient, Direction::ToServer];
            proxy.set(Faults::none().stall(directions[random.usize(..3)]))?;
        }
        5 => {
            proxy.set(Faults::none().refuse())?;
            kills();
            proxy.cut(Cut::Reset);
        }
        6 => proxy.set(Faults::none().cut_within(20_000))?,
        7 => proxy.set(Faults::none().delay(Duration::from_millis(30)))?,
        8 => proxy.set(Faults::none().throttle(20_000))?,
        9 => proxy.set(Faults::none().single_bytes())?,
        _ => proxy.set(Faults::none())?,
    }
    Ok(())
}

/// Sends numbers until the deadline; returns how many.
fn send(client: &Client, name: usize, deadline: Instant) -> Result<u64, everlink::Error> {
    let mut sent = 0;
    while Instant::now() < deadline {
        client.send(format!("{name} {sent}"))?;
        sent += 1;
        thread::sleep(PACE);
    }
    Ok(sent)
}

/// Notes the numbers, and echoes them.
fn serve(session: &Session, seen: &[Mutex<Seen>]) {
    let mut last: Option<u64> = None;
    for message in session.iter() {
        let numbers = message.as_text().and_then(|text| text.split_once(' '));
        let numbers = numbers.and_then(|(name, number)| {
            Some((seen.get(name.parse::<usize>().ok()?)?, number.parse::<u64>().ok()?))
        });
        let Some((seen, number)) = numbers else { continue };
        {
            let mut seen = lock(seen);
            seen.note(number);
            seen.out_of_order += u64::from(last.is_some_and(|last| last + 1 != number));
        }
        last = Some(number);
        // when the connection is gone there may still be messages that came before
        let _ = session.send(message);
    }
}

fn percentiles(times: &Histogram<u64>) -> String {
    let at = |share: f64| times.value_at_quantile(share) as f64 / 1e3;
    format!(
        "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, most {:.1} ms ({} of them)",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        times.len()
    )
}

/// What the system says of this process. Linux only: elsewhere everything is zero.
#[derive(Debug)]
struct Machine {
    threads: usize,
    descriptors: usize,
    resident: u64,
    /// Bytes that were allocated and are not freed.
    heap: usize,
}

impl Machine {
    fn now() -> Self {
        let heap = ALLOCATOR.stats();
        let count = |folder: &str| fs::read_dir(folder).map_or(0, Iterator::count);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Self {
            threads: count("/proc/self/task"),
            descriptors: count("/proc/self/fd"),
            resident: resident.unwrap_or(0),
            heap: heap.bytes_allocated.saturating_sub(heap.bytes_deallocated),
        }
    }
}
