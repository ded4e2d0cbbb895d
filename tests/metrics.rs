//! What is published through the `metrics` facade. Alone in its file, for the recorder is the whole
//! process's.

mod support;

use std::net::TcpListener;
use std::sync::OnceLock;

use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::config::Backoff;
use everlink::{Client, Server};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use support::*;

/// The value of the series that begins with this: its name and its labels.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let rest = metrics.lines().find_map(|line| line.strip_prefix(series))?;
    rest.trim().parse().ok()
}

fn render(handle: &PrometheusHandle) -> String {
    everlink::publish_metrics();
    handle.render()
}

/// The recorder of this process.
fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap())
}

fn echo(name: &str) -> Server {
    let server = Server::builder().name(name).bind("127.0.0.1:0", echo_all);
    server.unwrap()
}

/// A client that has had so many answers.
fn talk(server: &Server, name: &str, messages: usize) -> Client {
    let url = format!("ws://{}", server.local_addr());
    let client = Client::builder(&url).name(name).connect().unwrap();
    for _ in 0..messages {
        client.send("hello").unwrap();
        client.recv_timeout(PATIENCE).unwrap();
    }
    client
}

#[test]
fn clients_and_servers_are_published_under_their_names() {
    let handle = recorder();
    let server = echo("gate");
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let (builder, watch) = watch(
        Client::builder(format!("ws://{}", proxy.address()))
            .name("feed")
            .backoff(Backoff::fixed(ms(1))),
    );
    let client = builder.start().unwrap();
    watch.connected();
    client.send("hello").unwrap();
    client.recv_timeout(PATIENCE).unwrap();
    proxy.cut(Cut::Reset);
    watch.connected();

    let text = render(handle);
    let expected = [
        ("everlink_up{client=\"feed\"}", 1.0),
        ("everlink_messages_sent_total{client=\"feed\"}", 1.0),
        ("everlink_sent_bytes_total{client=\"feed\"}", 5.0),
        ("everlink_received_bytes_total{client=\"feed\"}", 5.0),
        ("everlink_reconnects_total{client=\"feed\"}", 1.0),
        ("everlink_disconnects_total{client=\"feed\",kind=\"lost\"}", 1.0),
        ("everlink_disconnects_total{client=\"feed\",kind=\"silent\"}", 0.0),
        ("everlink_outbox_messages{client=\"feed\"}", 0.0),
        ("everlink_server_messages_received_total{server=\"gate\"}", 1.0),
        ("everlink_server_accepted_total{server=\"gate\"}", 2.0),
    ];
    for (series, expected) in expected {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    assert!(text.contains("# TYPE everlink_messages_sent_total counter"), "{text}");
    assert!(text.contains("# HELP everlink_up "), "{text}");
    assert!(value(&text, "everlink_age_seconds{client=\"feed\"}") > Some(0.0), "{text}");
    let uptime = value(&text, "everlink_uptime_seconds{client=\"feed\"}");
    assert!(uptime > Some(0.0), "{text}");

    // the state needs nobody who asks: without a link, and then without a client
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    watch.attempt_failed();
    let text = handle.render();
    assert_eq!(value(&text, "everlink_up{client=\"feed\"}"), Some(0.0), "{text}");
    client.close();
    let text = handle.render();
    let lost = "everlink_disconnects_total{client=\"feed\",kind=\"lost\"}";
    assert_eq!(value(&text, lost), Some(2.0), "{text}");

    // without a name the label is the number
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder(format!("ws://{}", nobody.local_addr().unwrap()));
    let client = client.start().unwrap();
    let text = render(handle);
    let up = format!("everlink_up{{client=\"{}\"}}", client.id());
    assert_eq!(value(&text, &up), Some(0.0), "{text}");
}

#[test]
fn a_client_that_is_closed_alerts_nobody() {
    let (handle, server) = (recorder(), echo("calm"));
    let client = talk(&server, "leaves", 1);
    let age = |text: &str| value(text, "everlink_age_seconds{client=\"leaves\"}").unwrap();
    let (first, second) = (age(&render(handle)), age(&render(handle)));
    assert!(second > first, "as long as it lives it is brought up to date: {first} {second}");
    client.close();
    let check = |text: &str| {
        let up = value(text, "everlink_up{client=\"leaves\"}").unwrap();
        assert!(up.is_nan() && age(text).is_nan(), "{text}");
        let closed = "everlink_disconnects_total{client=\"leaves\",kind=\"closed_here\"}";
        assert_eq!(value(text, closed), Some(1.0), "{text}");
        assert_eq!(value(text, "everlink_messages_sent_total{client=\"leaves\"}"), Some(1.0));
    };
    // that needs nobody who asks, and nobody who asks takes it back
    check(&handle.render());
    check(&render(handle));
    drop(client);
    check(&render(handle));
}

#[test]
fn a_server_that_is_shut_down_is_counted_to_the_end() {
    let (handle, server) = (recorder(), echo("ends"));
    let client = talk(&server, "of ends", 1);
    let text = render(handle);
    assert_eq!(value(&text, "everlink_server_sessions{server=\"ends\"}"), Some(1.0), "{text}");
    client.send("one more").unwrap();
    client.recv_timeout(PATIENCE).unwrap();
    assert!(server.shutdown(PATIENCE).drained);
    // nobody asks
    let text = handle.render();
    let received = "everlink_server_messages_received_total{server=\"ends\"}";
    assert_eq!(value(&text, received), Some(2.0), "{text}");
    let kinds = text.lines().filter(|line| {
        line.starts_with("everlink_server_disconnects_total{server=\"ends\"")
            && !line.ends_with(" 0")
    });
    assert_eq!(kinds.count(), 1, "{text}");
    let sessions = value(&text, "everlink_server_sessions{server=\"ends\"}").unwrap();
    assert!(sessions.is_nan(), "{text}");
}

#[test]
fn who_takes_over_a_name_goes_on_counting() {
    let handle = recorder();
    let sent = "everlink_messages_sent_total{client=\"again\"}";
    let received = "everlink_server_messages_received_total{server=\"again\"}";
    let (server, other) = (echo("again"), echo("again"));
    // one after the other
    talk(&server, "again", 5).close();
    talk(&server, "again", 2).close();
    assert_eq!(value(&render(handle), sent), Some(7.0));
    // and at the same time
    let both = [talk(&server, "again", 3), talk(&other, "again", 4)];
    let text = render(handle);
    assert_eq!((value(&text, sent), value(&text, received)), (Some(14.0), Some(14.0)), "{text}");
    assert_eq!(value(&text, "everlink_up{client=\"again\"}"), Some(1.0));
    both.iter().for_each(|client| drop(client.close()));
    drop(server);
    let server = echo("again");
    talk(&server, "again", 1).close();
    let text = render(handle);
    assert_eq!((value(&text, sent), value(&text, received)), (Some(15.0), Some(15.0)), "{text}");
}
