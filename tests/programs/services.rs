//! The examples that speak other people's protocols, each with its real server, which is stopped and started
//! again meanwhile. Says "skipped" for a server that is not on the PATH.
#![cfg(feature = "tls")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crossbeam_channel::{Receiver, unbounded};

use crate::support::examples::example;
use crate::support::{PATIENCE, eventually};

/// A program that listens on a port of loopback until it is dropped, and on the same one after each start.
pub(super) struct Service {
    name: &'static str,
    folder: PathBuf,
    address: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Service {
    /// Starts it with what the closure makes of a folder and a port. `None` if it is not installed.
    pub(super) fn start(
        name: &'static str,
        arguments: impl Fn(&PathBuf, u16) -> Vec<String>,
    ) -> Option<Self> {
        let file = std::path::Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        let folder = std::env::temp_dir().join(format!("everlink-{file}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // it cannot say which port it took: one may be gone before it listens there
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let arguments = arguments(&folder, address.port());
            let folder = folder.clone();
            let mut service = Self { name, folder, address, arguments, child: None };
            match service.run() {
                None => {
                    println!("skipped: {name} is not installed");
                    return None;
                }
                Some(true) => return Some(service),
                Some(false) => {}
            }
        }
        panic!("{name} does not start");
    }

    /// Returns whether it listens.
    fn run(&mut self) -> Option<bool> {
        let mut command = Command::new(self.name);
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().ok()?);
        let mut exited = false;
        eventually("it listens", || {
            exited = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            if exited { Ok(()) } else { TcpStream::connect(self.address).map(drop) }
        });
        Some(!exited)
    }

    fn stop(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
            child.wait().unwrap();
        }
    }

    pub(super) fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(super) fn restart(&mut self, signal: &str) {
        self.stop(signal);
        assert_eq!(self.run(), Some(true));
    }

    pub(super) fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop("-KILL");
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An example at work. What it prints comes line by line.
struct Running {
    child: Child,
    said: Receiver<String>,
}

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = example(name);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let (sender, said) = unbounded();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        Self { child, said }
    }

    /// Waits for a line that begins like this.
    fn until(&self, beginning: &str) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE * 2);
            let line = line.unwrap_or_else(|_| panic!("it does not say {beginning:?}"));
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mqtt_loses_nothing_while_mosquitto_is_restarted() {
    let service = Service::start("mosquitto", |folder, port| {
        // it throws away what is more than a thousand behind, and a subscriber that is on its way back is
        let config = folder.join("mosquitto.conf");
        let lines = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nmax_keepalive 10\nmax_queued_messages 0\n",
            folder.display()
        );
        fs::write(&config, lines).unwrap();
        vec!["-c".into(), config.display().to_string()]
    });
    let Some(mut service) = service else { return };
    let url = service.url();
    let subscriber = Running::start("mqtt", &[&url, "subscribe", "readings", "3000"]);
    // its subscription has to be there first: mosquitto keeps nothing for nobody
    subscriber.until("subscribed");
    let publisher = Running::start("mqtt", &[&url, "publish", "readings", "3000"]);
    for _ in 0..2 {
        service.restart("-TERM");
    }
    publisher.until("published 3000");
    subscriber.until("received 3000, lost 0");
    publisher.finish();
    subscriber.finish();
}

#[test]
fn nats_is_spoken_in_the_clear_and_with_tls_behind_the_greeting() {
    for secure in [false, true] {
        let service = Service::start("nats-server", |folder, port| {
            let address = ["-a", "127.0.0.1", "-p"].map(str::to_owned);
            let mut arguments = [&address[..], &[port.to_string()]].concat();
            if secure {
                let key = rcgen::KeyPair::generate().unwrap();
                let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
                let cert = params.self_signed(&key).unwrap();
                fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
                fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
                let path = |name: &str| folder.join(name).display().to_string();
                arguments.extend(["--tls".into(), "--tlscert".into(), path("cert.pem")]);
                arguments.extend(["--tlskey".into(), path("key.pem")]);
            }
            arguments
        });
        let Some(mut service) = service else { return };
        let (url, trusted) = (service.url(), service.folder.join("cert.pem").display().to_string());
        let run = |what: &str, subject: &str, count: &str| {
            let arguments = [&*url, what, subject, count, &*trusted];
            Running::start("nats", &arguments[..if secure { 5 } else { 4 }])
        };
        let subscriber = run("subscribe", "readings", "1000");
        subscriber.until("subscribed");
        let publisher = run("publish", "readings", "1000");
        publisher.until("published 1000");
        subscriber.until("received 1000");
        publisher.finish();
        subscriber.finish();
        // a publisher goes on when the server is killed
        let publisher = run("publish", "nobody", "200000");
        service.restart("-KILL");
        publisher.until("published 200000");
        publisher.finish();
    }
}

#[test]
fn irc_is_back_in_its_channel_after_the_server_was_killed() {
    let service = Service::start("ngircd", |folder, port| {
        let config = folder.join("ngircd.conf");
        let lines = format!(
            "[Global]\nName = irc.test\nInfo = test\nListen = 127.0.0.1\nPorts = {port}\n\
             ServerUID = 0\nServerGID = 0\n[Options]\nDNS = no\nIdent = no\nPAM = no\n\
             SyslogFacility = local1\n[Limits]\nMaxConnectionsIP = 0\n"
        );
        fs::write(&config, lines).unwrap();
        vec!["-n".into(), "-f".into(), config.display().to_string()]
    });
    let Some(mut service) = service else { return };
    let url = service.url();
    let join = |nick: &str| {
        let running = Running::start("irc", &[&url, nick, "#test"]);
        running.until("joined");
        running
    };
    let (mut one, mut two) = (join("one"), join("two"));
    one.say("hello");
    two.until("one: hello");
    service.restart("-KILL");
    one.until("joined");
    two.until("joined");
    two.say("back again");
    one.until("two: back again");
    one.finish();
    two.finish();
}

#[test]
fn redis_publishes_and_hears_again_after_it_was_killed() {
    let service = Service::start("redis-server", |folder, port| {
        let folder = folder.display().to_string();
        let port = port.to_string();
        ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", &folder]
            .map(str::to_owned)
            .to_vec()
    });
    let Some(mut service) = service else { return };
    let url = service.url();
    let mut redis = Running::start("redis_pubsub", &[&url, "news"]);
    redis.until("subscribed");
    redis.say("one");
    redis.until("one");
    service.restart("-KILL");
    redis.until("subscribed");
    // the publisher has a connection of its own, which may come back later
    let mut tries = 0;
    loop {
        redis.say("two");
        let said = redis.said.recv_timeout(PATIENCE).unwrap();
        if said == "two" || said == "received by 1" {
            break;
        }
        tries += 1;
        assert!(tries < 100, "{said}");
    }
    redis.finish();
}
