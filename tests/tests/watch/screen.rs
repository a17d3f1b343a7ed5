//! `status --watch` on a terminal: drawn, told by keys, resized, and left as it was found.

use tests::terminal::Terminal;
use tests::watched::{Plan, Scene};

const SMALL: Plan = Plan { items: 320, shard_size: 8, lease: "2s" };

fn start(scene: &Scene) -> Option<Terminal> {
    Terminal::start(scene.coordinator("status").args(["--watch"]), 24, 80)
}

#[track_caller]
fn assert_given_back(terminal: &Terminal) {
    tests::wait::until("the terminal to be given back", || {
        (!terminal.is_on_second_screen() && terminal.is_cooked() && terminal.shows_cursor()).then_some(())
    });
}

#[test]
fn a_run_is_watched_paused_resumed_and_left() {
    let Some(scene) = Scene::plan(SMALL) else { return };
    let Some(mut terminal) = start(&scene) else { return };
    terminal.wait_for("0.0 %");
    assert!(terminal.is_on_second_screen() && !terminal.is_cooked());
    let _workers = [scene.worker("first", 100), scene.worker("second", 100)];
    terminal.wait_for("workers 2");
    terminal.wait_for("working");
    terminal.press("p");
    terminal.wait_for("paused: workers finish");
    assert_eq!(scene.status()["state"], "paused");
    terminal.resize(40, 132);
    terminal.wait_for("box");
    terminal.press("r");
    terminal.wait_for("workers claim again");
    assert_eq!(scene.status()["state"], "running");
    terminal.press("q");
    assert_eq!(terminal.program().wait(), 0);
    assert_given_back(&terminal);
    // What was seen last stays.
    terminal.wait_for("of 320 (");
}

#[test]
fn a_finished_run_ends_the_watching() {
    let Some(scene) = Scene::plan(Plan { items: 64, ..SMALL }) else { return };
    let Some(mut terminal) = start(&scene) else { return };
    terminal.wait_for("0.0 %");
    let _worker = scene.worker("only", 20);
    assert_eq!(terminal.program().wait(), 0);
    assert_given_back(&terminal);
    terminal.wait_for("64 of 64 (100.0 %)");
}

#[test]
fn every_signal_gives_the_terminal_back() {
    let Some(scene) = Scene::plan(SMALL) else { return };
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 0), ("QUIT", 0)] {
        let Some(mut terminal) = start(&scene) else { return };
        terminal.wait_for("0.0 %");
        terminal.program().signal(signal);
        assert_eq!(terminal.program().wait(), code, "{signal}");
        assert_given_back(&terminal);
    }
    let Some(mut terminal) = start(&scene) else { return };
    terminal.wait_for("0.0 %");
    terminal.press("\u{3}");
    assert_eq!(terminal.program().wait(), 130, "Ctrl-C");
    assert_given_back(&terminal);
}

#[test]
fn without_a_terminal_it_is_plain_text() {
    let Some(scene) = Scene::plan(Plan { items: 32, ..SMALL }) else { return };
    let _worker = scene.worker("only", 20);
    let watched = scene.coordinator("status").args(["--watch"]).output().expect(0).stdout();
    assert!(watched.contains("32 of 32 (100.0 %)") && !watched.contains('\u{1b}'), "{watched}");
    let lines = scene.coordinator("status").args(["--watch", "--json"]).output().expect(0).stdout();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["items_done"], 32);
}
