//! What is published through the `metrics` facade. Alone in its file, for the recorder is the whole
//! process's.

mod support;

use std::net::TcpListener;

use everlink::chaos::{Cut, FaultProxy};
use everlink::{Backoff, Client, Server};
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

#[test]
fn clients_and_servers_are_published_under_their_names() {
    let handle = PrometheusBuilder::new().install_recorder().unwrap();
    let server = Server::builder().name("gate").bind("127.0.0.1:0", |session| {
        for message in &session {
            if session.send(message).is_err() {
                break;
            }
        }
    });
    let server = server.unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let (builder, watch) = watch(
        Client::builder(&format!("ws://{}", proxy.address()))
            .name("feed")
            .backoff(Backoff::fixed(ms(1))),
    );
    let client = builder.start().unwrap();
    watch.connected();
    client.send("hello").unwrap();
    client.recv_timeout(PATIENCE).unwrap();
    proxy.cut(Cut::Reset);
    watch.connected();

    let text = render(&handle);
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

    // the state needs nobody who asks
    client.close();
    let text = handle.render();
    assert_eq!(value(&text, "everlink_up{client=\"feed\"}"), Some(0.0), "{text}");
    let closed = "everlink_disconnects_total{client=\"feed\",kind=\"closed_here\"}";
    assert_eq!(value(&text, closed), Some(1.0), "{text}");

    // without a name the label is the number
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder(&format!("ws://{}", nobody.local_addr().unwrap()));
    let client = client.start().unwrap();
    let text = render(&handle);
    let up = format!("everlink_up{{client=\"{}\"}}", client.id());
    assert_eq!(value(&text, &up), Some(0.0), "{text}");
    drop(client);
    // and a client that is gone is published no more
    let text = render(&handle);
    assert_eq!(value(&text, &up), Some(0.0), "{text}");
}
