//! Items that kill the worker that touches them end as failed, with their reason, in the normal part of
//! their shard; all others have their rows; a machine that merely vanishes convicts nobody.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests::npz::{self, Arrays};
use tests::program::{Program, Running};
use tests::redis::RedisServer;
use tests::wait::until;

/// Items of a run, in two shards.
const ITEMS: usize = 64;

/// The item with the poison.
const POISONED: usize = 41;

/// Workers that may die before the poison is known: one before the queue knows what it works on, two in
/// the same range.
const MOST_DEATHS: usize = 3;

/// Writes items of which one has this in its text, and more that come after it.
fn write_items(folder: &Path, poison: &str) {
    let text = |number: usize| match number {
        POISONED => format!("an item with POISON {poison} in it"),
        _ => format!("item {number}, as harmless as the others"),
    };
    let lines: Vec<String> = (0..ITEMS)
        .map(|number| serde_json::json!({"id": number, "text": text(number)}).to_string())
        .collect();
    std::fs::write(folder.join("items.jsonl"), lines.join("\n")).unwrap();
}

/// What a run with this poison came to.
struct Ending {
    arrays: Arrays,
    /// Lines of `failed.jsonl`.
    failed: Vec<Value>,
    deaths: usize,
    logs: String,
    folder: TempDir,
}

/// A planned run whose workers may die.
struct Scene<'a> {
    redis: &'a RedisServer,
    folder: TempDir,
    run: String,
}

impl<'a> Scene<'a> {
    fn plan(redis: &'a RedisServer, poison: &str, vanishing: usize) -> Self {
        let folder = TempDir::new().unwrap();
        write_items(folder.path(), poison);
        std::fs::write(folder.path().join("vanish"), "again\n".repeat(vanishing)).unwrap();
        let mut scene = Self { redis, folder, run: String::new() };
        let planned = scene
            .coordinator("plan")
            .args(["--items", "items.jsonl", "--model", "hash:64", "--shard-size", "32", "--lease", "1s"])
            .output()
            .expect(0);
        planned.stdout().trim().clone_into(&mut scene.run);
        scene
    }

    fn with_places(&self, program: Program) -> Program {
        program
            .env("FLEET_STORE", self.folder.path().join("store"))
            .env("FLEET_QUEUE", self.redis.url())
            .env("RIGGED_VANISH", self.folder.path().join("vanish"))
            .env("AWS_SECRET_ACCESS_KEY", "never for a child")
    }

    fn coordinator(&self, command: &str) -> Program {
        self.with_places(Program::coordinator(self.folder.path()).args([command]))
    }

    fn worker(&self, step_limit: &str) -> Running {
        self.with_places(Program::rigged_worker(self.folder.path()))
            .args(["--device", "cpu", "--isolate-memory", "300MiB", "--step-limit", step_limit])
            .args(["--claim-poll", "100ms"])
            .start(&self.folder.path().join("worker.log"))
    }

    /// What the latest worker said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("worker.log")).unwrap()
    }

    /// The batch with the poison is in flight, as the queue knows it.
    fn poison_is_in_flight(&self) -> Option<()> {
        let shard = format!("fleet:{{{}}}:shard:000001", self.run);
        let field = |name: &str| self.redis.cli(&["HGET", &shard, name]).parse::<usize>().ok();
        let (first, end) = (field("in_flight_first")?, field("in_flight_end")?);
        let position = POISONED - ITEMS / 2;
        (end - first < ITEMS / 2 && (first..end).contains(&position)).then_some(())
    }
}

fn run_with(poison: &str, vanishing: usize) -> Option<Ending> {
    let redis = RedisServer::start()?;
    let scene = Scene::plan(&redis, poison, vanishing);
    let (mut deaths, mut logs) = (0, String::new());
    // A worker that died is started again, as on a rented box.
    loop {
        let worker = scene.worker("2s").wait();
        logs += &scene.log();
        if worker == 0 {
            break;
        }
        deaths += 1;
        assert!(deaths <= MOST_DEATHS, "{logs}");
    }
    let _ = scene.coordinator("merge").args(["--out", "e.npz"]).output().expect(0);
    let _ = scene.coordinator("verify").args(["e.npz", "--run", &scene.run]).output().expect(0);
    let store = scene.folder.path().join("store/runs").join(&scene.run);
    let failed = std::fs::read_to_string(store.join("failed.jsonl"));
    let failed = failed.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let arrays = npz::read(&scene.folder.path().join("e.npz"));
    Some(Ending { arrays, failed, deaths, logs, folder: scene.folder })
}

/// The vectors of the same items by a worker that nothing kills.
fn harmless(folder: &Path) -> Arrays {
    let _ = Program::coordinator(folder)
        .args(["run", "--items", "items.jsonl", "--model", "hash:64", "--out", "harmless.npz"])
        .args(["--store", "harmless-store", "--device", "cpu"])
        .output()
        .expect(0);
    npz::read(&folder.join("harmless.npz"))
}

fn without(arrays: Arrays, row: usize) -> Arrays {
    let mut arrays = arrays;
    arrays.ids.remove(row);
    arrays.image_counts.remove(row);
    arrays.embeddings.drain(row * arrays.dim..(row + 1) * arrays.dim);
    arrays
}

fn is_left_out(poison: &str, kind: &str, reason: &str) {
    let Some(ending) = run_with(poison, 0) else { return };
    assert_eq!(ending.failed.len(), 1, "{:?}", ending.failed);
    let failed = &ending.failed[0];
    assert_eq!(failed["id"], POISONED.to_string());
    assert_eq!(failed["kind"], kind);
    assert!(failed["reason"].as_str().unwrap().contains(reason), "{failed}");
    assert!(ending.deaths >= 2, "two workers died before anybody was suspected");
    let all = harmless(ending.folder.path());
    ending.arrays.assert_same_bits(&without(all, POISONED));
    assert!(!ending.logs.contains("a child got"), "{}", ending.logs);
}

#[test]
fn an_item_that_aborts_its_worker_is_left_out() {
    is_left_out("abort", "crash", "signal 6");
}

#[test]
fn an_item_that_aborts_while_it_is_prepared_is_left_out() {
    is_left_out("decode", "crash", "signal 6");
}

#[test]
fn an_item_that_takes_all_memory_is_left_out() {
    is_left_out("memory", "host_memory", "MiB");
}

#[test]
fn an_item_that_hangs_is_left_out() {
    is_left_out("hang", "hang", "not through in time");
}

/// A child hangs when the worker is told to stop.
#[test]
fn a_search_ends_when_its_worker_is_told_to_stop() {
    let Some(redis) = RedisServer::start() else { return };
    let scene = Scene::plan(&redis, "hang", 0);
    let shard = format!("fleet:{{{}}}:shard:000001", scene.run);
    let mut killed = String::new();
    // Both die while the queue knows their batch: that is enough for a suspicion.
    for _ in 0..2 {
        let mut worker = scene.worker("1h");
        until("the batch with the poison", || {
            let holder = scene.redis.cli(&["HGET", &shard, "worker"]);
            (holder != killed).then(|| scene.poison_is_in_flight())?
        });
        worker.kill();
        killed = scene.redis.cli(&["HGET", &shard, "worker"]);
    }
    let mut searching = scene.worker("1h");
    until("a search", || scene.log().contains("tried in child processes").then_some(()));
    searching.signal("TERM");
    assert_eq!(searching.wait_for(Duration::from_secs(20)), Some(143), "{}", scene.log());
    let status = scene.coordinator("status").args(["--json"]).output().expect(0).stdout();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["shards"]["leased"], 0, "{status}");
}

#[test]
fn a_machine_that_vanishes_on_the_same_items_convicts_nobody() {
    let Some(ending) = run_with("vanish", MOST_DEATHS) else { return };
    assert_eq!(ending.failed, Vec::<Value>::new());
    assert_eq!(ending.deaths, MOST_DEATHS);
    assert!(ending.logs.contains("tried in child processes"), "{}", ending.logs);
    ending.arrays.assert_same_bits(&harmless(ending.folder.path()));
}
