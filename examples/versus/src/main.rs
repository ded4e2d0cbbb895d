//! everlink against what a user would pick instead, in one run.
//!
//! ```text
//! cargo run --release --manifest-path examples/versus/Cargo.toml -- [--quick] [--json] [--calls] [--only=raw,everlink] [WORKLOAD ...]
//! ```
//!
//! Rounds are interleaved, so that whatever the machine does besides hits all alike. Printed are
//! medians, in brackets their ratio to raw tungstenite in the same run, and half the span of the
//! rounds in percent of the median. The server is a process of its own on the same machine.
//! With `--calls` system calls are counted, too, which takes time: the other numbers of that run are none to keep.
//! Naming the beginning of workloads (`send`, `receive 32`, `idle`, ...) runs only those.

mod contender;
mod machine;
mod server;
mod ticks;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use contender::{Contender, Content, Load, Result};
use machine::Spent;
use server::Server;

/// How a process is told to idle: the name of a contender, the numbers of connections and
/// of seconds before measuring and of measuring follow.
const IDLE: &str = "--idle";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [server::ARGUMENT] => server::run(),
        [IDLE, name, count, warm_up, period] => {
            let seconds = |text: &str| text.parse().map(Duration::from_secs);
            idle(name, count.parse()?, seconds(warm_up)?, seconds(period)?)
        }
        _ => Run::new(&arguments)?.all(),
    }
}

struct Run {
    contenders: Vec<Box<dyn Contender>>,
    server: Server,
    quick: bool,
    json: bool,
    wanted: Vec<String>,
}

impl Run {
    fn new(arguments: &[&str]) -> Result<Self> {
        let (options, wanted): (Vec<&str>, Vec<&str>) =
            arguments.iter().partition(|argument| argument.starts_with("--"));
        let (mut quick, mut json, mut contenders) = (false, false, contender::all());
        let mut calls = false;
        for option in options {
            match option.split_once('=') {
                None if option == "--quick" => quick = true,
                None if option == "--json" => json = true,
                None if option == "--calls" => calls = true,
                Some(("--only", names)) => contenders.retain(|contender| {
                    names.split(',').any(|name| contender.name().contains(name))
                }),
                _ => {
                    let usage = "usage: versus [--quick] [--json] [--calls] [--only=NAME,...] [WORKLOAD ...]";
                    return Err(usage.into());
                }
            }
        }
        let server = Server::spawn()?;
        // not those of the server
        if calls {
            machine::calls::count()?;
        }
        Ok(Self {
            contenders,
            server,
            quick,
            json,
            wanted: wanted.into_iter().map(str::to_owned).collect(),
        })
    }

    fn is_wanted(&self, workload: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| workload.starts_with(wanted))
    }

    /// How much of a full round is done.
    fn share(&self, count: usize) -> usize {
        (count / if self.quick { 20 } else { 2 }).max(30)
    }

    fn all(&self) -> Result<()> {
        let names: Vec<&str> = self.contenders.iter().map(|contender| contender.name()).collect();
        if !self.json {
            println!("| workload | {} |", names.join(" | "));
            println!("| --- |{}", " --- |".repeat(names.len()));
        }

        let plain = [(32, 1_000_000), (1024, 300_000), (65_536, 40_000), (1 << 20, 600)];
        let secure = [(32, 500_000), (65_536, 10_000)];
        let loads = plain.iter().map(|(size, count)| (*size, *count, false));
        let loads = loads.chain(secure.iter().map(|(size, count)| (*size, *count, true)));
        for (size, count, tls) in loads {
            let kind = if tls { " over TLS" } else { "" };
            let content = Content::Bytes(size);
            let load = Load { count: self.share(count), content, tls, is_encoded: false };
            self.one_way(&format!("send {size} B{kind}"), load, |contender, server| {
                contender.send(server, load)
            })?;
            let load = Load { count: self.share(count * 2), ..load };
            self.one_way(&format!("receive {size} B{kind}"), load, |contender, server| {
                contender.receive(server, load)
            })?;
            if size >= server::SMALL && !tls {
                let (workload, load) = (
                    format!("receive {size} B encoded beforehand"),
                    Load { is_encoded: true, ..load },
                );
                self.one_way(&workload, load, |contender, server| contender.receive(server, load))?;
            }
        }
        let (count, content) = (self.share(1_000_000), Content::Ticks);
        let load = Load { count, content, tls: false, is_encoded: false };
        self.one_way("receive JSON ticks of about 200 B", load, |contender, server| {
            contender.receive(server, load)
        })?;
        let [plain, deflated] = server::bytes_of_a_tick()?;
        let workload =
            format!("receive deflated JSON ticks ({deflated:.0} of {plain:.0} B on the wire)");
        let load = Load { content: Content::DeflatedTicks, ..load };
        self.one_way(&workload, load, |contender, server| contender.receive(server, load))?;
        let count = self.share(500_000);
        self.measure("pipelined echo 32 B, 256 under way, 1/s", |contender, server| {
            Ok(contender.pipelined(server, count, 256)?.map(|time| rate(count, time)))
        })?;
        self.echo()?;
        self.measure("reset to reconnected, ms", |contender, server| {
            let time = contender.reconnect(server)?;
            Ok(time.map(|time| time.as_secs_f64() * 1e3))
        })?;
        if self.is_wanted("idle") {
            self.idle()?;
        }
        Ok(())
    }

    fn echo(&self) -> Result<()> {
        let count = self.share(20_000);
        let names = [
            "p50, us",
            "p99, us",
            "CPU of the client for each, us",
            "switches for each",
            "system calls for each",
        ];
        for (workload, before_each) in [("echo 32 B", 0), ("echo 32 B behind 20 of a feed", 20)] {
            self.columns(workload, names, |contender, server| {
                let before = Spent::so_far();
                let Some(mut echoes) = contender.echo(server, count, before_each)? else {
                    return Ok(None);
                };
                let spent = Spent::so_far().since(before);
                echoes.times.sort();
                let at = |percent: usize| micros(echoes.times[echoes.times.len() * percent / 100]);
                let each = |all: f64| all / echoes.times.len() as f64;
                let (cpu, switches) = (each(micros(echoes.cpu)), each(spent.switches as f64));
                Ok(Some([at(50), at(99), cpu, switches, each(spent.calls)]))
            })?;
        }
        Ok(())
    }

    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }

    /// One turn of each contender.
    fn round<T>(
        &self,
        mut turn: impl FnMut(&dyn Contender, &Server) -> Result<Option<T>>,
    ) -> Result<Vec<Option<T>>> {
        let mut turn = |contender: &dyn Contender| {
            turn(contender, &self.server)
                .map_err(|error| format!("{}: {error}", contender.name()).into())
        };
        self.contenders.iter().map(|contender| turn(contender.as_ref())).collect()
    }

    /// What those who can make of messages in one direction: how many in a second, and what this process spends
    /// on each.
    fn one_way(
        &self,
        workload: &str,
        load: Load,
        mut turn: impl FnMut(&dyn Contender, &Server) -> Result<Option<Duration>>,
    ) -> Result<()> {
        let names = ["1/s", "ns of CPU for each", "switches for 1,000", "system calls for 1,000"];
        self.columns(workload, names, |contender, server| {
            if !contender.can(load) {
                return Ok(None);
            }
            let before = Spent::so_far();
            let time = turn(contender, server)?;
            let spent = Spent::so_far().since(before);
            let count = load.count as f64;
            let [cpu, switches] = [spent.cpu.as_secs_f64() * 1e9, spent.switches as f64 * 1e3];
            let each = [cpu / count, switches / count, spent.calls * 1e3 / count];
            Ok(time.map(|time| [rate(load.count, time), each[0], each[1], each[2]]))
        })
    }

    /// Several numbers of each turn, a row for each.
    fn columns<const N: usize>(
        &self,
        workload: &str,
        names: [&str; N],
        mut turn: impl FnMut(&dyn Contender, &Server) -> Result<Option<[f64; N]>>,
    ) -> Result<()> {
        if !self.is_wanted(workload) {
            return Ok(());
        }
        let mut columns = [const { Vec::new() }; N];
        for _ in 0..self.rounds() {
            let round = self.round(&mut turn)?;
            for (index, column) in columns.iter_mut().enumerate() {
                let of = |values: &Option<[f64; N]>| values.map(|values| values[index]);
                column.push(round.iter().map(of).collect());
            }
        }
        for (name, rounds) in names.into_iter().zip(columns) {
            if rounds.iter().flatten().flatten().all(|value: &f64| value.is_nan()) {
                continue;
            }
            self.print_row(&format!("{workload}, {name}"), &rounds);
        }
        Ok(())
    }

    fn measure(
        &self,
        workload: &str,
        mut turn: impl FnMut(&dyn Contender, &Server) -> Result<Option<f64>>,
    ) -> Result<()> {
        if !self.is_wanted(workload) {
            return Ok(());
        }
        let rounds: Result<Vec<_>> = (0..self.rounds()).map(|_| self.round(&mut turn)).collect();
        self.print_row(workload, &rounds?);
        Ok(())
    }

    fn print_row(&self, workload: &str, rounds: &[Vec<Option<f64>>]) {
        let mut row = Vec::new();
        let mut raw = None;
        for (index, contender) in self.contenders.iter().enumerate() {
            let mut values: Vec<f64> = rounds.iter().filter_map(|round| round[index]).collect();
            values.sort_by(f64::total_cmp);
            let (Some(least), Some(most)) = (values.first(), values.last()) else {
                row.push("-".to_owned());
                continue;
            };
            let median = values[values.len() / 2];
            if self.json {
                let name = contender.name();
                println!(
                    r#"{{"workload":"{workload}","contender":"{name}","median":{median},"least":{least},"most":{most}}}"#
                );
            }
            let ratio = median / *raw.get_or_insert(median);
            let span = (most - least) / median * 50.0;
            let mut cell = match median {
                0.0..100.0 => format!("{median:.2}"),
                _ => format!("{median:.0}"),
            };
            if ratio.is_finite() {
                cell += &format!(" ({ratio:.2})");
            }
            if values.len() > 1 && span.is_finite() {
                cell += &format!(" ±{span:.0}%");
            }
            row.push(cell);
        }
        if !self.json {
            println!("| {workload} | {} |", row.join(" | "));
        }
    }

    /// Each contender in a process of its own, so that all it measures of itself is its own.
    fn idle(&self) -> Result<()> {
        // past the first beat of everlink's default heartbeat, which comes after 20 s
        let (count, [warm_up, period]) =
            if self.quick { (50, ["1", "2"]) } else { (500, ["22", "20"]) };
        let mut columns = [const { Vec::new() }; 3];
        for contender in &self.contenders {
            let mut child = Command::new(std::env::current_exe()?)
                .args([IDLE, contender.name(), &count.to_string(), warm_up, period])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let mut input = child.stdin.take().ok_or("no input")?;
            std::io::Write::write_all(&mut input, self.server.describe().as_bytes())?;
            drop(input);
            let output = child.wait_with_output()?;
            if !output.status.success() {
                return Err(format!("idling failed: {}", output.status).into());
            }
            let text = String::from_utf8(output.stdout)?;
            let values: Vec<f64> =
                text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            for (index, column) in columns.iter_mut().enumerate() {
                column.push(values.get(index).copied());
            }
        }
        let names = ["KiB resident for each", "threads", "CPU of all, % of a core"];
        for (name, column) in names.into_iter().zip(columns) {
            self.print_row(&format!("{count} idle connections, {name}"), &[column]);
        }
        Ok(())
    }
}

/// The process that idles: finds the server on its input, prints what it measured of itself.
fn idle(name: &str, count: usize, warm_up: Duration, period: Duration) -> Result<()> {
    let server = Server::described(&mut std::io::stdin().lines())?;
    let contenders = contender::all();
    let contender = contenders.iter().find(|contender| contender.name() == name);
    let contender = contender.ok_or("no such contender")?;
    let resident = machine::resident();
    contender.idle(&server, count, &mut || {
        thread::sleep(warm_up);
        let (cpu, begun) = (machine::cpu_time(), Instant::now());
        let each = (machine::resident() - resident) as f64 / count as f64;
        thread::sleep(period);
        let cpu = machine::cpu_time() - cpu;
        let share = cpu.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        println!("{each} {} {share}", machine::threads());
    })?;
    Ok(())
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
