//! Memory of `merge` and `verify` at 20 times the items ([`shared::laws::Law::MemoryIsBounded`]).
//!
//! `cargo test -p coordinator --test memory -- --ignored --nocapture measure` runs each step in a
//! process of its own and prints the peaks.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::path::Path;
use std::process::Command;

use coordinator::merge::{Destination, MergeRequest, merge};
use coordinator::verify::{Source, verify};
use shared::store::Store;
use support::{GOOD, Shape, Synthetic};

const FOLDER: &str = "EMBED_FLEET_TEST_FOLDER";
const ITEMS: &str = "EMBED_FLEET_TEST_ITEMS";

fn synthetic() -> Option<(Synthetic, std::path::PathBuf)> {
    let folder = std::path::PathBuf::from(std::env::var(FOLDER).ok()?);
    let shape = Shape { items: std::env::var(ITEMS).ok()?.parse().unwrap(), shard_size: 512, dim: 64 };
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    Some((Synthetic::new(store, shape), folder))
}

/// The peak of this process's resident memory, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a step of `measure`"]
async fn step_parts() {
    if let Some((synthetic, _)) = synthetic() {
        synthetic.put_all(GOOD).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a step of `measure`"]
async fn step_merge() {
    if let Some((synthetic, folder)) = synthetic() {
        let request = MergeRequest::to(Destination::File(folder.join("F.npz")));
        let report = merge(synthetic.run(), &request, &|_| {}).await.unwrap();
        println!("\npeak {} seconds {:.2}", peak(), report.seconds);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a step of `measure`"]
async fn step_verify() {
    if let Some((_, folder)) = synthetic() {
        let report = verify(Source::File(folder.join("F.npz")), None, |_, _| {}).await.unwrap();
        assert!(report.is_right(), "{report}");
        println!("\npeak {} seconds {:.2}", peak(), report.seconds);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a step of `measure`"]
async fn step_verify_with_run() {
    if let Some((synthetic, folder)) = synthetic() {
        let report =
            verify(Source::File(folder.join("F.npz")), Some(synthetic.run()), |_, _| {}).await.unwrap();
        assert!(report.is_right(), "{report}");
        println!("\npeak {} seconds {:.2}", peak(), report.seconds);
    }
}

/// Runs one step in a process of its own. Returns its peak.
fn step(name: &str, folder: &Path, items: u64) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(FOLDER, folder)
        .env(ITEMS, items.to_string())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let Some(line) = printed.lines().find(|line| line.starts_with("peak ")) else {
        return 0;
    };
    println!("{name} {items} items: {line}");
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "minutes, and a GiB of disk"]
fn measure() {
    if !Path::new("/proc/self/status").exists() {
        println!("skipped: no /proc here");
        return;
    }
    let (few, many) = (20_000, 400_000);
    let folders = [few, many].map(|items| {
        let folder = tempfile::tempdir().unwrap();
        step("step_parts", folder.path(), items);
        (items, folder)
    });
    for name in ["step_merge", "step_verify", "step_verify_with_run"] {
        let [low, high] = folders.each_ref().map(|(items, folder)| step(name, folder.path(), *items));
        let each = high.saturating_sub(low) as f64 / (many - few) as f64;
        println!("{name}: {each:.1} bytes for each added item");
        assert!(each <= 64.0, "{name}: {each}");
    }
}
