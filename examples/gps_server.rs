//! A server of GPS trackers over plain TCP: length-prefixed frames, beats of the trackers' own,
//! commands to them, and an end for those that fall silent.
//!
//! ```text
//! cargo run --example gps_server
//! ```
//!
//! A frame is a 16-bit length and that many bytes, the first of which says what it is:
//!
//! | first byte | from | rest |
//! | --- | --- | --- |
//! | `L` | tracker | its number, in digits |
//! | `P` | tracker | latitude and longitude, in millionths of a degree, 32 bits each |
//! | `H` | both | a beat |
//! | `C` | server | number of the command, 16 bits, and its words |
//! | `R` | tracker | number of the command, 16 bits, and the answer |

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use everlink::config::{Framing, Heartbeat, Prefix};
use everlink::failure::FailureKind;
use everlink::{Calls, Client, Server, Session};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const BEAT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server makes of its trackers.
#[derive(Debug, PartialEq)]
enum Report {
    Position { tracker: String, latitude: f64, longitude: f64 },
    Gone { tracker: String, kind: Option<FailureKind> },
}

type Trackers = Arc<Mutex<HashMap<String, Session>>>;

fn framing() -> Framing {
    Framing::length_prefixed(Prefix::U16).max_length(1024)
}

fn serve(
    trackers: Trackers,
    answers: Calls<u16, String>,
    reports: Sender<Report>,
) -> Result<Server> {
    let server = Server::builder()
        .framing(framing())
        // the trackers beat: the server answers, and gives up one that is silent for three beats
        .heartbeat(Heartbeat::listen(BEAT * 3).answer(*b"H", *b"H"))
        .bind("127.0.0.1:0", move |session| {
            let Some(tracker) = name(&session) else { return session.abort() };
            lock(&trackers).insert(tracker.clone(), session.clone());
            for message in &session {
                match message.as_bytes() {
                    [b'P', a, b, c, d, e, f, g, h] => {
                        let degrees = |bytes| f64::from(i32::from_be_bytes(bytes)) / 1e6;
                        let (latitude, longitude) =
                            (degrees([*a, *b, *c, *d]), degrees([*e, *f, *g, *h]));
                        let tracker = tracker.clone();
                        let _ = reports.send(Report::Position { tracker, latitude, longitude });
                    }
                    [b'R', high, low, answer @ ..] => {
                        let number = u16::from_be_bytes([*high, *low]);
                        answers.complete(&number, String::from_utf8_lossy(answer).into_owned());
                    }
                    other => println!("server: {tracker} sends {} bytes of nonsense", other.len()),
                }
            }
            let kind = session.failure().map(|failure| failure.kind());
            lock(&trackers).remove(&tracker);
            let _ = reports.send(Report::Gone { tracker, kind });
        })?;
    Ok(server)
}

/// The number with which a tracker begins; `None` if it begins with something else.
fn name(session: &Session) -> Option<String> {
    let first = session.recv_timeout(PATIENCE).ok()?;
    let digits = first.as_bytes().strip_prefix(b"L")?;
    digits.iter().all(u8::is_ascii_digit).then(|| String::from_utf8_lossy(digits).into_owned())
}

fn lock(trackers: &Trackers) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
    trackers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tracker, which says who it is on each link anew and obeys.
fn tracker(address: SocketAddr, number: &'static str) -> Result<Client> {
    let client = Client::builder(format!("tcp://{address}"))
        .framing(framing())
        .heartbeat(Heartbeat::every(BEAT).message(*b"H", |answer| answer.as_bytes() == b"H"))
        .login(move |login| login.send(format!("L{number}").into_bytes()))
        .on_message(|sender, message| {
            if let [b'C', high, low, words @ ..] = message.as_bytes() {
                let mut answer = vec![b'R', *high, *low];
                answer.extend_from_slice(if words == b"locate" { b"ok" } else { b"what?" });
                let _ = sender.send(answer);
            }
        })
        .connect()?;
    Ok(client)
}

fn position(latitude: f64, longitude: f64) -> Vec<u8> {
    let millionths = |degrees: f64| ((degrees * 1e6) as i32).to_be_bytes();
    [&b"P"[..], &millionths(latitude), &millionths(longitude)].concat()
}

fn expect(reports: &Receiver<Report>, expected: &Report) -> Result<()> {
    let report = reports.recv_timeout(PATIENCE)?;
    println!("server: {report:?}");
    if &report == expected { Ok(()) } else { Err(format!("expected {expected:?}").into()) }
}

fn main() -> Result<()> {
    env_logger::init();
    let (trackers, answers, (sender, reports)) = (Trackers::default(), Calls::new(), unbounded());
    let server = serve(Arc::clone(&trackers), answers.clone(), sender)?;

    let van = tracker(server.local_addr(), "490154203237518")?;
    van.send(position(52.52, 13.405))?;
    let tracker = String::from("490154203237518");
    let place = Report::Position { tracker: tracker.clone(), latitude: 52.52, longitude: 13.405 };
    expect(&reports, &place)?;

    // the clone does not hold the lock while the tracker is asked
    let session = lock(&trackers).get(&tracker).cloned().ok_or("the tracker is not there")?;
    let command = [&b"C"[..], &7_u16.to_be_bytes(), b"locate"].concat();
    let answer = answers.call(session.sender(), 7, command, PATIENCE)?;
    println!("server: the tracker answers {answer:?}");
    if answer != "ok" {
        return Err("it should have obeyed".into());
    }

    // one that says who it is and nothing more, as if it had driven into a tunnel
    let mut silent = TcpStream::connect(server.local_addr())?;
    silent.write_all(b"\0\x02L1")?;
    let kind = Some(FailureKind::Silent);
    expect(&reports, &Report::Gone { tracker: "1".into(), kind })?;

    // the other one has beaten all the while
    van.close();
    let kind = Some(FailureKind::Lost);
    expect(&reports, &Report::Gone { tracker, kind })?;
    Ok(())
}
