//! A file of its own, for the threads of the whole process are counted.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use everlink::chaos::{Direction, FaultProxy, Faults};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn nothing_is_left_of_a_dropped_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("this test needs /proc");
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("chaos-")).count()
    };
    let proxy = FaultProxy::start(listener.local_addr().unwrap()).unwrap();
    let faults = [
        Faults::none(),
        Faults::none().stall(Direction::Both),
        Faults::none().mute(),
        Faults::none().delay(Duration::from_secs(3600)),
        Faults::none().refuse(),
    ];
    let mut held = Vec::new();
    for faults in faults {
        proxy.set(faults).unwrap();
        if let Ok(mut stream) = TcpStream::connect(proxy.address()) {
            stream.write_all(b"x").unwrap();
            held.push(stream);
        }
    }
    let address = proxy.address();
    drop(proxy);
    assert!(TcpStream::connect(address).is_err());
    for stream in &mut held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(!matches!(stream.read(&mut [0; 8]), Ok(2..)));
    }
    assert_eq!(threads(), 0);
}
