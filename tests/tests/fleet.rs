//! A coordinator, a real redis-server and several worker processes: the same bits as `coordinator
//! run`, whatever happens in the middle.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tests::npz;
use tests::program::{Program, Running};
use tests::redis::RedisServer;
use tests::s3::S3Server;
use tests::sample::{baseline, folder, with_input};
use tests::wait::until;

/// A planned run of the sample with its queue.
struct Fleet {
    shared: PathBuf,
    working: TempDir,
    redis: RedisServer,
    store: String,
    environment: Vec<(String, String)>,
    run: String,
}

impl Fleet {
    fn plan(shared: PathBuf, redis: RedisServer) -> Self {
        let images = shared.join("sample/images");
        let working = TempDir::new().unwrap();
        let store = working.path().join("store").display().to_string();
        Self::plan_on(shared, redis, working, store, Vec::new(), &images)
    }

    fn plan_on(
        shared: PathBuf,
        redis: RedisServer,
        working: TempDir,
        store: String,
        environment: Vec<(String, String)>,
        images: &Path,
    ) -> Self {
        let mut fleet = Self { shared, working, redis, store, environment, run: String::new() };
        let planned = fleet.plan_command(images).output().expect(0).stdout();
        planned.trim().clone_into(&mut fleet.run);
        assert_eq!(fleet.run.len(), 12, "the run id alone on standard output");
        fleet
    }

    fn plan_command(&self, images: &Path) -> Program {
        with_input(
            self.with_places(Program::coordinator(self.working.path()).args(["plan"])),
            &self.shared,
            images,
        )
        .args(["--dtype", "f32", "--lease", "2s"])
    }

    fn with_places(&self, program: Program) -> Program {
        program.envs(&self.environment).env("FLEET_STORE", &self.store).env("FLEET_QUEUE", self.redis.url())
    }

    fn coordinator(&self, command: &str) -> Program {
        self.with_places(Program::coordinator(self.working.path()).args([command]))
    }

    fn worker(&self, name: &str) -> Running {
        let log = self.working.path().join(format!("{name}.log"));
        self.with_places(Program::worker(self.working.path())).args(["--device", "cpu"]).start(&log)
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.working.path().join(format!("{name}.log"))).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.coordinator("status").args(["--json"]).output().expect(0).stdout())
            .unwrap()
    }

    fn wait_for_done(&self, shards: u64) {
        until("finished shards", || {
            (self.status()["shards"]["done"].as_u64().unwrap() >= shards).then_some(())
        });
    }

    /// Workers end by themselves, the parts merge and verify, and the bits are the baseline's.
    fn finish(&self, workers: Vec<(&str, Running)>) {
        for (name, mut worker) in workers {
            assert_eq!(worker.wait(), 0, "{name}:\n{}", self.log(name));
        }
        let _ = self.coordinator("merge").args(["--out", "e.npz"]).output().expect(0);
        let verified = self.coordinator("verify").args(["e.npz", "--run", &self.run]).output().expect(0);
        assert!(verified.stdout().contains("nothing is wrong"), "{}", verified.stdout());
        npz::read(&self.working.path().join("e.npz")).assert_same_bits(baseline(&self.shared));
    }
}

fn start() -> Option<Fleet> {
    Some(Fleet::plan(folder()?, RedisServer::start()?))
}

#[test]
fn three_workers_of_which_one_is_killed() {
    let Some(fleet) = start() else { return };
    let mut killed = fleet.worker("killed");
    fleet.wait_for_done(1);
    let others = vec![("second", fleet.worker("second")), ("third", fleet.worker("third"))];
    fleet.wait_for_done(3);
    killed.kill();
    fleet.finish(others);
    let status = fleet.status();
    assert_eq!(status["shards"]["done"], 15);
    assert_eq!(status["items_done"], 240);
}

#[test]
fn a_flushed_queue_is_rebuilt_from_the_store() {
    let Some(fleet) = start() else { return };
    let workers = vec![("first", fleet.worker("first")), ("second", fleet.worker("second"))];
    fleet.wait_for_done(3);
    assert_eq!(fleet.redis.cli(&["FLUSHALL"]), "OK");
    let resumed = fleet.coordinator("resume").output().expect(0);
    assert!(resumed.stdout().contains("of 15 shards have a valid part"), "{}", resumed.stdout());
    fleet.finish(workers);
}

#[test]
fn a_redis_that_comes_back_empty_is_filled_again() {
    let Some(mut fleet) = start() else { return };
    let workers = vec![("first", fleet.worker("first")), ("second", fleet.worker("second"))];
    fleet.wait_for_done(3);
    fleet.redis.restart_empty();
    // Without a queue the store tells how the run stands.
    let status = fleet.status();
    assert_eq!(status["source"], "store");
    assert!(status["shards"]["done"].as_u64().unwrap() >= 3);
    assert!(!status["notes"].as_array().unwrap().is_empty());
    let _ = fleet.coordinator("resume").output().expect(0);
    fleet.finish(workers);
}

#[test]
fn a_worker_without_a_queue_gives_up_with_six() {
    let Some(mut fleet) = start() else { return };
    let give_up = |fleet: &Fleet| {
        let worker = Program::worker(fleet.working.path());
        fleet.with_places(worker).args(["--device", "cpu", "--give-up-after", "2s"]).output()
    };
    assert_eq!(fleet.redis.cli(&["FLUSHALL"]), "OK");
    let unknown = give_up(&fleet).expect(6);
    assert!(unknown.stderr().contains("coordinator resume"), "{}", unknown.stderr());
    fleet.redis.stop();
    let _ = give_up(&fleet).expect(6);
}

#[test]
fn a_killed_plan_is_simply_made_again() {
    let Some(shared) = folder() else { return };
    let Some(redis) = RedisServer::start() else { return };
    let working = TempDir::new().unwrap();
    let store = working.path().join("store");
    let images = shared.join("sample/images");
    let mut fleet = Fleet {
        shared,
        redis,
        store: store.display().to_string(),
        environment: Vec::new(),
        run: String::new(),
        working,
    };
    let mut planning = fleet.plan_command(&images).start(&fleet.working.path().join("plan.log"));
    until("the first bundle", || store.join("runs").exists().then_some(()));
    planning.kill();
    fleet.run = fleet.plan_command(&images).output().expect(0).stdout().trim().to_owned();
    let again = fleet.plan_command(&images).output().expect(0);
    assert_eq!(again.stdout().trim(), fleet.run);
    assert!(again.stderr().contains("found run"), "{}", again.stderr());
    let workers = vec![("only", fleet.worker("only"))];
    fleet.finish(workers);
}

#[test]
fn the_store_on_s3_and_the_images_in_a_zip() {
    let Some(shared) = folder() else { return };
    let (Some(redis), Some(s3)) = (RedisServer::start(), S3Server::start()) else { return };
    let working = TempDir::new().unwrap();
    let zip = working.path().join("images.zip");
    zip_folder(&shared.join("sample/images"), &zip);
    let store = "s3://fleet/some/prefix".to_owned();
    let fleet = Fleet::plan_on(shared, redis, working, store, s3.environment(), &zip);
    let workers = vec![("first", fleet.worker("first")), ("second", fleet.worker("second"))];
    fleet.finish(workers);
}

#[test]
fn status_tells_workers_shards_and_failures_while_a_run_goes_on() {
    let Some(fleet) = start() else { return };
    let mut worker = fleet.worker("only");
    fleet.wait_for_done(2);
    let _ = fleet.coordinator("pause").output().expect(0);
    let status = fleet.status();
    assert_eq!((status["source"].as_str(), status["state"].as_str()), (Some("queue"), Some("paused")));
    assert_eq!(status["items_total"], 240);
    let workers = status["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 1);
    assert!(workers[0]["info"]["device"].as_str().unwrap().contains("CPU"));
    assert_eq!(workers[0]["info"]["memory"], 0, "unknown on a CPU");
    assert!(workers[0]["last_seen_seconds"].as_f64().unwrap() < 60.0);
    let text = fleet.coordinator("status").output().expect(0).stdout();
    let worker_line = format!("working  {} on CPU", workers[0]["id"].as_str().unwrap());
    for word in ["paused", "items", "shards", "rate", &worker_line] {
        assert!(text.contains(word), "{word} in {text}");
    }
    // A worker told to stop gives its leases back.
    let _ = fleet.coordinator("resume").output().expect(0);
    worker.signal("TERM");
    assert_eq!(worker.wait(), 143, "{}", fleet.log("only"));
    assert_eq!(fleet.status()["shards"]["leased"], 0);
    let _ = fleet.coordinator("drain").output().expect(0);
    let mut drained = fleet.worker("drained");
    assert_eq!(drained.wait(), 0, "{}", fleet.log("drained"));
    let _ = fleet.coordinator("resume").output().expect(0);
    fleet.finish(vec![("last", fleet.worker("last"))]);
    let _ = fleet.coordinator("forget").output().expect(0);
    assert_eq!(fleet.redis.cli(&["KEYS", "fleet:*"]), "");
    // An incomplete run never gives a whole file: with a part gone, the merge says which.
    let parts = Path::new(&fleet.store).join("runs").join(&fleet.run).join("parts");
    let part = std::fs::read_dir(parts).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(part).unwrap();
    let merged = fleet.coordinator("merge").args(["--out", "half.npz"]).output().expect(4);
    assert!(merged.stderr().contains("1 of 15 shards"), "{}", merged.stderr());
    assert!(!fleet.working.path().join("half.npz").exists());
}

fn zip_folder(folder: &Path, target: &Path) {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::fs::File::create(target).unwrap());
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&std::fs::read(&path).unwrap()).unwrap();
        }
    }
    zip.finish().unwrap();
}
