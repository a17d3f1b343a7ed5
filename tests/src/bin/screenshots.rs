//! Pictures of the dashboard for the documentation: `infra/screenshots [FOLDER]`.
//!
//! A fleet of this machine works on a run of 345 shards, of which one has a damaged bundle; one worker is killed; then
//! the page is looked at on a desk and on a phone, in the light and in the dark.

// A test program: an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use tests::browser::{Browser, Look};
use tests::program::{Program, Running, path_of};
use tests::wait::until;
use tests::watched::{Plan, Scene};

const DESKTOP: Look = Look { width: 1280, height: 1024, scale: 1.0, dark: false, phone: false };
const PHONE: Look = Look { width: 375, height: 812, scale: 2.0, dark: false, phone: true };

/// What is rehearsed: about two minutes of work for four workers.
const RUN: Plan = Plan { items: 345 * 16, shard_size: 16, lease: "20s" };

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("infra/docs"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let Some(mut browser) = Browser::start() else { return ExitCode::FAILURE };
    let Some(scene) = Scene::plan(RUN) else { return ExitCode::FAILURE };
    damage(&bundle(&scene.run_folder().join("inputs"), "000031"));
    let _launcher = launch(&scene);
    until("four workers", || (scene.status()["workers"].as_array().unwrap().len() == 4).then_some(()));
    let dashboard = scene.dashboard(Some("a token for the pictures"));
    let mut page = browser.open(&dashboard.url(), DESKTOP);
    page.wait_for("a fifth", "Number(document.getElementById('percent').innerText) > 20");
    kill_a_worker(&scene);
    page.wait_for("most of it", "Number(document.getElementById('percent').innerText) > 60");
    for (name, look) in [("desktop", DESKTOP), ("phone", PHONE)] {
        for (theme, dark) in [("light", false), ("dark", true)] {
            page.look(Look { dark, ..look });
            // The chart is drawn anew for the new size.
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))");
            let path = folder.join(format!("dashboard-{name}-{theme}.png"));
            page.screenshot(&path);
            println!("{}", path.display());
        }
    }
    assert_eq!(browser.complaints(), [""; 0]);
    let _ = scene.coordinator("drain").output().expect(0);
    ExitCode::SUCCESS
}

fn bundle(bundles: &Path, shard: &str) -> PathBuf {
    let mut entries = std::fs::read_dir(bundles).unwrap().flatten();
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with(shard)).unwrap().path()
}

/// Turns one bit over.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A launcher that is told to end on drop, and waited for: it ends its boxes first, which nobody else does.
struct Launcher(Running);

impl Drop for Launcher {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.signal("INT");
            if self.0.wait_for(Duration::from_secs(60)).is_none() {
                eprintln!("the launcher does not end; its workers may be left behind");
            }
        }
    }
}

/// A launcher with four boxes of this machine.
fn launch(scene: &Scene) -> Launcher {
    let boxes = scene.folder().join("boxes");
    let program: Program = scene
        .coordinator("launch")
        .args(["--provider", "local", "--workers", "4", "--yes", "--tick", "1s", "--start-within", "0s"])
        .args(["--local-price", "0.34", "--budget", "6", "--worker-args", "--claim-poll 200ms"])
        .flag("--worker-binary", path_of("rigged-worker"))
        .flag("--local-folder", boxes)
        .env("RIGGED_CHECK", "0")
        .env("RIGGED_BATCH_MS", "320")
        .env("HOME", scene.folder())
        .env("PATH", "/usr/bin:/bin");
    Launcher(program.start(&scene.folder().join("launch.log")))
}

/// Kills the first worker with -9. Its id holds that of its process.
fn kill_a_worker(scene: &Scene) {
    let status = scene.status();
    let worker = status["workers"][0]["id"].as_str().unwrap();
    let process = worker.rsplit('-').nth(1).unwrap();
    assert!(Command::new("kill").args(["-9", process]).status().unwrap().success());
}
