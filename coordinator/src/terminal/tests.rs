//! Screens as text, held against `snapshots/`.

use std::sync::Arc;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use shared::ids::{ShardId, WorkerId};
use shared::queue::{RunState, ShardFailure, ShardState, WorkerSnapshot};

use super::draw::draw;
use super::screen::{Focus, Place, Screen, Scroll};
use crate::status::{Source, Status, sample};
use crate::watch::sample::watched;

fn screen(status: Status) -> Screen {
    Screen::new(Arc::new(watched(status)), true)
}

/// What a terminal of this size shows, without the blanks at the ends of lines, and where the lists stand.
fn shown(screen: &Screen, width: u16, height: u16) -> (String, Place) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut place = Place::default();
    terminal.draw(|frame| place = draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |row: u16| {
        let cells: String = (0..width).map(|column| buffer[(column, row)].symbol()).collect();
        cells.trim_end().to_owned() + "\n"
    };
    ((0..height).map(line).collect(), place)
}

#[track_caller]
fn assert_shows(screen: &Screen, (width, height): (u16, u16), expected: &str) {
    let (text, _) = shown(screen, width, height);
    assert!(text == expected, "this is shown:\n{text}\nand this was expected:\n{expected}");
}

#[test]
fn a_run_on_80_by_24() {
    assert_shows(&screen(sample::status()), (80, 24), include_str!("snapshots/80x24.txt"));
}

#[test]
fn a_run_on_a_wide_terminal() {
    assert_shows(&screen(sample::status()), (132, 30), include_str!("snapshots/132x30.txt"));
}

#[test]
fn a_run_whose_queue_is_away() {
    let mut status = Status {
        source: Source::Store,
        state: None,
        items_per_second: None,
        eta_seconds: None,
        items_in_flight: 0,
        workers: Vec::new(),
        leases: Vec::new(),
        failures: Vec::new(),
        cost: None,
        ..sample::status()
    };
    status.notes.push(
        "the queue does not answer (queue redis://127.0.0.1:1/0: snapshot: connection refused); this is what the \
         store says"
            .to_owned(),
    );
    let screen = Screen { can_order: false, ..screen(status) };
    assert_shows(&screen, (80, 24), include_str!("snapshots/away.txt"));
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    let mut screen = screen(sample::status());
    screen.message = Some("paused".to_owned());
    for width in [1, 2, 7, 20, 79, 200] {
        for height in [1, 2, 3, 5, 9, 14, 60] {
            let _ = shown(&screen, width, height);
        }
    }
    let (text, _) = shown(&screen, 60, 12);
    assert!(text.contains("62.0 %") && text.contains("workers"), "{text}");
}

#[test]
fn the_lists_scroll_and_stop_at_their_ends() {
    let mut status = sample::status();
    let one = status.workers[0].clone();
    status.workers =
        (0..40).map(|n| WorkerSnapshot { id: WorkerId(format!("worker-{n:02}")), ..one.clone() }).collect();
    status.failures = (0..9)
        .map(|n| ShardFailure {
            shard: ShardId(n),
            state: ShardState::Dead,
            attempts: 4,
            lost_leases: 0,
            message: "broken".to_owned(),
        })
        .collect();
    let mut screen = screen(status);
    let (text, _) = shown(&screen, 80, 24);
    assert!(text.contains("workers 1 to 4 of 40") && text.contains("worker-03"), "{text}");
    screen.scroll(Scroll::Last);
    let (text, place) = shown(&screen, 80, 24);
    assert!(text.contains("workers 37 to 40 of 40") && text.contains("worker-39"), "{text}");
    assert_eq!(place.workers.top, 36);
    screen.place = place;
    screen.scroll(Scroll::Rows(-1));
    assert!(shown(&screen, 80, 24).0.contains("workers 36 to 39 of 40"));
    screen.scroll(Scroll::Pages(-1));
    assert!(shown(&screen, 80, 24).0.contains("workers 32 to 35 of 40"));
    screen.scroll(Scroll::First);
    screen.scroll(Scroll::Rows(-1));
    assert!(shown(&screen, 80, 24).0.contains("workers 1 to 4 of 40"));
    assert!(shown(&screen, 80, 24).0.contains("failures 1 to 5 of 9 "));
    screen.focus = Focus::Failures;
    screen.scroll(Scroll::Rows(2));
    assert!(shown(&screen, 80, 24).0.contains("failures 3 to 7 of 9"));
}

#[test]
fn failures_that_the_queue_does_not_name_are_counted() {
    let mut status = sample::status();
    status.shards.dead = 1_501;
    let (text, _) = shown(&screen(status), 80, 24);
    assert!(text.contains("failures 2, 1,500 more not named"), "{text}");
}

#[test]
fn control_characters_of_a_strangers_worker_do_nothing() {
    let mut status = sample::status();
    status.workers[0].info.device = "GPU\u{1b}[2J\u{7}".to_owned();
    status.failures[0].message = "bad\u{1b}]0;title\u{7}\r\nnews".to_owned();
    let (text, _) = shown(&screen(status), 120, 30);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn a_paused_run_says_so_and_the_answer_to_a_key_is_shown() {
    let mut screen = screen(Status { state: Some(RunState::Paused), ..sample::status() });
    screen.message = Some("paused: workers finish what they hold and claim nothing".to_owned());
    let (text, _) = shown(&screen, 80, 24);
    assert!(text.lines().next().unwrap().contains("paused"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("paused: workers finish"), "{text}");
}
