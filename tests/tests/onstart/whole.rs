//! A whole pass: the real worker, fetched by the script, on a real queue.

use serde_json::Value;
use tests::program::Program;
use tests::redis::RedisServer;
use tests::sample;

use crate::scene::{Scene, said};

#[test]
fn the_real_worker_finishes_a_run_on_a_box() {
    let (Some(shared), Some(redis)) = (sample::folder(), RedisServer::start()) else { return };
    let working = tempfile::tempdir().unwrap();
    let store = working.path().join("store");
    let coordinator = |command: &str| {
        Program::coordinator(working.path())
            .args([command])
            .flag("--store", &store)
            .env("FLEET_QUEUE", redis.url())
    };
    let plan = coordinator("plan")
        .flag("--items", sample::items(&shared).remove(0))
        .flag("--images", shared.join("sample/images"))
        .args(["--model", "hash:64", "--shard-size", "16"]);
    let run = plan.output().expect(0).stdout().trim().to_owned();

    let worker = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("worker");
    let mut scene = Scene::with_program(&std::fs::read(worker).unwrap());
    scene.set("FLEET_WORKER_ARGS", "--device cpu --claim-poll 50ms");
    scene.set("FLEET_STORE", &store.display().to_string());
    scene.set("FLEET_QUEUE", &redis.url());
    scene.set("FLEET_RUN", &run);
    let log = scene.run();
    assert_eq!(said(&log), ["starting", "working", "leaving: the run is finished or draining"], "{log}");
    assert_eq!(scene.server.requests("DELETE").len(), 1);

    let status = coordinator("status").args(["--json"]).output().expect(0).stdout();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["workers"][0]["info"]["instance"], "fleet-run-0-x", "{status}");
    let said = coordinator("status").output().expect(0).stdout();
    assert!(said.contains(" of box fleet-run-0-x, seen"), "{said}");
    let file = working.path().join("e.npz");
    let _ = coordinator("merge").flag("--out", &file).output().expect(0);
    let _ = coordinator("verify").args([&file]).flag("--run", &run).output().expect(0);
}
