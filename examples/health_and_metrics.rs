//! A server that a load balancer and Prometheus can ask how it is: `/health` and `/metrics` beside
//! the WebSocket, on one port.
//!
//! ```text
//! cargo run --example echo_server -- 127.0.0.1:9001
//! cargo run --example health_and_metrics -- 127.0.0.1:9005 --upstream ws://127.0.0.1:9001
//! curl http://127.0.0.1:9005/health http://127.0.0.1:9005/metrics
//! ```
//!
//! It passes on to everybody at `/ws` what comes from a server behind it, and to that server what
//! they say. Whether the link to that server is up decides about its health: a balancer then sends
//! new clients elsewhere, and those that are here stay. Rules for alerts: `prometheus.rules.yml`.
//!
//! The feature `metrics` has to be on in a program of one's own:
//! `everlink = { version = "...", features = ["metrics"] }`.

use std::sync::{Arc, OnceLock};

use clap::Parser;
use crossbeam_channel::bounded;
use everlink::http::StatusCode;
use everlink::{Answer, Client, Incoming, Server, State};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

#[derive(Debug, Parser)]
#[command(about = "A server with /health and /metrics")]
struct Options {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:9005")]
    address: String,
    /// The server behind this one
    #[arg(long, default_value = "ws://127.0.0.1:9001")]
    upstream: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // a scrape is a request that is no WebSocket: a line every few seconds
    let filter = env_logger::Env::default().default_filter_or("info,everlink::server=warn");
    env_logger::Builder::from_env(filter).init();
    let options = Options::parse();
    // before anything is counted; it has no thread and no port of its own
    let metrics = PrometheusBuilder::new().install_recorder()?;

    let upstream = Arc::new(OnceLock::<Client>::new());
    let (asked, told) = (Arc::clone(&upstream), Arc::clone(&upstream));
    let server = Server::builder()
        .name("gate")
        .on_request(move |incoming| answer(incoming, asked.get(), &metrics))
        .bind(options.address, move |session| {
            for message in &session {
                if told.get().is_some_and(|upstream| upstream.try_send(message).is_err()) {
                    log::warn!("the server behind this one is gone for long: a message is dropped");
                }
            }
        })?;
    let everybody = server.handle();
    let client = Client::builder(&options.upstream)
        .name("upstream")
        .on_message(move |_, message| {
            everybody.broadcast(message);
        })
        .start()?;
    let _ = upstream.set(client.clone());

    println!("open http://{}/metrics", server.local_addr());
    let (stop, stopped) = bounded::<()>(0);
    let mut stop = Some(stop);
    ctrlc::set_handler(move || drop(stop.take()))?;
    // it ends with an error when the handler drops its end
    let _ = stopped.recv();
    client.close();
    Ok(())
}

fn answer(incoming: &Incoming, upstream: Option<&Client>, metrics: &PrometheusHandle) -> Answer {
    match incoming.path() {
        "/ws" => Answer::accept(),
        "/health" => match upstream.map(Client::state) {
            Some(State::Connected) => Answer::page("text/plain", "up\n"),
            state => {
                let words = state.map_or("starting".into(), |state| state.to_string());
                Answer::reject(StatusCode::SERVICE_UNAVAILABLE)
                    .header("content-type", "text/plain")
                    .body(format!("upstream: {words}\n"))
            }
        },
        "/metrics" => {
            everlink::publish_metrics();
            Answer::page("text/plain; version=0.0.4; charset=utf-8", metrics.render())
        }
        _ => Answer::reject(StatusCode::NOT_FOUND),
    }
}
