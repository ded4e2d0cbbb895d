//! What the way through C costs: messages of 32 bytes, received. `make bench`.
//!
//! `bench COMMAND...` floods each command in turn, several times, and compares what they print: messages a second, and the
//! median of the rounds' ratios to the first. It says where in the environment (`URL`). `bench client` is the one in Rust.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;

const MESSAGES: usize = 2_000_000;
const ROUNDS: usize = 7;

fn main() {
    let commands: Vec<String> = std::env::args().skip(1).collect();
    if commands == ["client"] {
        return client();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || flood(stream.unwrap()));
        }
    });
    let mut rates = vec![Vec::new(); commands.len()];
    for _ in 0..ROUNDS {
        for (command, rates) in commands.iter().zip(&mut rates) {
            let output =
                Command::new("sh").args(["-c", command]).env("URL", &url).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let rate: f64 = said.trim().parse().unwrap_or_else(|_| panic!("{command}: {output:?}"));
            rates.push(rate);
        }
    }
    let middle = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    for (command, of_command) in commands.iter().zip(&rates) {
        // round by round: the machine is not the same in each
        let ratio =
            middle(of_command.iter().zip(&rates[0]).map(|(rate, first)| rate / first).collect());
        let (least, most) = of_command.iter().fold((f64::MAX, 0.0_f64), |(least, most), rate| {
            (least.min(rate / 1e6), most.max(rate / 1e6))
        });
        let median = middle(of_command.clone()) / 1e6;
        println!("{median:.3} M/s ({least:.3} to {most:.3}), {ratio:.2}: {command}");
    }
}

/// Everything at once, as a server that only sends.
fn flood(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let accept = tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    let frame = [&[0x82, 32], [7; 32].as_slice()].concat();
    let many = frame.repeat(2000);
    for _ in 0..MESSAGES / 2000 {
        if stream.write_all(&many).is_err() {
            return;
        }
    }
    // until the client goes
    let _ = stream.read_to_end(&mut Vec::new());
}

fn client() {
    let url = std::env::var("URL").unwrap();
    let (done, is_done) = mpsc::channel();
    let (mut count, mut begun, mut bytes) = (0, None, 0);
    let client = everlink_rs::Client::builder(url)
        .on_message(move |_, message| {
            begun.get_or_insert_with(Instant::now);
            (count, bytes) = (count + 1, bytes + message.len());
            if count == MESSAGES {
                assert_eq!(bytes, 32 * MESSAGES);
                let _ =
                    done.send(begun.map_or(0.0, |begun: Instant| begun.elapsed().as_secs_f64()));
            }
        })
        .connect()
        .unwrap();
    println!("{}", MESSAGES as f64 / is_done.recv().unwrap());
    client.start_close(1000, "").unwrap();
    std::process::exit(0);
}
