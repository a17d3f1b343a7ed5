//! Memory of `plan`, `merge` and `verify` at 20 times the items
//! ([`shared::laws::Law::MemoryIsBounded`]): each step in a process of its own, which prints its peak.
//!
//! `cargo test -p coordinator --test memory -- --nocapture` shows the figures.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::path::Path;
use std::process::Command;

use coordinator::check::Input;
use coordinator::merge::{Destination, MergeRequest, merge};
use coordinator::plan::{Balance, PlanRequest, plan};
use coordinator::verify::{Source, verify};
use shared::items::FieldMapping;
use shared::model::ModelRecord;
use shared::plan::{Dtype, FleetSettings};
use shared::settings::EmbeddingChoices;
use shared::store::Store;
use support::uploads::Uploads;
use support::{GOOD, Shape, Synthetic};
use tokio_util::sync::CancellationToken;

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

/// One item in ten names an image of its own.
const IMAGE_EVERY: u64 = 10;

fn image_path(item: u64) -> String {
    format!("2017{:02}{:02}/q{item}.png", item / 5000 % 12 + 1, item % 28 + 1)
}

#[test]
#[ignore = "a step of `measure`"]
fn step_input() {
    use std::io::Write as _;
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let items: u64 = std::env::var(ITEMS).unwrap().parse().unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join("items.jsonl")).unwrap());
    for item in 0..items {
        let path = image_path(item);
        let images = if item % IMAGE_EVERY == 0 { format!("[\"{path}\"]") } else { "[]".to_owned() };
        if item % IMAGE_EVERY == 0 {
            let path = folder.join("images").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, item.to_string()).unwrap();
        }
        writeln!(file, "{{\"id\": {item}, \"text\": \"문항 {item}\", \"images\": {images}}}").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a step of `measure`"]
async fn step_plan() {
    plan_input(Balance::Count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a step of `measure`"]
async fn step_plan_by_cost() {
    plan_input(Balance::Cost).await;
}

async fn plan_input(balance: Balance) {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let mapping = FieldMapping::default();
    let request = PlanRequest {
        input: Input::new(vec![folder.join("items.jsonl")], mapping, vec![folder.join("images")]),
        run: None,
        model: ModelRecord::hash(64),
        embedding: EmbeddingChoices::default().resolve(Dtype::F32, 64).unwrap(),
        fleet: FleetSettings { shard_size: 512, lease_seconds: 60.0 },
        balance,
    };
    let started = std::time::Instant::now();
    // Either cut has a store of its own.
    let store = Store::open_or_create(folder.join(format!("{balance:?}")).to_str().unwrap()).unwrap();
    let planned = plan(&store, request, |_| {}).await.unwrap();
    assert_eq!(planned.plan.counts.items.to_string(), std::env::var(ITEMS).unwrap());
    assert_eq!(planned.plan.counts.images_found, planned.plan.counts.items.div_ceil(IMAGE_EVERY));
    println!("\npeak {} seconds {:.2}", peak(), started.elapsed().as_secs_f64());
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
        let report = merge(synthetic.run(), &request, &CancellationToken::new(), &|_| {}).await.unwrap();
        println!("\npeak {} seconds {:.2}", peak(), report.seconds);
    }
}

/// Into many objects: those that are done wait for the last one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a step of `measure`"]
async fn step_merge_to_store() {
    if let Some((synthetic, _)) = synthetic() {
        let store = Store::open("s3://bucket").unwrap();
        let object = Destination::Object { store, key: "F.npz".to_owned() };
        let request = MergeRequest { rows_per_file: Some(10_000), ..MergeRequest::to(object) };
        let report = merge(synthetic.run(), &request, &CancellationToken::new(), &|_| {}).await.unwrap();
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

/// Runs one step in a process of its own, beside a store that takes uploads. Returns its peak.
fn step(name: &str, folder: &Path, items: u64, uploads: &Uploads) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(FOLDER, folder)
        .env(ITEMS, items.to_string())
        .envs(uploads.environment())
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
fn twenty_times_the_items_take_64_bytes_each() {
    if !Path::new("/proc/self/status").exists() {
        println!("skipped: no /proc here");
        return;
    }
    let (few, many) = (20_000, 400_000);
    let uploads = Uploads::start();
    let prepared = |prepare: &str| {
        [few, many].map(|items| {
            let folder = tempfile::tempdir().unwrap();
            step(prepare, folder.path(), items, &uploads);
            (items, folder)
        })
    };
    let (input, parts) = (prepared("step_input"), prepared("step_parts"));
    let paths: u64 =
        (few..many).filter(|item| item % IMAGE_EVERY == 0).map(|item| image_path(item).len() as u64).sum();
    for (name, folders, paths) in [
        ("step_plan", &input, paths),
        ("step_plan_by_cost", &input, paths),
        ("step_merge", &parts, 0),
        ("step_merge_to_store", &parts, 0),
        ("step_verify", &parts, 0),
        ("step_verify_with_run", &parts, 0),
    ] {
        let [low, high] =
            folders.each_ref().map(|(items, folder)| step(name, folder.path(), *items, &uploads));
        let grown = high.saturating_sub(low).saturating_sub(paths);
        let each = grown as f64 / (many - few) as f64;
        println!("{name}: {each:.1} bytes for each added item beside {paths} bytes of paths");
        assert!(each <= 64.0, "{name}: {each}");
    }
    // All volumes came, and none was left half.
    let volumes = (few.div_ceil(10_000) + many.div_ceil(10_000)) as usize;
    uploads.seen(|seen| assert!(seen.completed == volumes && seen.open.is_empty(), "{seen:?}"));
}
