//! Items that kill the worker that touches them end as failed, with their reason, in the normal part of
//! their shard; all others have their rows; a machine that merely vanishes convicts nobody.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tests::npz::{self, Arrays};
use tests::program::Program;
use tests::redis::RedisServer;

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

fn run_with(poison: &str, vanishing: usize) -> Option<Ending> {
    let redis = RedisServer::start()?;
    let folder = TempDir::new().unwrap();
    write_items(folder.path(), poison);
    let vanish = folder.path().join("vanish");
    std::fs::write(&vanish, "again\n".repeat(vanishing)).unwrap();
    let places = |program: Program| {
        program
            .env("FLEET_STORE", folder.path().join("store"))
            .env("FLEET_QUEUE", redis.url())
            .env("RIGGED_VANISH", &vanish)
            .env("AWS_SECRET_ACCESS_KEY", "never for a child")
    };
    let coordinator = |command: &str| places(Program::coordinator(folder.path()).args([command]));
    let planned = coordinator("plan")
        .args(["--items", "items.jsonl", "--model", "hash:64", "--shard-size", "32", "--lease", "1s"])
        .output()
        .expect(0);
    let (mut deaths, mut logs) = (0, String::new());
    // A worker that died is started again, as on a rented box.
    loop {
        let log = folder.path().join("worker.log");
        let worker = places(Program::rigged_worker(folder.path()))
            .args(["--device", "cpu", "--isolate-memory", "300MiB", "--step-limit", "2s"])
            .args(["--claim-poll", "100ms"])
            .start(&log)
            .wait();
        logs += &std::fs::read_to_string(log).unwrap();
        if worker == 0 {
            break;
        }
        deaths += 1;
        assert!(deaths <= MOST_DEATHS, "{logs}");
    }
    let _ = coordinator("merge").args(["--out", "e.npz"]).output().expect(0);
    let run = planned.stdout().trim().to_owned();
    let _ = coordinator("verify").args(["e.npz", "--run", &run]).output().expect(0);
    let failed = std::fs::read_to_string(folder.path().join("store/runs").join(&run).join("failed.jsonl"));
    let failed = failed.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let arrays = npz::read(&folder.path().join("e.npz"));
    Some(Ending { arrays, failed, deaths, logs, folder })
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
    assert!(!ending.logs.contains("never for a child"));
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

#[test]
fn a_machine_that_vanishes_on_the_same_items_convicts_nobody() {
    let Some(ending) = run_with("vanish", MOST_DEATHS) else { return };
    assert_eq!(ending.failed, Vec::<Value>::new());
    assert_eq!(ending.deaths, MOST_DEATHS);
    assert!(ending.logs.contains("tried in child processes"), "{}", ending.logs);
    ending.arrays.assert_same_bits(&harmless(ending.folder.path()));
}
