//! The real Prometheus scrapes `examples/health_and_metrics.rs`, and the rules that lie beside it
//! fire when a server is killed.
//!
//! Says "skipped" if `prometheus` is not on the PATH.
#![cfg(feature = "tls")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::examples::example;
use crate::support::*;
use serde_json::Value;

/// A process that ends with its owner.
struct Running(Child);

impl Running {
    /// Not asked, and not told.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free at the moment.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Status and body.
fn get(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

/// Starts a server that is an example, at its address, and waits until it listens.
fn start(command: &mut Command, address: SocketAddr) -> Running {
    let child = command.arg(address.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(child.spawn().unwrap());
    eventually("it listens", || {
        assert!(running.0.try_wait().unwrap().is_none(), "{command:?} has ended");
        TcpStream::connect(address).map(drop)
    });
    running
}

struct Prometheus {
    _running: Running,
    address: SocketAddr,
    folder: PathBuf,
}

impl Prometheus {
    fn start(targets: [SocketAddr; 2]) -> Option<Self> {
        let targets = targets.map(|target| format!("'{target}'")).join(", ");
        let folder =
            std::env::temp_dir().join(format!("everlink-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prometheus.rules.yml");
        let config = format!(
            "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  \
             evaluation_interval: 500ms\nrule_files:\n  - {rules}\nscrape_configs:\n  \
             - job_name: everlink\n    static_configs:\n      - targets: [{targets}]\n"
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let address = free();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("skipped: prometheus is not installed");
            let _ = fs::remove_dir_all(folder);
            return None;
        };
        // what it says if it does not start; read on another thread, for nobody else empties it
        let stderr = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).collect::<Vec<_>>().join("\n")
        });
        let mut running = Running(child);
        let mut ended = false;
        eventually("prometheus is ready", || {
            ended = running.0.try_wait().unwrap().is_some();
            match get(address, "/-/ready") {
                _ if ended => Ok(()),
                Ok((status, _)) if status == "200" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        assert!(!ended, "prometheus has ended: {}", said.join().unwrap());
        Some(Self { _running: running, address, folder })
    }

    fn data(&self, path: &str) -> Value {
        let (status, body) = get(self.address, path).unwrap();
        assert_eq!(status, "200", "{body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        answer["data"].take()
    }

    /// The alerts that fire, and for which instance.
    fn firing(&self) -> Vec<(String, String)> {
        let data = self.data("/api/v1/alerts");
        let alerts = data["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        let label = |alert: &Value, name| alert["labels"][name].as_str().unwrap_or("").to_owned();
        firing.map(|alert| (label(alert, "alertname"), label(alert, "instance"))).collect()
    }

    /// Waits until this alert fires for these instances, and for no other.
    fn fires(&self, name: &str, instances: &[SocketAddr]) {
        let mut expected: Vec<_> = instances.iter().map(ToString::to_string).collect();
        expected.sort();
        eventually(name, || {
            let firing = self.firing();
            let of_it = firing.iter().filter(|(alert, _)| alert == name);
            let mut found: Vec<_> = of_it.map(|(_, instance)| instance.clone()).collect();
            found.sort();
            if found == expected { Ok(()) } else { Err(firing) }
        });
    }

    fn is_calm(&self) {
        eventually("nothing fires", || {
            let firing = self.firing();
            if firing.is_empty() { Ok(()) } else { Err(firing) }
        });
    }

    /// The values of the series that this finds.
    fn values(&self, query: &str) -> Vec<String> {
        let data = self.data(&format!("/api/v1/query?query={query}"));
        let series = data["result"].as_array().unwrap().iter();
        series.map(|series| series["value"][1].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self._running.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn prometheus_notices_that_a_server_was_killed() {
    let (mut upstream, upstream_address) = (example("echo_server"), free());
    let mut killed = start(&mut upstream, upstream_address);
    let addresses = [free(), free()];
    let [mut gate, mut other] = addresses.map(|address| {
        let mut gate = example("health_and_metrics");
        start(gate.args(["--upstream", &format!("ws://{upstream_address}")]), address)
    });
    let Some(prometheus) = Prometheus::start(addresses) else { return };
    eventually("both are scraped, and all is well", || {
        let up = prometheus.values("everlink_up%7Bclient=%22upstream%22%7D");
        if up == ["1", "1"] { Ok(()) } else { Err(up) }
    });
    eventually("health", || match get(addresses[0], "/health") {
        Ok((status, _)) if status == "200" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(prometheus.values("everlink_server_sessions%7Bserver=%22gate%22%7D"), ["0", "0"]);
    // before the first scrape there is no server either
    prometheus.is_calm();

    killed.kill();
    prometheus.fires("EverlinkDown", &addresses);
    let (status, body) = get(addresses[0], "/health").unwrap();
    assert_eq!(status, "503", "{body}");
    let lost = "everlink_disconnects_total%7Bclient=%22upstream%22,kind=%22lost%22%7D";
    assert_eq!(prometheus.values(lost), ["1", "1"]);

    // it comes back, and so does the link
    let _again = start(&mut example("echo_server"), upstream_address);
    prometheus.is_calm();

    // one of them, which says nothing of the other
    gate.kill();
    prometheus.fires("EverlinkServerGone", &addresses[..1]);
    other.kill();
    prometheus.fires("EverlinkServerGone", &addresses);
}
