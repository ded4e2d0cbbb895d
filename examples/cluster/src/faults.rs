//! What else can happen, one thing after the other: each step says what holds, and fails if it does
//! not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use everlink::failure::Decision;
use everlink::{Client, Error, Event};
use redis::Commands;

use crate::client::{Chatter, Ledger, random_word};
use crate::node::OUT_OF_ORDER;
use crate::processes::Cluster;
use crate::room::TRY_AGAIN;
use crate::wire::{Ask, Hello, Position, SAY_MOST, Tell};
use crate::{Result, pause};

/// No wait is longer: a flood takes a while where other programs want the processor as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// The entries of a flood, more than the outbox of a session and the buffers of its connection hold.
const FLOOD: u64 = 6000;

const STREAM: &str = "chat:stream";

type Step = fn(&mut Faults) -> Result<()>;

struct Faults {
    cluster: Cluster,
    stopped: Receiver<()>,
    origin: Instant,
}

/// Two users, one on each node.
struct Pair {
    ledger: Arc<Ledger>,
    chatters: Vec<Chatter>,
}

pub fn run(cluster: Cluster, stopped: &Receiver<()>) -> Result<()> {
    let mut faults = Faults { cluster, stopped: stopped.clone(), origin: Instant::now() };
    let steps: [(&str, Step); 12] = [
        ("two devices of one user, and one started again, are all heard", Faults::devices),
        ("a message left out is refused with 4001", Faults::left_out),
        ("who says all that is allowed, or another's name, ends nobody else", Faults::greedy),
        ("an entry of somebody else keeps no node busy", Faults::foreign_entry),
        ("connections to Redis are cut, and no client's is", Faults::hiccup),
        ("numbers that Redis has forgotten shut nobody out", Faults::forgotten_numbers),
        ("who is away while the stream is shortened is told of the gap", Faults::shortened),
        ("Redis comes back empty: all are told, and go on", Faults::emptied),
        ("slow readers keep nobody out, and get everything", Faults::slow_readers),
        ("who takes nothing is sent away with 1013", Faults::too_slow),
        ("a node that ends is forgotten, as is one that was killed", Faults::nodes_forgotten),
        ("a port is used by one cluster", Faults::second_cluster),
    ];
    for (name, step) in steps {
        let begun = Instant::now();
        step(&mut faults).map_err(|error| format!("{name}: {error}"))?;
        println!("{name} ({:.1?})", begun.elapsed());
    }
    // last: afterwards the clock of the stream is wrong
    let name = "a stream that went back holds nobody up";
    faults.went_back().map_err(|error| format!("{name}: {error}"))?;
    println!("{name}");
    Ok(())
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

impl Faults {
    fn chatter(&self, user: &str, node: usize, ledger: &Arc<Ledger>) -> Result<Chatter> {
        let address = self.cluster.node_address(node);
        Chatter::start(user.to_owned(), address, Arc::clone(ledger), self.origin)
    }

    fn pair(&self) -> Result<Pair> {
        let ledger = Ledger::new(&self.stopped);
        let chatters = vec![self.chatter("ann", 0, &ledger)?, self.chatter("bob", 1, &ledger)?];
        let is_there = ledger.wait(deadline(), |seen| {
            seen.online.len() == 2 && seen.online.values().all(|count| *count == 2)
        })?;
        if is_there { Ok(Pair { ledger, chatters }) } else { Err("not both have come".into()) }
    }

    fn give_up(&self) -> Result<Client> {
        let url = format!("ws://{}/ws", self.cluster.node_address(0));
        Ok(Client::builder(&url).decide(|_, _| Decision::GiveUp).start()?)
    }

    /// A client that gives up when its connection ends.
    fn raw(&self, since: Option<Position>) -> Result<Client> {
        let client = self.give_up()?;
        greet(&client, "raw", random_word(), since, 0)?;
        Ok(client)
    }

    /// How many commands Redis has done.
    fn commands(&self) -> Result<u64> {
        let info: String = redis::cmd("INFO").arg("stats").query(&mut self.cluster.redis()?)?;
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        Ok(line.ok_or("no such number")?.parse()?)
    }

    /// An error if the nodes ask Redis without a pause.
    fn is_calm(&self) -> Result<()> {
        let before = self.commands()?;
        pause(&self.stopped, Duration::from_millis(500))?;
        let commands = self.commands()? - before;
        if commands > 500 {
            return Err(format!("{commands} commands in half a second").into());
        }
        Ok(())
    }

    fn devices(&mut self) -> Result<()> {
        let ledger = Ledger::new(&self.stopped);
        let mut devices = vec![self.chatter("ann", 0, &ledger)?, self.chatter("ann", 1, &ledger)?];
        let both = |seen: &crate::client::Seen| seen.welcomes.values().sum::<u64>() >= 2;
        if !ledger.wait(deadline(), both)? {
            return Err("not both have come".into());
        }
        // each says what the other could be taken for
        speak(&ledger, &devices, self.origin)?;
        speak(&ledger, &devices, self.origin)?;
        devices.remove(0).start_close();
        devices.push(self.chatter("ann", 0, &ledger)?);
        if !ledger.wait(deadline(), |seen| seen.welcomes.values().sum::<u64>() >= 3)? {
            return Err("it does not come again".into());
        }
        speak(&ledger, &devices, self.origin)
    }

    fn left_out(&mut self) -> Result<()> {
        let client = self.raw(None)?;
        for seq in [1, 3] {
            client.send(serde_json::to_string(&Ask::Say { seq, text: "x".into() })?)?;
        }
        closed_with(&client, OUT_OF_ORDER)
    }

    fn greedy(&mut self) -> Result<()> {
        let pair = self.pair()?;
        pair.speaks(self.origin)?;
        let said = |seq, text: &str| serde_json::to_string(&Ask::Say { seq, text: text.into() });
        let room = SAY_MOST - said(1, "")?.len();
        let before = pair.ledger.seen().received;
        let most = self.raw(None)?;
        most.send(said(1, &"x".repeat(room))?)?;
        let is_heard = pair.ledger.wait(deadline(), |seen| seen.received >= before + 2)?;
        expect(is_heard, || "a message of the largest size is not heard".into())?;
        most.send(said(2, &"x".repeat(room + 1))?)?;
        closed_with(&most, 1009)?;
        // what everybody hears of ann, and numbers of one's own
        let forger = self.give_up()?;
        greet(&forger, "ann", pair.chatters[0].id(), None, 1000)?;
        pair.speaks(self.origin)?;
        forger.send(said(1001, "x")?)?;
        if !pair.ledger.wait(deadline(), |seen| seen.received >= before + 2 + 4 + 2)? {
            return Err("who says an old number of its own is not heard".into());
        }
        // a number that is not all different from the next one
        let most = self.raw(None)?;
        most.send(said(1 << 53, "x")?)?;
        closed_with(&most, OUT_OF_ORDER)?;
        pair.speaks(self.origin)?;
        expect(pair.links() == 2, || format!("{} links instead of 2", pair.links()))
    }

    fn foreign_entry(&mut self) -> Result<()> {
        let pair = self.pair()?;
        let entry = [("who", "somebody else")];
        self.cluster.redis()?.xadd::<_, _, _, _, ()>(STREAM, "*", &entry)?;
        self.is_calm()?;
        pair.speaks(self.origin)
    }

    fn hiccup(&mut self) -> Result<()> {
        let pair = self.pair()?;
        // through haproxy, which may cut what goes to a node
        let ledger = Ledger::new(&self.stopped);
        let address = self.cluster.address();
        let _guest = Chatter::start("eve".into(), address, Arc::clone(&ledger), self.origin)?;
        if !ledger.wait(deadline(), |seen| !seen.welcomes.is_empty())? {
            return Err("nobody comes through haproxy".into());
        }
        let mut redis = self.cluster.redis()?;
        redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query::<u64>(&mut redis)?;
        // several checks of haproxy
        pause(&self.stopped, Duration::from_millis(1500))?;
        // comes at the first try, whichever connections were cut
        let tell = next(&self.raw(None)?)?;
        expect(matches!(tell, Tell::Welcome { .. }), || format!("{tell:?}"))?;
        let links = ledger.seen().welcomes.values().sum::<u64>();
        expect(links == 1, || format!("{links} links instead of 1"))?;
        let links = pair.links();
        expect(links == 2, || format!("{links} links instead of 2"))?;
        pair.speaks(self.origin)
    }

    fn forgotten_numbers(&mut self) -> Result<()> {
        let pair = self.pair()?;
        pair.speaks(self.origin)?;
        let mut redis = self.cluster.redis()?;
        let keys: Vec<String> = redis.keys("chat:seq:*")?;
        redis.del::<_, ()>(keys)?;
        pair.speaks(self.origin)?;
        expect(pair.ledger.seen().gaps == 0, || "there is a gap".into())
    }

    fn shortened(&mut self) -> Result<()> {
        let pair = self.pair()?;
        pair.speaks(self.origin)?;
        let mut redis = self.cluster.redis()?;
        let ends: redis::streams::StreamRangeReply = redis.xrevrange_count(STREAM, "+", "-", 2)?;
        let place: Position = ends.ids.last().ok_or("no entry")?.id.parse()?;
        pair.speaks(self.origin)?;
        redis::cmd("XTRIM").arg(STREAM).arg("MAXLEN").arg(1).query::<u64>(&mut redis)?;
        // also who has joined an empty stream may miss something
        for since in [place, Position::default()] {
            let client = self.raw(Some(since))?;
            let tells = [next(&client)?, next(&client)?, next(&client)?];
            match tells {
                [Tell::Welcome { .. }, Tell::Gap { at }, Tell::Said { at: first, .. }] => {
                    expect(at > since && first > at, || format!("a gap up to {at}"))?;
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        // who was there misses nothing
        pair.speaks(self.origin)?;
        expect(pair.ledger.seen().gaps == 0, || "a gap for somebody who was there".into())
    }

    fn emptied(&mut self) -> Result<()> {
        let pair = self.pair()?;
        pair.speaks(self.origin)?;
        self.cluster.empty_redis()?;
        if !pair.ledger.wait(deadline(), |seen| seen.gaps >= 2)? {
            return Err("not both are told".into());
        }
        pair.speaks(self.origin)?;
        pair.speaks(self.origin)
    }

    fn slow_readers(&mut self) -> Result<()> {
        let slow = Ledger::new(&self.stopped);
        let pair = self.pair()?;
        pair.speaks(self.origin)?;
        let mut redis = self.cluster.redis()?;
        let ends: redis::streams::StreamRangeReply = redis.xrevrange_count(STREAM, "+", "-", 1)?;
        let place: Position = ends.ids.last().ok_or("no entry")?.id.parse()?;
        drop(pair);
        self.flood()?;
        // more than there are connections to Redis
        let address = self.cluster.node_address(0);
        let mut readers: Vec<Chatter> = (0..9)
            .map(|number| {
                let (user, slow) = (format!("slow-{number}"), Arc::clone(&slow));
                Chatter::start_at(user, address, slow, self.origin, Some(place), true)
            })
            .collect::<Result<_>>()?;
        let welcomed = |seen: &crate::client::Seen| seen.welcomes.values().sum::<u64>() >= 9;
        // the ninth, too
        if !slow.wait(deadline(), welcomed)? {
            return Err(format!("{:?} have come", slow.seen().welcomes).into());
        }
        self.pair()?.speaks(self.origin)?;
        // one is enough, and faster
        readers.iter_mut().for_each(Chatter::hurry);
        readers[1..].iter().for_each(Chatter::start_close);
        readers.truncate(1);
        readers.iter().try_for_each(|reader| self.has_flood(&slow, reader))
    }

    fn too_slow(&mut self) -> Result<()> {
        let ledger = Ledger::new(&self.stopped);
        let address = self.cluster.node_address(0);
        let ours = Arc::clone(&ledger);
        let mut slow = Chatter::start_at("slow".into(), address, ours, self.origin, None, true)?;
        let mut events = slow.events();
        // told who is there: it has joined
        if !ledger.wait(deadline(), |seen| !seen.online.is_empty())? {
            return Err("it does not come".into());
        }
        self.flood()?;
        // until its node has sent it away: it has so long to read why
        let (mut redis, deadline) = (self.cluster.redis()?, deadline());
        while redis.sismember::<_, _, bool>("chat:online:node-0", "slow")? {
            expect(Instant::now() < deadline, || "it is not sent away".into())?;
            pause(&self.stopped, Duration::from_millis(50))?;
        }
        slow.hurry();
        let cause = events.find_map(|event| match event {
            Event::Disconnected { cause, .. } => Some(cause),
            _ => None,
        });
        let code = cause.as_ref().and_then(|cause| cause.close_frame()).map(|frame| frame.code.0);
        expect(code == Some(TRY_AGAIN), || format!("it ended with {cause:?}"))?;
        self.has_flood(&ledger, &slow)
    }

    fn flood(&self) -> Result<()> {
        let mut pipeline = redis::pipe();
        let text = "x".repeat(6000);
        for seq in 1..=FLOOD {
            let seq = seq.to_string();
            let fields = [("from", "flood"), ("client", "flood"), ("seq", &seq), ("text", &text)];
            pipeline.xadd(STREAM, "*", &fields).ignore();
        }
        Ok(pipeline.query(&mut self.cluster.redis()?)?)
    }

    fn has_flood(&self, ledger: &Ledger, reader: &Chatter) -> Result<()> {
        let has_all = || reader.heard().get("flood") == Some(&FLOOD);
        if !ledger.wait_until(deadline(), has_all)? {
            return Err(format!("{:?} of {FLOOD}", reader.heard().get("flood")).into());
        }
        let wrong = ledger.seen().wrong.clone();
        expect(wrong.is_empty(), || wrong.join(", "))
    }

    fn nodes_forgotten(&mut self) -> Result<()> {
        let mut redis = self.cluster.redis()?;
        redis.zadd::<_, _, _, ()>("chat:nodes", "killed-long-ago", 1)?;
        // both nodes have spoken for themselves
        drop(self.pair()?);
        let nodes: Vec<String> = redis.zrange("chat:nodes", 0, -1)?;
        expect(nodes.len() == 2, || format!("{nodes:?}"))?;
        self.cluster.end(1)?;
        let nodes: Vec<String> = redis.zrange("chat:nodes", 0, -1)?;
        expect(nodes == ["node-0"], || format!("{nodes:?}"))?;
        self.cluster.restart(1)
    }

    fn second_cluster(&mut self) -> Result<()> {
        let second = Cluster::start(1, self.cluster.address(), &self.stopped);
        expect(second.is_err(), || "there are two".into())
    }

    fn went_back(&mut self) -> Result<()> {
        let pair = self.pair()?;
        let mut redis = self.cluster.redis()?;
        let before = pair.ledger.seen().received;
        let fields = [("from", "x"), ("client", "x"), ("seq", "1"), ("text", "x")];
        redis.xadd::<_, _, _, _, ()>(STREAM, "99999999999999-0", &fields)?;
        if !pair.ledger.wait(deadline(), |seen| seen.received >= before + 2)? {
            return Err("it is not heard".into());
        }
        redis.del::<_, ()>(STREAM)?;
        let ledger = Ledger::new(&self.stopped);
        let _guest = self.chatter("eve", 0, &ledger)?;
        self.is_calm()?;
        if !pair.ledger.wait(deadline(), |seen| seen.gaps >= 2)? {
            return Err("not both are told".into());
        }
        if !ledger.wait(deadline(), |seen| !seen.online.is_empty())? {
            return Err("nobody comes any more".into());
        }
        pair.speaks(self.origin)
    }
}

impl Pair {
    fn links(&self) -> u64 {
        self.ledger.seen().welcomes.values().sum()
    }

    /// Each says something that both hear.
    fn speaks(&self, origin: Instant) -> Result<()> {
        speak(&self.ledger, &self.chatters, origin)
    }
}

/// Each says something that all hear.
fn speak(ledger: &Ledger, chatters: &[Chatter], origin: Instant) -> Result<()> {
    let (received, stored) = {
        let seen = ledger.seen();
        (seen.received, seen.stored)
    };
    for chatter in chatters {
        chatter.say(origin)?;
    }
    let count = chatters.len() as u64;
    let (received, stored) = (received + count * count, stored + count);
    let is_heard =
        ledger.wait(deadline(), |seen| seen.received >= received && seen.stored >= stored)?;
    let seen = ledger.seen();
    expect(is_heard, || {
        format!("{} of {received} heard, {} of {stored} stored", seen.received, seen.stored)
    })?;
    expect(seen.wrong.is_empty(), || seen.wrong.join(", "))
}

fn greet(
    client: &Client,
    user: &str,
    secret: String,
    since: Option<Position>,
    stored: u64,
) -> Result<()> {
    let hello = Hello { user: user.into(), secret, since, stored };
    Ok(client.send(serde_json::to_string(&Ask::Hello(hello))?)?)
}

fn next(client: &Client) -> Result<Tell> {
    Ok(serde_json::from_slice(client.recv_timeout(PATIENCE)?.as_bytes())?)
}

/// Waits for the end of a client that gives up.
fn closed_with(client: &Client, expected: u16) -> Result<()> {
    loop {
        match client.recv_timeout(PATIENCE) {
            Ok(_) => {}
            Err(Error::GaveUp(cause)) => {
                let code = cause.close_frame().map(|frame| frame.code.0);
                return expect(code == Some(expected), || format!("closed with {code:?}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}
