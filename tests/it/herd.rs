//! Many clients of one server do not come back all at once.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::Client;

const CLIENTS: usize = 30;

#[test]
fn clients_that_were_told_to_wait_come_back_spread_out_and_none_before_its_time() {
    let listener = Listener::new();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|number| listener.client().header("X-Number", &number.to_string()))
        .map(|builder| builder.start().unwrap())
        .collect();
    let mut told: HashMap<String, Instant> = HashMap::new();
    let mut late = Vec::new();
    while late.len() < CLIENTS {
        let mut stream = listener.accept_raw();
        let head = read_head(&mut stream);
        let number = head.split("X-Number: ").nth(1).unwrap().lines().next().unwrap().to_owned();
        let now = Instant::now();
        if let Some(told) = told.insert(number, now) {
            let waited = now - told;
            assert!(waited >= Duration::from_secs(1), "back after {waited:?}");
            late.push(waited - Duration::from_secs(1));
        }
        stream.write_all(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n").unwrap();
    }
    late.sort();
    assert!(late[CLIENTS - 1] - late[0] >= ms(300), "{late:?}");
    for first in &late {
        let together = late.iter().filter(|time| (*first..*first + ms(100)).contains(*time));
        assert!(together.count() < CLIENTS / 2, "{late:?}");
    }
    for client in clients {
        client.close();
    }
}
