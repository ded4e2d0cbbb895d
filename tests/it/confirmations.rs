//! Peers that do not confirm, and links that end before much is confirmed.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::bare::{self, PING, TEXT};
use crate::support::*;
use crossbeam_channel::{Receiver, unbounded};
use everlink::config::{Backoff, Delivery, Heartbeat, Queue};
use everlink::failure::Undelivered;
use everlink::{ClientBuilder, Error, Event, Message, Receipt, SendError};

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

/// How a peer ends a link.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Code(u16),
    Reset,
    EndOfStream,
}

fn end(mut stream: TcpStream, ends: Ends) {
    match ends {
        Ends::Code(code) => {
            // it may be gone already
            let _ = stream.write_all(&bare::frame(bare::CLOSE, &bare::close_body(code, "")));
            while !matches!(bare::read_frame(&mut stream), Ok((bare::CLOSE, _)) | Err(_)) {}
        }
        Ends::Reset => {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        Ends::EndOfStream => {}
    }
}

/// Serves links that carry this many messages each, the next one ends the link; answers pings at
/// once. Returns the link on which it had all numbers below `queued`, or none if that took more
/// than `most` links.
fn serve_short_links(
    listener: &Listener,
    queued: u64,
    carries: usize,
    ends: Ends,
    most: usize,
) -> Option<TcpStream> {
    let mut numbers = BTreeSet::new();
    for _ in 0..most {
        let mut stream = bare::upgrade(listener);
        let mut received = 0;
        while let Ok((first, payload)) = bare::read_frame(&mut stream) {
            match first {
                PING => stream.write_all(&bare::frame(bare::PONG, &payload)).unwrap(),
                TEXT if received < carries => {
                    received += 1;
                    let number = String::from_utf8(payload).unwrap().parse::<u64>().unwrap();
                    // what comes first comes in order
                    let first_missing = numbers.len() as u64;
                    assert!(number <= first_missing, "{number} before {first_missing}");
                    numbers.insert(number);
                    if numbers.len() as u64 == queued {
                        return Some(stream);
                    }
                }
                _ => break,
            }
        }
        end(stream, ends);
    }
    None
}

/// However few messages a link carries: the peer is asked what it has behind the first of them.
#[test]
fn at_least_once_gets_on_over_links_that_carry_little() {
    for (queued, carries, ends, most) in [
        (100, 1, Ends::Reset, 150),
        (100, 2, Ends::Code(1013), 150),
        (300, 10, Ends::EndOfStream, 80),
        (1_000, 100, Ends::Code(1013), 30),
    ] {
        let listener = Listener::new();
        let builder = listener.client().backoff(Backoff::fixed(Duration::from_micros(100)));
        let client = builder.delivery(Delivery::AtLeastOnce).start().unwrap();
        for number in 0..queued {
            client.send(number.to_string()).unwrap();
        }
        let link = serve_short_links(&listener, queued, carries, ends, most);
        let stream = link.unwrap_or_else(|| panic!("{most} links of {carries}, {ends:?}: no end"));
        thread::spawn(move || answer(stream, Pongs::Proper));
        client.flush(PATIENCE).unwrap();
    }
}

#[test]
fn receipts_know_what_a_short_link_has_carried() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().backoff(Backoff::fixed(ms(1))));
    let client = builder.start().unwrap();
    let send = |number: u64| client.send_confirmed(number.to_string()).unwrap();
    let receipts: Vec<_> = (0..100).map(send).collect();
    serve_short_links(&listener, u64::MAX, 10, Ends::Reset, 1);
    watch.disconnected();
    // asked behind the 1st, 3rd and 7th
    eventually("the last of them is confirmed", || {
        let confirmed = receipts.iter().filter(|receipt| receipt.is_confirmed()).count();
        if confirmed == 7 { Ok(()) } else { Err(confirmed) }
    });
    assert_eq!(client.sender().confirmed_up_to(), 7);
}

/// A builder that gives up a message after this many links, and tells of it.
fn suspecting(
    builder: ClientBuilder,
    limit: u32,
) -> (ClientBuilder, Receiver<(Message, Undelivered)>) {
    let (tell, told) = unbounded();
    let builder = builder.backoff(Backoff::fixed(ms(1))).max_deliveries(limit);
    (builder.on_dropped(move |message, why| drop(tell.send((message, why)))), told)
}

fn is_poison(receipt: &Receipt) -> bool {
    matches!(receipt.wait(PATIENCE), Err(Error::Undelivered(Undelivered::Poison)))
}

#[test]
fn a_message_that_ends_link_after_link_is_handed_back_and_the_rest_goes_on() {
    for ends in [Ends::Code(1011), Ends::Code(4000), Ends::Reset, Ends::EndOfStream] {
        let listener = Listener::new();
        let (builder, told) = suspecting(listener.client(), 3);
        let client = builder.delivery(Delivery::AtLeastOnce).start().unwrap();
        let texts: Vec<String> = (0..40).map(|number: u32| number.to_string()).collect();
        let poison = "5";
        let send = |text: &String| client.send_confirmed(text.clone()).unwrap();
        let receipts: Vec<Receipt> = texts.iter().map(send).collect();
        let (mut poisonings, mut received) = (0, BTreeSet::new());
        'links: loop {
            let mut stream = bare::upgrade(&listener);
            while let Ok((first, payload)) = bare::read_frame(&mut stream) {
                if first == PING {
                    let _ = stream.write_all(&bare::frame(bare::PONG, &payload));
                } else if payload == poison.as_bytes() {
                    poisonings += 1;
                    assert!(poisonings < 10, "{ends:?}: again and again");
                    end(stream, ends);
                    break;
                } else if first == TEXT {
                    received.insert(String::from_utf8(payload).unwrap());
                    if received.len() + 1 == texts.len() {
                        thread::spawn(move || answer(stream, Pongs::Proper));
                        break 'links;
                    }
                }
            }
        }
        assert!(poisonings >= 3, "{poisonings}, {ends:?}");
        let (message, why) = told.recv_timeout(PATIENCE).expect("told");
        assert_eq!((message.as_text(), why), (Some(poison), Undelivered::Poison));
        for (text, receipt) in texts.iter().zip(&receipts) {
            if text == poison {
                assert!(is_poison(receipt));
            } else {
                receipt.wait(PATIENCE).unwrap();
            }
        }
        assert!(told.is_empty());
    }
}

/// A peer that is full, restarts or goes away says nothing of the message that it has not read.
#[test]
fn a_peer_that_ends_links_for_reasons_of_its_own_makes_no_message_poison() {
    let listener = Listener::new();
    let (builder, told) = suspecting(listener.client(), 1);
    let client = builder.delivery(Delivery::AtLeastOnce).start().unwrap();
    client.send("innocent").unwrap();
    for code in [1000, 1001, 1012, 1013] {
        let mut stream = bare::upgrade(&listener);
        assert_eq!(bare::read_frame(&mut stream).unwrap().0, TEXT);
        end(stream, Ends::Code(code));
    }
    let mut stream = bare::upgrade(&listener);
    assert_eq!(bare::read_frame(&mut stream).unwrap().1, b"innocent");
    thread::spawn(move || answer(stream, Pongs::Proper));
    client.flush(PATIENCE).unwrap();
    assert!(told.is_empty());
}

/// A link that is cut before the peer has answered anything says nothing of the message.
#[test]
fn links_that_are_cut_at_once_make_no_message_poison() {
    let listener = Listener::new();
    let (builder, told) = suspecting(listener.client(), 1);
    let client = builder.delivery(Delivery::AtLeastOnce).start().unwrap();
    client.send("innocent").unwrap();
    for _ in 0..5 {
        let mut stream = bare::upgrade(&listener);
        while bare::read_frame(&mut stream).unwrap().0 != TEXT {}
        end(stream, Ends::Reset);
    }
    let stream = bare::upgrade(&listener);
    thread::spawn(move || answer(stream, Pongs::Proper));
    client.flush(PATIENCE).unwrap();
    assert!(told.is_empty());
}

/// Also where nothing is sent twice: a message that was cut off has not been sent once.
#[test]
fn a_message_that_is_cut_off_on_link_after_link_is_handed_back() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let listener = Listener::new();
        let (builder, told) = suspecting(listener.client(), 3);
        let client = builder.delivery(delivery).start().unwrap();
        let receipt = client.send_confirmed(vec![7; 32 << 20]).unwrap();
        client.send("the rest").unwrap();
        for link in 0..4 {
            let mut stream = bare::upgrade(&listener);
            // the first time nothing goes ahead of it
            if link > 0 {
                let (first, payload) = bare::read_frame(&mut stream).unwrap();
                assert_eq!(first, PING);
                stream.write_all(&bare::frame(bare::PONG, &payload)).unwrap();
            }
            stream.read_exact(&mut [0; 1000]).unwrap();
            end(stream, Ends::Reset);
        }
        let (message, why) = told.recv_timeout(PATIENCE).expect("told");
        assert_eq!((message.len(), why), (32 << 20, Undelivered::Poison));
        assert!(is_poison(&receipt));
        let mut stream = bare::upgrade(&listener);
        assert_eq!(bare::read_frame(&mut stream).unwrap().1, b"the rest");
    }
}

#[cfg(feature = "chaos")]
#[test]
fn a_session_goes_on_without_a_message_that_never_gets_through() {
    use crate::support::resumed::{Pair, resuming_server};
    use everlink::chaos::{Cut, Faults};

    let (tell, told) = unbounded();
    let pair = Pair::with(resuming_server(), |builder| {
        let builder = builder.max_deliveries(3);
        builder.on_dropped(move |message, why| drop(tell.send((message, why))))
    });
    let session = pair.session();
    pair.proxy.set(Faults::none().cut_after(Cut::Reset, 100_000)).unwrap();
    pair.client.send("before").unwrap();
    let receipt = pair.client.send_confirmed(vec![7; 900_000]).unwrap();
    pair.client.send("behind").unwrap();
    let (message, why) = told.recv_timeout(PATIENCE).expect("told");
    assert_eq!((message.len(), why), (900_000, Undelivered::Poison));
    assert!(is_poison(&receipt));
    for text in ["before", "behind"] {
        assert_eq!(session.recv_timeout(PATIENCE).unwrap(), text);
    }
    // the same session
    assert!(session.failure().is_none());
}
