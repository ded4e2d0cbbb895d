//! A charging station and its back end, as in OCPP: each side asks the other and waits for answers,
//! and a station that comes back takes the place of its old connection.
//!
//! ```text
//! cargo run --example ocpp
//! ```
//!
//! Of OCPP-J there is the framing of calls (`[2,id,action,payload]`, `[3,id,payload]`), Basic
//! authentication and the subprotocol; no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everlink::failure::Decision;
use everlink::http::StatusCode;
use everlink::{Answer, Calls, Client, Error, Event, Failure, Sender, Server, Session};
use serde_json::{Value, json};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The close code for a session that another one replaces: one of those that are the program's own.
const REPLACED: u16 = 4001;
const PATIENCE: Duration = Duration::from_secs(5);

/// What a side has asked and waits for: what was asked on a link that is gone gets no answer on the next.
type Pending = Calls<String, Value>;

/// Asks, and waits for the answer.
fn ask(
    sender: &Sender,
    pending: &Pending,
    id: &str,
    action: &str,
    wait: Duration,
) -> Result<Value> {
    let call = json!([2, id, action, {}]);
    Ok(pending.call(sender, id.into(), call, wait)?)
}

/// Answers a call, or hands an answer to who waits for it.
fn receive(sender: &Sender, pending: &Pending, frame: Vec<Value>, know: fn(&str) -> Option<Value>) {
    match frame.as_slice() {
        [kind, Value::String(id), Value::String(action), _] if *kind == 2 => {
            if let Some(answer) = know(action) {
                // a sender that is closed has nobody to answer
                let _ = sender.send(json!([3, id, answer]));
            }
        }
        [kind, Value::String(id), answer] if *kind == 3 => {
            if pending.complete(id, answer.clone()).is_some() {
                println!("nobody waits for the answer to {id} any more");
            }
        }
        _ => println!("neither call nor answer: {frame:?}"),
    }
}

/// The stations that are connected, by name.
#[derive(Clone, Default)]
struct Stations(Arc<Mutex<HashMap<String, (Session, Pending)>>>);

impl Stations {
    fn get(&self, name: &str) -> Option<(Session, Pending)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn put(&self, name: &str, session: &Session, pending: &Pending) -> Option<Session> {
        let place = (session.clone(), pending.clone());
        let mut stations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stations.insert(name.into(), place).map(|(old, _)| old)
    }

    /// Unless another session has the place by now.
    fn remove(&self, name: &str, session: &Session) {
        let mut stations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stations.get(name).is_some_and(|(present, _)| present.id() == session.id()) {
            stations.remove(name);
        }
    }
}

/// The name with which a station has proved who it is.
#[derive(Clone)]
struct Name(String);

fn back_end(stations: Stations) -> Result<Server> {
    let server = Server::builder()
        .subprotocols(["ocpp1.6"])
        .on_request(|incoming| match incoming.basic_auth() {
            Some((name, password)) if password == "0cpp" => Answer::accept().with(Name(name)),
            _ => Answer::reject(StatusCode::UNAUTHORIZED),
        })
        .bind("127.0.0.1:0", move |session| {
            let Some(Name(name)) = session.get().cloned() else { return };
            let pending = Pending::with_their_link();
            if let Some(old) = stations.put(&name, &session, &pending) {
                // it may hang since hours: nobody waits for its goodbye
                let _ = old.start_close(REPLACED, "replaced");
            }
            for message in &session {
                match message.json() {
                    Ok(frame) => {
                        receive(session.sender(), &pending, frame, |action| match action {
                            "BootNotification" => Some(json!({ "status": "Accepted" })),
                            _ => None,
                        })
                    }
                    Err(error) => println!("{name} sends no JSON: {error}"),
                }
            }
            stations.remove(&name, &session);
        })?;
    Ok(server)
}

fn station(url: &str, name: &str) -> Result<(Client, Pending)> {
    let pending = Pending::with_their_link();
    let answers = pending.clone();
    let client = Client::builder(url)
        .basic_auth(name, "0cpp")
        .subprotocols(["ocpp1.6"])
        // who is replaced does not fight for the place
        .decide(|_, failure| match failure.close_frame() {
            Some(frame) if frame.code.0 == REPLACED => Decision::GiveUp,
            _ => failure.decision(),
        })
        .on_message(move |sender, message| match message.json() {
            Ok(frame) => receive(sender, &answers, frame, |action| match action {
                "RemoteStartTransaction" => Some(json!({ "status": "Accepted" })),
                // this station is slow to reset: the back end does not wait for ever
                _ => None,
            }),
            Err(error) => println!("the back end sends no JSON: {error}"),
        })
        .connect()?;
    Ok((client, pending))
}

fn main() -> Result<()> {
    env_logger::init();
    let stations = Stations::default();
    let server = back_end(stations.clone())?;
    let url = format!("ws://{}/ocpp", server.local_addr());

    let stranger = Client::builder(&url).basic_auth("CP-7", "guess").connect();
    println!("a stranger: {:?}", stranger.err().map(|error| error.to_string()));

    let (client, asked) = station(&url, "CP-7")?;
    println!("speaks {:?}", client.status().subprotocol());
    let answer = ask(client.sender(), &asked, "b-1", "BootNotification", PATIENCE)?;
    println!("station: booted, {answer}");

    let (session, pending) = stations.get("CP-7").ok_or("the station is not there")?;
    let answer = ask(session.sender(), &pending, "r-1", "RemoteStartTransaction", PATIENCE)?;
    println!("back end: started, {answer}");
    let wait = Duration::from_millis(200);
    let slow = pending.call(session.sender(), "r-2".into(), json!([2, "r-2", "Reset", {}]), wait);
    if !matches!(slow, Err(Error::Timeout)) {
        return Err(format!("expected no answer in time, got {slow:?}").into());
    }
    println!("back end: no answer to Reset in time");

    // the station comes back before the back end has noticed that it was gone
    let events = client.subscribe();
    let (newer, asked) = station(&url, "CP-7")?;
    // its answer comes from the session that has the place
    ask(newer.sender(), &asked, "b-2", "BootNotification", PATIENCE)?;
    let gone = loop {
        if let Event::GaveUp { cause, .. } = events.recv_timeout(PATIENCE)? {
            break cause;
        }
    };
    if !is_replaced(&gone) {
        return Err(format!("expected the old connection to be replaced, got {gone}").into());
    }
    let (present, pending) = stations.get("CP-7").ok_or("the station is not there")?;
    if present.id() == session.id() {
        return Err("the old session still has the place".into());
    }
    ask(present.sender(), &pending, "r-3", "RemoteStartTransaction", PATIENCE)?;
    println!("back end: started again, on the new connection");
    newer.close();
    client.close();
    Ok(())
}

fn is_replaced(cause: &Failure) -> bool {
    cause.close_frame().is_some_and(|frame| frame.code.0 == REPLACED)
}
