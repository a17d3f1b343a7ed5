//! `merge` to a store that ends before its time, by a signal or by the store: no upload stays, which the store would
//! keep and bill, and the exit code tells why.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shared::store::Store;
use support::uploads::Uploads;
use support::{GOOD, Shape, Synthetic};

/// Rows of 16 KB: a merge of some seconds, sent in several parts.
const SHAPE: Shape = Shape { items: 4000, shard_size: 100, dim: 4096 };

/// A whole run in a folder.
async fn run_in(folder: &Path, shape: Shape) {
    let synthetic = Synthetic::new(Store::open(folder.to_str().unwrap()).unwrap(), shape);
    synthetic.put_all(GOOD).await;
    synthetic.put_plan().await;
}

fn merge(folder: &Path, uploads: &Uploads) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    command.args(["merge", "--out", "s3://bucket/F.npz", "--store"]).arg(folder);
    command.current_dir(folder).envs(uploads.environment());
    command
}

#[tokio::test]
async fn a_merge_to_a_store_that_is_interrupted_gives_its_uploads_up() {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), SHAPE).await;
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let uploads = Uploads::start();
        let mut command = merge(folder.path(), &uploads);
        let mut merge = command.args(["--rows-per-file", "1000"]).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while uploads.seen(|seen| seen.parts) < 3 {
            assert!(merge.try_wait().unwrap().is_none(), "{:?}", uploads.seen(|seen| format!("{seen:?}")));
            assert!(started.elapsed() < Duration::from_secs(60), "no part comes");
            std::thread::sleep(Duration::from_millis(2));
        }
        let sent = Command::new("kill").args([signal, &merge.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(merge.wait().unwrap().code(), Some(code));
        uploads.seen(|seen| {
            assert!(seen.begun > 0 && seen.open.is_empty() && seen.completed == 0, "{signal}: {seen:?}");
        });
    }
}

#[tokio::test]
async fn a_store_that_refuses_a_part_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), Shape { items: 200, ..SHAPE }).await;
    for form in [None, Some("--compress")] {
        let uploads = Uploads::start();
        uploads.refuse();
        let merged = merge(folder.path(), &uploads).args(form).output().unwrap();
        let message = String::from_utf8_lossy(&merged.stderr).into_owned();
        assert_eq!(merged.status.code(), Some(6), "{message}");
        assert!(message.contains("s3://bucket/F.npz") && message.contains("access denied"), "{message}");
        uploads.seen(|seen| assert!(seen.begun == 1 && seen.open.is_empty(), "{seen:?}"));
    }
}
