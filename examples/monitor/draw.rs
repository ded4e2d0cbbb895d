//! The picture.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use everlink::State;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, TableState};

use crate::watched::{TRIPS, Watched};

const KEYS: &str = " ↑↓ choose   r reconnect   c close   p hold the picture   q quit";

/// What is drawn, as it was at `now`. The table remembers which rows were seen: the chosen one always
/// is.
pub fn draw(
    frame: &mut Frame<'_>,
    watched: &[Watched],
    table: &mut TableState,
    (now, is_held): (Instant, bool),
) {
    let rows = u16::try_from(watched.len() * 2 + 3).unwrap_or(u16::MAX);
    let [title, rows, events, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Max(rows),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(summary(watched, is_held)), title);
    draw_table(frame, rows, watched, table, now);
    draw_events(frame, events, watched, now);
    frame.render_widget(Paragraph::new(KEYS).dark_gray(), keys);
}

fn summary(watched: &[Watched], is_held: bool) -> Line<'static> {
    let up = watched.iter().filter(|one| one.status.state == State::Connected).count();
    let mut spans = vec![
        Span::from(" everlink monitor").bold(),
        Span::from(format!("   {up} of {} connected", watched.len())),
    ];
    if is_held {
        spans.push(Span::from("   held").yellow().bold());
    }
    Line::from(spans)
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    watched: &[Watched],
    state: &mut TableState,
    now: Instant,
) {
    let header = [
        "connection",
        "state",
        "up for",
        "round trip",
        "p50 / p99",
        "",
        "in",
        "out",
        "queues",
        "links",
    ];
    let widths = [
        Constraint::Min(20),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(19),
        Constraint::Length(TRIPS as u16),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(6),
    ];
    let header = Row::new(header).style(Style::new().dark_gray());
    let chosen = state.selected();
    let rows = watched.iter().enumerate().map(|(index, one)| row(one, chosen == Some(index), now));
    let table = Table::new(rows, widths).header(header).column_spacing(1).block(Block::bordered());
    frame.render_stateful_widget(table, area, state);
}

/// Two lines: what there is now, and below it what went wrong last.
fn row(one: &Watched, is_chosen: bool, now: Instant) -> Row<'static> {
    let (status, stats, rates) = (&one.status, &one.stats, &one.rates);
    let trips = stats.round_trips;
    let color = color(status.state);
    let marker = if is_chosen { "▶ " } else { "  " };
    let cause = status.last_failure.as_ref().map(|cause| cause.kind().to_string());
    let next = status.next_attempt.map(|at| {
        let left = at.saturating_duration_since(now);
        format!("next in {:.1}s", left.as_secs_f64())
    });
    let cell = |first: String, second: String| {
        Cell::from(Text::from(vec![Line::from(first), Line::from(second).dark_gray()]))
    };
    let cells = [
        {
            let below = if status.endpoint.contains(&one.name) { "" } else { &*status.endpoint };
            cell(format!("{marker}{}", one.name), format!("  {below}"))
        },
        Cell::from(Text::from(vec![
            Line::from(status.state.to_string()).style(Style::new().fg(color).bold()),
            Line::from(cause.unwrap_or_default()).dark_gray(),
        ])),
        cell(stats.uptime.map_or("-".into(), clock), next.unwrap_or_default()),
        cell(time(stats.last_round_trip), misses(stats.heartbeat_misses)),
        cell(
            format!("{} / {}", time(trips.map(|t| t.p50)), time(trips.map(|t| t.p99))),
            trips.map_or(String::new(), |trips| format!("of {}", trips.count)),
        ),
        Cell::from(Text::from(vec![
            Line::from(sparkline(&one.trips)).cyan(),
            Line::from(String::new()),
        ])),
        cell(format!("{:.0}/s", rates.messages_received), per_second(rates.bytes_received)),
        cell(format!("{:.0}/s", rates.messages_sent), per_second(rates.bytes_sent)),
        cell(format!("out {}", stats.outbox_messages), format!("in {}", stats.inbox_messages)),
        cell(stats.connects.to_string(), failed(stats.failed_attempts)),
    ];
    let style = Style::new();
    let style = if is_chosen { style.add_modifier(Modifier::REVERSED) } else { style };
    // only the name of the chosen one is reversed, for colours are to stay readable
    let [name, rest @ ..] = cells;
    Row::new(std::iter::once(name.style(style)).chain(rest)).height(2)
}

fn misses(count: u64) -> String {
    if count == 0 { String::new() } else { format!("{count} missed") }
}

fn failed(count: u64) -> String {
    if count == 0 { String::new() } else { format!("{count} ✗") }
}

fn color(state: State) -> Color {
    match state {
        State::Connected => Color::Green,
        State::Connecting | State::BackingOff | State::Closing => Color::Yellow,
        State::Disconnected | State::GaveUp => Color::Red,
        _ => Color::DarkGray,
    }
}

/// The newest events of all connections, the newest on top.
fn draw_events(frame: &mut Frame<'_>, area: Rect, watched: &[Watched], now: Instant) {
    let mut events: Vec<_> = watched
        .iter()
        .flat_map(|one| one.events.iter().map(move |event| (one.name.as_str(), event)))
        .collect();
    events.sort_by_key(|(_, (at, ..))| std::cmp::Reverse(*at));
    let lines = events.into_iter().take(usize::from(area.height)).map(|(name, (at, what, bad))| {
        let ago = format!(" {:>6.1} s ago  ", now.saturating_duration_since(*at).as_secs_f64());
        let color = if *bad { Color::Red } else { Color::Green };
        Line::from(vec![
            Span::from(ago).dark_gray(),
            Span::from(format!("{name:<12} ")),
            Span::from(what.clone()).fg(color),
        ])
    });
    let block = Block::bordered().title(" what happened ");
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}

/// Each round trip as a bar, the longest of them as the highest; a gap where there was no link.
fn sparkline(trips: &VecDeque<Option<Duration>>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let longest = trips.iter().flatten().max().copied().unwrap_or_default().as_secs_f64();
    let bar = |trip: &Option<Duration>| match trip {
        None => '·',
        Some(trip) => {
            let part = trip.as_secs_f64() / longest.max(f64::MIN_POSITIVE);
            BARS[((part * 8.0) as usize).min(7)]
        }
    };
    trips.iter().map(bar).collect()
}

fn time(time: Option<Duration>) -> String {
    match time {
        None => "-".into(),
        Some(time) if time < Duration::from_millis(1) => format!("{} µs", time.as_micros()),
        Some(time) if time < Duration::from_secs(1) => {
            format!("{:.1} ms", time.as_secs_f64() * 1e3)
        }
        Some(time) => format!("{:.1} s", time.as_secs_f64()),
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

fn per_second(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e6 => format!("{:.1} MB/s", bytes / 1e6),
        bytes if bytes >= 1e3 => format!("{:.1} kB/s", bytes / 1e3),
        bytes => format!("{bytes:.0} B/s"),
    }
}
