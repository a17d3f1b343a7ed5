//! `coordinator status` as a person runs it, timed: the process, the store, the queue, the text.

use std::time::Instant;

use tempfile::TempDir;

use super::case::RUN;
use super::samples::Samples;
use crate::program::Program;
use crate::redis::RedisServer;

/// How often the command runs.
const TIMES: usize = 20;

/// Times the command on the run of all cases. Its plan in a store is of one item: the command reads the plan alone,
/// whose size does not follow from the run's.
///
/// # Panics
/// When the coordinator is not built, or a command fails.
pub fn time(server: &RedisServer) -> Samples {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("items.jsonl"), "{\"id\": 1, \"text\": \"one\"}").unwrap();
    let plan = ["plan", "--items", "items.jsonl", "--model", "hash:64", "--store", "store", "--run", RUN];
    let _ = Program::coordinator(folder.path()).args(plan).output().expect(0);
    let mut samples = Samples::default();
    for _ in 0..TIMES {
        let status = Program::coordinator(folder.path()).args(["status", "--store", "store"]);
        let status = status.env("FLEET_QUEUE", server.url());
        let started = Instant::now();
        let said = status.output().expect(0);
        samples.note(started.elapsed());
        assert!(said.stdout().contains("rate "), "not from the queue: {}", said.stdout());
    }
    samples
}
