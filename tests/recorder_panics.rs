//! A recorder of metrics that panics ends nothing but its own call. Alone in its file, for the recorder
//! is the whole process's.

mod support;

use everlink::chaos::{Cut, FaultProxy};
use everlink::config::Backoff;
use everlink::{Client, Server, State};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use support::*;

struct Panics;

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        panic!("no counters here")
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("no gauges here")
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("no histograms here")
    }
}

#[test]
fn a_recorder_that_panics_ends_no_client() {
    init_log();
    assert!(metrics::set_global_recorder(Panics).is_ok());
    let server = Server::bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let url = format!("ws://{}", proxy.address());
    let (builder, watch) = watch(Client::builder(&url).backoff(Backoff::fixed(ms(1))));
    let client = builder.start().unwrap();
    watch.connected();
    everlink::publish_metrics();
    proxy.cut(Cut::Reset);
    watch.connected();
    assert_eq!(client.state(), State::Connected);
    let report = client.close();
    assert!(report.ended, "{report:?}");
    assert!(server.shutdown(PATIENCE).drained);
}
