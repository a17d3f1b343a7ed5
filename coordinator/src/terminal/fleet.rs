//! The lower half: workers and failures.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use shared::excerpt::one_line;
use shared::queue::{ShardState, WorkerSnapshot};

use super::draw::heading;
use super::screen::List;
use crate::status::Status;
use crate::status::words::grouped;
use crate::watch::condition::{Condition, conditions};
use crate::watch::{Watched, unnamed_failures};

/// From this width on the table has a column for the box.
const WIDTH_WITH_BOX: u16 = 104;

/// From this width on it has one for the items done.
const WIDTH_WITH_ITEMS: u16 = 118;

/// A row for each worker; gives back where the list stands.
pub fn workers(frame: &mut Frame, area: Rect, watched: &Watched, top: usize, focused: bool) -> List {
    let status = &watched.status;
    let all = conditions(&status.workers, &status.leases);
    let room = usize::from(area.height.saturating_sub(2));
    let list = clamp(top, all.len(), room);
    let title = range("workers", list, all.len());
    let columns = columns(area.width);
    let rows = all.iter().skip(list.top).take(room).map(|(condition, worker)| {
        let rate = watched.rate_of(*condition, worker);
        let cells = columns.iter().map(|column| column.cell(*condition, worker, rate));
        Row::new(cells).style(style_of(*condition))
    });
    let heads =
        columns.iter().map(|column| Cell::new(Text::from(column.name()).alignment(column.alignment())));
    let table = Table::new(rows, columns.iter().map(|column| column.width()))
        .header(Row::new(heads).style(Style::new().dim()))
        .block(heading(&title, focused));
    frame.render_widget(table, area);
    list
}

/// A line for each failed shard and each object that is no part; gives back where the list stands.
pub fn failures(frame: &mut Frame, area: Rect, status: &Status, top: usize, focused: bool) -> List {
    let lines = failure_lines(status);
    let room = usize::from(area.height.saturating_sub(1));
    let list = clamp(top, lines.len(), room);
    let mut title = range("failures", list, lines.len());
    let unnamed = unnamed_failures(status);
    if unnamed > 0 {
        title += &format!(", {} more not named", grouped(unnamed));
    }
    let shown: Vec<Line> = lines.into_iter().skip(list.top).take(room).collect();
    frame.render_widget(Paragraph::new(shown).block(heading(&title, focused)), area);
    list
}

/// What failed, the worst first.
pub fn failure_lines(status: &Status) -> Vec<Line<'static>> {
    let shards = status.failures.iter().map(|failure| {
        let (word, colour) = match failure.state {
            ShardState::Dead => ("dead", Color::Red),
            _ => ("retry", Color::Yellow),
        };
        Line::from(vec![
            ratatui::text::Span::styled(format!("{word:<6}"), colour),
            format!(
                "shard {} ({} attempts, {} lost leases): {}",
                failure.shard,
                failure.attempts,
                failure.lost_leases,
                one_line(&failure.message)
            )
            .into(),
        ])
    });
    let refused = status.refused_parts.iter().map(|part| {
        Line::from(vec![
            "refused ".yellow(),
            one_line(&format!("part {}: {}", part.name, part.reason)).into(),
        ])
    });
    shards.chain(refused).collect()
}

fn clamp(top: usize, rows: usize, room: usize) -> List {
    List { top: top.min(rows.saturating_sub(room)), room }
}

/// `workers 3 to 9 of 24`, or only their number where all are seen.
fn range(what: &str, list: List, rows: usize) -> String {
    if rows <= list.room {
        return format!("{what} {rows}");
    }
    format!("{what} {} to {} of {rows}", list.top + 1, (list.top + list.room).min(rows))
}

fn style_of(condition: Condition) -> Style {
    match condition {
        Condition::Banned => Style::new().fg(Color::Red),
        Condition::Silent => Style::new().fg(Color::Yellow),
        Condition::Working => Style::new(),
        Condition::Idle | Condition::Gone => Style::new().dim(),
    }
}

#[derive(Clone, Copy)]
enum Column {
    Worker,
    Device,
    Box,
    State,
    Rate,
    Busy,
    Seen,
    Shards,
    Items,
}

fn columns(width: u16) -> Vec<Column> {
    use Column::{Box, Busy, Device, Items, Rate, Seen, Shards, State, Worker};
    let all = [Worker, Device, Box, State, Rate, Busy, Seen, Shards, Items];
    let fits = |column: &Column| match column {
        Box => width >= WIDTH_WITH_BOX,
        Items => width >= WIDTH_WITH_ITEMS,
        _ => true,
    };
    all.into_iter().filter(fits).collect()
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Device => "device",
            Self::Box => "box",
            Self::State => "state",
            Self::Rate => "items/s",
            Self::Busy => "busy",
            Self::Seen => "seen",
            Self::Shards => "shards",
            Self::Items => "items",
        }
    }

    fn width(self) -> Constraint {
        match self {
            Self::Worker => Constraint::Fill(4),
            Self::Device | Self::Box => Constraint::Fill(3),
            Self::State | Self::Seen => Constraint::Length(7),
            Self::Rate => Constraint::Length(8),
            Self::Busy => Constraint::Length(5),
            Self::Shards => Constraint::Length(6),
            Self::Items => Constraint::Length(10),
        }
    }

    fn alignment(self) -> Alignment {
        match self {
            Self::Worker | Self::Device | Self::Box | Self::State => Alignment::Left,
            Self::Rate | Self::Busy | Self::Seen | Self::Shards | Self::Items => Alignment::Right,
        }
    }

    fn cell(self, condition: Condition, worker: &WorkerSnapshot, rate: Option<f64>) -> Cell<'static> {
        let text = match self {
            Self::Worker => worker.id.to_string(),
            Self::Device => short_device(&worker.info.device).to_owned(),
            Self::Box => worker.info.instance.clone(),
            Self::State => condition.name().to_owned(),
            Self::Rate => rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}")),
            Self::Busy => match worker.info.busy_percent.filter(|_| condition.is_heard()) {
                Some(busy) => format!("{busy} %"),
                None => "-".to_owned(),
            },
            Self::Seen => ago(worker.last_seen_seconds),
            Self::Shards => worker.leases.to_string(),
            Self::Items => grouped(worker.items_done),
        };
        Cell::new(Text::from(text).alignment(self.alignment()))
    }
}

/// A device without its maker: `RTX 4090 (8.9)`.
fn short_device(device: &str) -> &str {
    let device = device.strip_prefix("NVIDIA ").unwrap_or(device);
    device.strip_prefix("GeForce ").unwrap_or(device)
}

/// Seconds in their largest unit: `6 s`, `2 min`, `3 h`.
fn ago(seconds: f64) -> String {
    match seconds.max(0.0) as u64 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
