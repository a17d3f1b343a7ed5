//! The screen drawn: a pure function of its state.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::screen::{Focus, List, Place, Screen};
use super::{fleet, numbers};

/// Rows that workers get before anything else does: a heading, the names of the columns, and three of them.
const FEWEST_WORKER_ROWS: u16 = 5;

/// Rows of the rate over time: a heading and three.
const RATE_ROWS: u16 = 4;

/// The most failures shown at once.
const MOST_FAILURES: u16 = 5;

/// Draws everything, and says where the lists stand: a scroll past an end ends there.
pub fn draw(frame: &mut Frame, screen: &Screen) -> Place {
    let watched = &screen.watched;
    let figures = numbers::figures(&watched.status);
    let notes = notes(screen, frame.area().width);
    let failures = fleet::failure_lines(&watched.status).len().min(usize::from(MOST_FAILURES)) as u16;
    let fixed = 4 + figures.len() as u16 + notes.height;
    let mut free = frame.area().height.saturating_sub(fixed + FEWEST_WORKER_ROWS);
    let mut take = |rows: u16, fewest: u16| {
        let taken = if free >= fewest { rows.min(free) } else { 0 };
        free -= taken;
        taken
    };
    let failure_rows = if failures > 0 { take(failures + 1, 2) } else { 0 };
    let rate_rows = take(RATE_ROWS, 3);
    let [title, bar, _gap, numbers_area, note_area, rates, workers, failure_area, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(figures.len() as u16),
        Constraint::Length(notes.height),
        Constraint::Length(rate_rows),
        Constraint::Min(0),
        Constraint::Length(failure_rows),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    numbers::title(frame, title, watched);
    numbers::bar(frame, bar, &watched.status);
    frame.render_widget(Paragraph::new(figures), numbers_area);
    frame.render_widget(notes.paragraph, note_area);
    if rate_rows > 0 {
        numbers::rates(frame, rates, &watched.rates);
    }
    let focused = |focus| screen.focus == focus;
    let place = screen.place;
    let workers = fleet::workers(frame, workers, watched, place.workers.top, focused(Focus::Workers));
    let failures = if failure_rows > 0 {
        let (top, focused) = (place.failures.top, focused(Focus::Failures));
        fleet::failures(frame, failure_area, &watched.status, top, focused)
    } else {
        List::default()
    };
    last_line(frame, keys, screen);
    Place { workers, failures }
}

/// The line above a part of the screen; that of the list in focus is bright.
pub fn heading(title: &str, focused: bool) -> Block<'static> {
    let style = if focused { Style::new().fg(Color::Cyan) } else { Style::new() };
    Block::new()
        .borders(Borders::TOP)
        .border_style(Style::new().fg(Color::DarkGray))
        .title(Span::styled(format!("{title} "), style))
}

/// Columns that a text takes.
pub fn width_of(text: &str) -> u16 {
    Span::from(text).width() as u16
}

struct Notes {
    paragraph: Paragraph<'static>,
    height: u16,
}

/// What the person should know, wrapped, in four lines at most.
fn notes(screen: &Screen, width: u16) -> Notes {
    let watched = &screen.watched;
    let trouble = watched
        .trouble
        .as_ref()
        .map(|trouble| format!("this is how it stood at {}: {trouble}", watched.at.strftime("%H:%M:%SZ")));
    let lines: Vec<Line> = trouble
        .into_iter()
        .chain(watched.status.notes.iter().cloned())
        .map(|note| Line::from(note.yellow()))
        .collect();
    let rows: usize = lines.iter().map(|line| line.width().div_ceil(usize::from(width.max(1))).max(1)).sum();
    let paragraph = Paragraph::new(Text::from(lines)).wrap(Wrap { trim: true });
    Notes { paragraph, height: rows.min(4) as u16 }
}

fn last_line(frame: &mut Frame, area: Rect, screen: &Screen) {
    let keys = if screen.can_order {
        "q quit  p pause  r resume  \u{2191}\u{2193} scroll  Tab workers or failures"
    } else {
        "q quit  \u{2191}\u{2193} scroll  Tab workers or failures"
    };
    let line = match &screen.message {
        Some(message) => Line::from(vec![message.clone().yellow(), format!("  {keys}").dim()]),
        None => Line::from(keys.dim()),
    };
    frame.render_widget(Paragraph::new(line), area);
}
