//! Where things lie in a store.
//!
//! ```text
//! runs/<run>/plan.json                     runs/<run>/shards.jsonl
//! runs/<run>/inputs/<shard>-<sha16>.tar    runs/<run>/parts/<shard>-<sha16>.npz
//! runs/<run>/failed.jsonl                  models/<digest16>/<file>
//! runs/<run>/access/<sha16>.json         runs/<run>/fleet/<number>.json
//! workers/<sha256>.gz
//! ```

use crate::ids::{ContentName, RunId, Sha16};

/// The folder that holds all runs.
pub const RUNS: &str = "runs";

/// `plan.json`, written last and once.
pub fn plan_key(run: &RunId) -> String {
    format!("{RUNS}/{run}/plan.json")
}

/// `shards.jsonl`, a line a shard.
pub fn shards_key(run: &RunId) -> String {
    format!("{RUNS}/{run}/shards.jsonl")
}

/// The folder of bundles.
pub fn bundles_folder(run: &RunId) -> String {
    format!("{RUNS}/{run}/inputs")
}

/// A bundle.
pub fn bundle_key(run: &RunId, name: &ContentName) -> String {
    format!("{}/{}", bundles_folder(run), name.bundle())
}

/// The folder of parts.
pub fn parts_folder(run: &RunId) -> String {
    format!("{RUNS}/{run}/parts")
}

/// A part.
pub fn part_key(run: &RunId, name: &ContentName) -> String {
    format!("{}/{}", parts_folder(run), name.part())
}

/// The folder of signed rights in a run's folder.
pub const ACCESS: &str = "access";

/// A document of signed rights.
pub fn access_key(run: &RunId, name: &Sha16) -> String {
    format!("{RUNS}/{run}/{ACCESS}/{name}.json")
}

/// The folder of what happened to a run's rented boxes.
pub fn fleet_folder(run: &RunId) -> String {
    format!("{RUNS}/{run}/fleet")
}

/// One entry of it, numbered from 0 without gaps.
pub fn fleet_entry_key(run: &RunId, number: u64) -> String {
    format!("{}/{number:08}.json", fleet_folder(run))
}

/// Where a launcher tries out whether the store writes over what is there.
pub fn fleet_probe_key(run: &RunId, probe: &str) -> String {
    format!("{RUNS}/{run}/fleet-probe/{probe}")
}

/// A worker program for rented boxes, gzipped, by the SHA-256 of what is packed.
pub fn worker_key(sha256: &str) -> String {
    format!("workers/{sha256}.gz")
}

/// `failed.jsonl`, the one object that is replaced.
pub fn failed_key(run: &RunId) -> String {
    format!("{RUNS}/{run}/failed.jsonl")
}

/// The folder of a stored model, by the full digest of its files.
pub fn model_folder(digest: &str) -> String {
    format!("models/{}", digest.get(..16).unwrap_or(digest))
}
