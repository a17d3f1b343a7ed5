//! `merge` to a store, ended by a signal: no upload stays, which the store would keep and bill.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shared::store::Store;
use support::uploads::Uploads;
use support::{GOOD, Shape, Synthetic};

/// Rows of 16 KB: a merge of some seconds, sent in several parts.
const SHAPE: Shape = Shape { items: 4000, shard_size: 100, dim: 4096 };

#[tokio::test]
async fn a_merge_to_a_store_that_is_interrupted_gives_its_uploads_up() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::open(folder.path().to_str().unwrap()).unwrap(), SHAPE);
    synthetic.put_all(GOOD).await;
    synthetic.put_plan().await;
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let uploads = Uploads::start();
        let mut merge = Command::new(env!("CARGO_BIN_EXE_coordinator"))
            .args(["merge", "--rows-per-file", "1000", "--out", "s3://bucket/F.npz", "--store"])
            .arg(folder.path())
            .current_dir(folder.path())
            .envs(uploads.environment())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
