//! Peers that do not confirm.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use everlink::{Delivery, Error, Event, Heartbeat, Queue, SendError};
use support::*;

/// What a peer makes of a ping.
#[derive(Debug, Clone, Copy)]
enum Pongs {
    /// Pongs that carry nothing.
    Empty,
    /// No pongs, but it says something each time.
    Chatter,
    Proper,
}

/// Reads frames of a client and answers pings like this, until the stream ends.
fn answer(mut stream: TcpStream, pongs: Pongs) -> std::io::Result<()> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut mask = [0; 4];
        stream.read_exact(&mut mask)?;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        if head[0] == 0x89 {
            match pongs {
                Pongs::Empty => stream.write_all(b"\x8a\x00")?,
                Pongs::Chatter => stream.write_all(b"\x81\x02hi")?,
                Pongs::Proper => {
                    let unmasked = payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
                    stream.write_all(&[0x8a, length as u8])?;
                    stream.write_all(&unmasked.collect::<Vec<u8>>())?;
                }
            }
        }
    }
}

fn is_missing(event: &Event) -> Option<()> {
    matches!(event, Event::ConfirmationsMissing { .. }).then_some(())
}

#[test]
fn a_peer_that_does_not_confirm_is_said_once_and_send_does_not_block_for_ever() {
    for pongs in [Pongs::Empty, Pongs::Chatter] {
        let listener = Listener::new();
        let (builder, watch) = watch(
            listener
                .client()
                .heartbeat(Heartbeat::every(ms(50)).dead_after(ms(300)))
                .delivery(Delivery::AtLeastOnce)
                .outbox(Queue::new().messages(4)),
        );
        let client = builder.start().unwrap();
        let peer = listener.accept().into_inner();
        thread::spawn(move || answer(peer, pongs));
        let refused = loop {
            if let Err(error) = client.send("wait for it") {
                break error;
            }
        };
        assert!(matches!(refused.error, Error::Unconfirmable), "{pongs:?}: {refused:?}");
        watch.until(is_missing);
        assert!(matches!(client.try_send("now"), Err(SendError { error: Error::Full, .. })));
        // as long again: it is said once, and the link lives
        let pings = client.stats().pings_sent;
        eventually("more pings", || {
            let now = client.stats().pings_sent;
            if now >= pings + 10 { Ok(()) } else { Err(now) }
        });
        let rest = watch.rest();
        assert!(rest.is_empty(), "{rest:?}");
        assert_eq!(client.stats().handed_back, 0);
        assert_eq!(client.close().undelivered.len(), 4);
    }
}

#[test]
fn the_same_is_said_to_who_waits_for_a_receipt() {
    let listener = Listener::new();
    let (builder, watch) =
        watch(listener.client().heartbeat(Heartbeat::every(ms(50)).dead_after(ms(300))));
    let client = builder.start().unwrap();
    let peer = listener.accept().into_inner();
    thread::spawn(move || answer(peer, Pongs::Empty));
    let receipt = client.send_confirmed("wait for it").unwrap();
    watch.until(is_missing);
    assert!(!receipt.is_confirmed());
    // nothing is kept for it: sending goes on
    for _ in 0..100 {
        client.send("more").unwrap();
    }
    client.wait_sent(PATIENCE).unwrap();
}

#[test]
fn a_peer_that_confirms_is_not_complained_of() {
    let listener = Listener::new();
    let (builder, watch) = watch(
        listener
            .client()
            .heartbeat(Heartbeat::every(ms(10)).dead_after(ms(5000)))
            .delivery(Delivery::AtLeastOnce)
            .outbox(Queue::new().messages(4)),
    );
    let client = builder.start().unwrap();
    let peer = listener.accept().into_inner();
    thread::spawn(move || answer(peer, Pongs::Proper));
    watch.connected();
    for _ in 0..100 {
        client.send("confirm it").unwrap();
    }
    client.flush(PATIENCE).unwrap();
    assert!(watch.rest().is_empty());
}
