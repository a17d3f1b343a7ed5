//! Boxes of this machine: the same life cycle without a market.

use serde_json::Value;
use tests::chaos::work::write_items;
use tests::npz;
use tests::program::{Program, path_of};
use tests::redis::RedisServer;
use tests::wait::until;

#[test]
fn this_machine_is_a_provider_too() {
    let Some(redis) = RedisServer::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    write_items(folder.path(), 480);
    let coordinator = |command: &str| {
        Program::coordinator(folder.path())
            .args([command])
            .env("FLEET_STORE", folder.path().join("store"))
            .env("FLEET_QUEUE", redis.url())
            .env("RIGGED_BATCH_MS", "100")
            .env("HOME", folder.path())
            .env("PATH", "/usr/bin:/bin")
    };
    let plan = ["--items", "items.jsonl", "--model", "hash:64", "--shard-size", "8", "--lease", "2s"];
    let run = coordinator("plan").args(plan).output().expect(0).stdout().trim().to_owned();
    let launch = || {
        coordinator("launch")
            .args([
                "--provider",
                "local",
                "--workers",
                "3",
                "--yes",
                "--tick",
                "100ms",
                "--start-within",
                "0s",
            ])
            .args(["--local-price", "36", "--budget", "50", "--worker-args", "--claim-poll 50ms"])
            .flag("--worker-binary", path_of("rigged-worker"))
            .flag("--local-folder", folder.path().join("boxes"))
    };
    let log = folder.path().join("launch.log");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut first = launch().start(&log);
    until("three workers", || (said().matches(" works").count() == 3).then_some(()));
    first.kill();
    // In another folder, as on another machine, these boxes would be taken for gone.
    let elsewhere = launch().flag("--local-folder", folder.path().join("elsewhere")).output().expect(2);
    assert!(elsewhere.stderr().contains("boxes of this run may be on machine"), "{}", elsewhere.stderr());
    let fleet = coordinator("instances").args(["--json"]).output().expect(0).stdout();
    let fleet: Value = serde_json::from_str(&fleet).unwrap();
    assert_eq!(fleet["boxes"].as_array().unwrap().len(), 3, "{fleet}");
    let logs =
        coordinator("logs").args(["1", "--tail", "5"]).flag("--local-folder", folder.path().join("boxes"));
    assert!(logs.output().expect(0).stdout().contains("ready"));
    // The next launcher finds them as they are.
    let report = launch().output().expect(0);
    assert!(report.stderr().contains("taking over 3 boxes"), "{}", report.stderr());
    assert!(!report.stderr().contains("renting"), "{}", report.stderr());
    let left = std::fs::read_dir(folder.path().join("boxes")).unwrap();
    assert_eq!(left.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 0);

    let out = folder.path().join("e.npz");
    let _ = coordinator("merge").flag("--out", &out).output().expect(0);
    let _ = coordinator("verify").args([&out]).flag("--run", &run).output().expect(0);
    assert_eq!(npz::read(&out).ids.len(), 450);
}
