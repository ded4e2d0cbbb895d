//! Lines in whatever encoding, with programs that have spoken them for decades: `ngircd` (IRC) and
//! `gpsd` (NMEA 0183).
//!
//! Says "skipped" for a program that is not on the PATH.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use everlink::config::{Framing, Heartbeat};
use everlink::{Client, Message, Server, Session};

use crate::support::{PATIENCE, eventually, init_log, ms};

/// A program that listens on a port of loopback until it is dropped.
struct Daemon {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Daemon {
    /// Starts what the closure makes of a folder and a port. `None` if it is not installed.
    fn start(name: &str, command: impl Fn(&PathBuf, u16) -> Command) -> Option<Self> {
        init_log();
        let folder = std::env::temp_dir().join(format!("everlink-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // it cannot say which port it took: one may be gone before it listens there
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let mut command = command(&folder, address.port());
            let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() else {
                println!("skipped: {name} is not installed");
                let _ = fs::remove_dir_all(folder);
                return None;
            };
            let mut daemon = Self { child, folder: folder.clone(), address };
            let mut exited = false;
            eventually("it listens", || {
                exited = daemon.child.try_wait().unwrap().is_some();
                if exited { Ok(()) } else { TcpStream::connect(address).map(drop) }
            });
            if !exited {
                return Some(daemon);
            }
            fs::create_dir_all(&folder).unwrap();
        }
        panic!("{name} does not start");
    }

    fn client(&self) -> everlink::ClientBuilder {
        Client::builder(format!("tcp://{}", self.address))
            .heartbeat(Heartbeat::listen(PATIENCE))
            .framing(Framing::lines())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The next line that holds this.
fn next(client: &Client, part: &[u8]) -> Message {
    loop {
        let message = client.recv_timeout(PATIENCE).expect("the line comes");
        if message.as_bytes().windows(part.len()).any(|window| window == part) {
            return message;
        }
    }
}

#[test]
fn an_irc_server_may_have_a_message_of_the_day_and_channels_in_latin_1() {
    let server = Daemon::start("ngircd", |folder, port| {
        let motd = folder.join("motd");
        fs::write(&motd, b"Gr\xfc\xdfe und caf\xe9\n").unwrap();
        let config = format!(
            "[Global]\nName = irc.test\nInfo = test\nListen = 127.0.0.1\nPorts = {port}\n\
             MotdFile = {}\nServerUID = 0\nServerGID = 0\n\
             [Options]\nDNS = no\nIdent = no\nPAM = no\nSyslogFacility = local1\n\
             [Limits]\nMaxConnectionsIP = 0\n",
            motd.display()
        );
        fs::write(folder.join("config"), config).unwrap();
        let mut command = Command::new("ngircd");
        command.arg("-n").arg("-f").arg(folder.join("config"));
        command
    });
    let Some(server) = server else { return };
    let join = |nick: &'static str| {
        let client = server
            .client()
            .login(move |session| {
                session.send(format!("NICK {nick}"))?;
                session.send(b"USER test 0 * :J\xfcrgen")?;
                let is = |code: &'static [u8]| {
                    move |message: &Message| {
                        message.as_bytes().split(|b| *b == b' ').nth(1) == Some(code)
                    }
                };
                session.recv_matching(is(b"376"))?;
                session.send(b"JOIN #caf\xe9")?;
                session.recv_matching(is(b"366"))?;
                Ok(())
            })
            .connect()
            .unwrap();
        // what the login did not want is there for the program
        let motd = next(&client, b" 372 ");
        assert!(
            motd.as_bytes().ends_with(b"Gr\xfc\xdfe und caf\xe9") && !motd.is_text(),
            "{motd:?}"
        );
        client
    };
    let (one, two) = (join("one"), join("two"));
    one.send(b"PRIVMSG #caf\xe9 :d\xe9j\xe0 vu").unwrap();
    let heard = next(&two, b"PRIVMSG");
    assert!(heard.as_bytes().ends_with(b" PRIVMSG #caf\xe9 :d\xe9j\xe0 vu"), "{heard:?}");
    assert!(!heard.is_text());
    one.send("PRIVMSG two :tout en UTF-8: d\u{e9}j\u{e0} vu").unwrap();
    let heard = next(&two, b"PRIVMSG");
    assert!(heard.as_text().unwrap().ends_with(":tout en UTF-8: d\u{e9}j\u{e0} vu"), "{heard:?}");
    // it is still the first connection
    for client in [&one, &two] {
        assert_eq!(client.stats().connects, 1);
        client.send("PING :still there").unwrap();
        next(client, b"PONG");
    }
}

/// With its checksum and the carriage return that the standard asks for.
fn sentence(body: &[u8]) -> Vec<u8> {
    let sum = body.iter().fold(0, |sum, byte| sum ^ byte);
    [b"$", body, format!("*{sum:02X}\r").as_bytes()].concat()
}

#[test]
fn gpsd_reads_nmea_from_a_server_of_lines() {
    let receiver = |session: Session| {
        // a receiver says something once a second; here it is in more of a hurry
        for second in 0.. {
            let time = format!("12{:02}{:02}.00", second / 60 % 60, second % 60);
            for body in [
                format!("GPRMC,{time},A,4807.038,N,01131.000,E,022.4,084.4,230326,,,A")
                    .into_bytes(),
                format!("GPGGA,{time},4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,")
                    .into_bytes(),
                b"GPTXT,01,01,02,M\xfcnchen".to_vec(),
            ] {
                if session.send(sentence(&body)).is_err() {
                    return;
                }
            }
            let _ = session.recv_timeout(ms(50));
        }
    };
    let server = Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::off())
        .bind("127.0.0.1:0", receiver)
        .unwrap();
    let source = format!("tcp://{}", server.local_addr());
    let gpsd = Daemon::start("gpsd", |_, port| {
        let mut command = Command::new("gpsd");
        command.args(["-N", "-n", "-b", "-S", &port.to_string(), &source]);
        // it misses D-Bus
        command.stderr(Stdio::null());
        command
    });
    let Some(gpsd) = gpsd else { return };
    let client = gpsd.client().connect().unwrap();
    client.send(r#"?WATCH={"enable":true,"json":true};"#).unwrap();
    let position = loop {
        let report = next(&client, br#""class":"TPV""#);
        let text = report.as_text().expect("JSON is text").to_owned();
        if text.contains(r#""lat":48.117"#) {
            break text;
        }
    };
    assert!(position.contains(r#""lon":11.516"#), "{position}");
    assert_eq!(server.stats().accepted, 1, "one connection for all of it");
}
