//! `examples/monitor` in a pseudo-terminal: it is drawn, its keys do what they say, and it leaves
//! the terminal as it was.
#![cfg(target_os = "linux")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::examples::example;
use crate::support::*;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use everlink::chaos::{FaultProxy, Faults};
use everlink::{Server, Session};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const ROWS: u16 = 30;
const COLUMNS: u16 = 132;

/// The monitor, and the terminal that it thinks it is in.
struct Terminal {
    child: Child,
    keyboard: File,
    /// The other end, which keeps the terminal there when the monitor has gone.
    line: File,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = OsStr::from_bytes(name.as_bytes());
        let line = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).unwrap();
        let child = example("monitor")
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap())
            .spawn()
            .unwrap();
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, output) = crossbeam_channel::unbounded();
        // it ends when the last who has the line open lets go of it
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let screen = vt100::Parser::new(ROWS, COLUMNS, 0);
        Self { child, keyboard, line, output, screen }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads what is drawn until this holds for the text on the screen.
    fn shows(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let text = self.screen.screen().contents();
            if holds(&text) {
                return text;
            }
            match self.output.recv_deadline(deadline) {
                Ok(bytes) => self.screen.process(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("{what} is not shown:\n{text}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it has ended: {what}\n{text}"),
            }
        }
    }

    /// Reads what is drawn for so long, and finds the text on the screen unchanged.
    fn stands_still(&mut self, time: Duration, before: &str) {
        let deadline = Instant::now() + time;
        while let Ok(bytes) = self.output.recv_deadline(deadline) {
            self.screen.process(&bytes);
            assert_eq!(self.screen.screen().contents(), before);
        }
    }

    /// Whether what is typed is echoed, and handed over by lines: so a shell leaves it.
    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits until it has ended, and looks at what it has left.
    fn has_ended_well(mut self) {
        let mut status = None;
        eventually("the end", || {
            status = self.child.try_wait().unwrap();
            status.map(drop).ok_or("it runs")
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
        assert!(self.is_cooked(), "the terminal is left raw");
        // what it wrote last may still be on its way through the reading thread
        eventually("the last of it", || {
            while let Ok(bytes) = self.output.try_recv() {
                self.screen.process(&bytes);
            }
            let screen = self.screen.screen();
            let is_restored = !screen.alternate_screen() && !screen.hide_cursor();
            if is_restored { Ok(()) } else { Err("the screen is not given back") }
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line that says something of this connection.
fn line_of<'a>(screen: &'a str, name: &str) -> &'a str {
    screen.lines().find(|line| line.contains(name)).unwrap_or_default()
}

#[test]
fn connections_are_drawn_and_keys_do_what_they_say() {
    let echo = || {
        let server = Server::bind("127.0.0.1:0", |session| {
            let _ = session.send("hello");
            while session.recv().is_ok() {}
        });
        server.unwrap()
    };
    let (first, second) = (echo(), echo());
    let urls = [&first, &second].map(|server| format!("ws://{}", server.local_addr()));
    let mut terminal = Terminal::start(&["--interval", "1", &urls[0], &urls[1]]);
    terminal.shows("two links", |text| {
        text.contains("2 of 2 connected") && text.contains("everlink monitor")
    });
    assert!(!terminal.is_cooked(), "keys come one by one");
    terminal.shows("a round trip", |text| text.contains(" µs") || text.contains(" ms"));

    // r: another link, and why
    terminal.press("r");
    let text = terminal.shows("another link", |text| {
        first.stats().accepted == 2 && text.contains("closed_here") && text.contains("2 of 2")
    });
    assert!(text.contains("what happened"), "{text}");
    assert_eq!(second.stats().accepted, 1);

    // p: the picture stands still, whatever happens meanwhile
    terminal.press("p");
    let held = terminal.shows("held", |text| text.contains("held"));
    first.sessions().iter().for_each(Session::abort);
    eventually("another link", || match first.stats().accepted {
        3 => Ok(()),
        accepted => Err(accepted),
    });
    // longer than it takes to draw some frames
    terminal.stands_still(ms(1500), &held);
    terminal.press("p");
    terminal.shows("what has happened meanwhile", |text| {
        !text.contains("held") && text.contains("lost")
    });

    // down, c: the second is closed
    terminal.press("\x1b[B");
    terminal.shows("the choice", |text| line_of(text, &urls[1][5..]).contains('▶'));
    terminal.press("c");
    terminal.shows("a closed one", |text| text.contains("1 of 2 connected"));
    eventually("the server knows", || match second.stats().sessions {
        0 => Ok(()),
        left => Err(left),
    });

    terminal.press("q");
    terminal.has_ended_well();
}

#[test]
fn the_chosen_row_is_seen_however_many_there_are() {
    let server = Server::bind("127.0.0.1:0", |session| while session.recv().is_ok() {}).unwrap();
    let names: Vec<String> = (0..20).map(|n| format!("{}/{n:02}", server.local_addr())).collect();
    let urls: Vec<String> = names.iter().map(|name| format!("ws://{name}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let mut terminal = Terminal::start(&urls);
    terminal.shows("all of them", |text| text.contains("20 of 20 connected"));
    let is_chosen = |text: &str, number: usize| line_of(text, &names[number]).contains('▶');
    // past the end: the last one stays chosen
    for (key, first_to_last) in [("\x1b[B", [1, 19]), ("\x1b[A", [18, 0])] {
        let [first, last] = first_to_last;
        terminal.press(key);
        terminal.shows("the next", |text| is_chosen(text, first));
        terminal.press(&key.repeat(21));
        terminal.shows("the last", |text| is_chosen(text, last));
    }
    terminal.press("q");
    terminal.has_ended_well();
}

#[test]
fn ctrl_c_and_signals_leave_the_terminal_as_it_was() {
    for how in ["\x03", "signal"] {
        // nobody is let in there
        let refused = FaultProxy::start("127.0.0.1:0").unwrap();
        refused.set(Faults::none().refuse()).unwrap();
        let mut terminal = Terminal::start(&[&format!("ws://{}", refused.address())]);
        terminal.shows("what fails", |text| text.contains("connect") && text.contains("0 of 1"));
        if how == "signal" {
            let pid = rustix::process::Pid::from_child(&terminal.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        } else {
            terminal.press(how);
        }
        terminal.has_ended_well();
    }
}

#[test]
fn without_arguments_there_is_something_to_see() {
    let mut terminal = Terminal::start(&[]);
    terminal.shows("all of them", |text| text.contains("6 of 6 connected"));
    let text = terminal.shows("what was lost, and came back", |text| {
        ["lost", "silent", "disconnected after", "connected to"].iter().all(|w| text.contains(w))
    });
    for name in ["steady", "distant", "congested", "reset", "silent", "restarts"] {
        assert!(text.contains(name), "{name}\n{text}");
    }
    terminal.press("q");
    terminal.has_ended_well();
}

/// `cargo test --test programs monitor -- --ignored` makes the picture anew.
#[test]
#[ignore = "writes examples/monitor/monitor.svg"]
fn the_picture_of_the_readme() {
    let mut terminal = Terminal::start(&[]);
    let begun = Instant::now();
    terminal.shows("a life of some seconds", |text| {
        begun.elapsed() > ms(26_000)
            && text.contains("backing off")
            && text.contains("next in")
            && text.contains("missed")
    });
    // to the end of a frame: between two of them nothing comes for a while
    while let Ok(bytes) = terminal.output.recv_timeout(ms(100)) {
        terminal.screen.process(&bytes);
    }
    let picture = svg(terminal.screen.screen());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/monitor/monitor.svg");
    std::fs::write(file, picture).unwrap();
    terminal.press("q");
    terminal.has_ended_well();
}

/// Each run of cells that look alike is a text of its own, at the place of its first cell.
fn svg(screen: &vt100::Screen) -> String {
    const CELL: (f32, f32) = (8.4, 18.0);
    let (width, height) = (f32::from(COLUMNS) * CELL.0 + 24.0, f32::from(ROWS) * CELL.1 + 24.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n\
         <title>everlink monitor: six connections, some of which have just been lost</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#14181f\"/>\n\
         <g font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"14\">\n"
    );
    for row in 0..ROWS {
        let mut column = 0;
        while column < COLUMNS {
            let look = |column| screen.cell(row, column).map(style);
            let (begin, this) = (column, look(column));
            let mut text = String::new();
            while column < COLUMNS && look(column) == this {
                let cell = screen.cell(row, column).map(vt100::Cell::contents);
                text.push_str(&cell.filter(|text| !text.is_empty()).unwrap_or_else(|| " ".into()));
                column += 1;
            }
            let Some((color, weight)) = this else { continue };
            if text.trim().is_empty() {
                continue;
            }
            let (x, y) = (12.0 + f32::from(begin) * CELL.0, 26.0 + f32::from(row) * CELL.1);
            let length = text.chars().count() as f32 * CELL.0;
            // spaces of the usual kind are drawn as one
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace(' ', "\u{a0}");
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\" fill=\"{color}\" \
                 font-weight=\"{weight}\">{text}</text>"
            );
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn style(cell: &vt100::Cell) -> (&'static str, u32) {
    let color = match cell.fgcolor() {
        vt100::Color::Idx(1) => "#ff7b72",
        vt100::Color::Idx(2) => "#56d364",
        vt100::Color::Idx(3) => "#e3b341",
        vt100::Color::Idx(6) => "#56d4dd",
        vt100::Color::Idx(8) => "#8b949e",
        _ => "#e6edf3",
    };
    let color = if cell.inverse() { "#ffffff" } else { color };
    let weight = if cell.bold() || cell.inverse() { 700 } else { 400 };
    (color, weight)
}
