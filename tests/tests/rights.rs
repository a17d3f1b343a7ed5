//! What a worker on a stranger's machine may do: a user of the queue for one run, signed URLs in place of
//! store credentials. It finishes a run with them, and nothing else works.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use shared::store::signing::Signing;
use tempfile::TempDir;
use tests::npz;
use tests::program::{Finished, Program};
use tests::redis::RedisServer;
use tests::s3::S3Server;
use tests::sample::{SHARD_SIZE, baseline, folder, items};
use tests::seaweed::{ACCESS_KEY, SECRET_KEY, SeaweedServer};
use tests::wait::until;

const STORE: &str = "s3://fleet/some/prefix";

/// A run whose workers get no credentials.
struct Stage {
    shared: PathBuf,
    working: TempDir,
    redis: RedisServer,
    /// What the coordinator's side knows of the store.
    store: Vec<(String, String)>,
    run: String,
}

impl Stage {
    fn new(store: Vec<(String, String)>) -> Option<Self> {
        let (shared, redis) = (folder()?, RedisServer::start()?);
        Some(Self { shared, working: TempDir::new().unwrap(), redis, store, run: String::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.working.path().join(name)
    }

    fn coordinator(&self, command: &str) -> Program {
        Program::coordinator(self.working.path())
            .args([command])
            .envs(&self.store)
            .env("FLEET_QUEUE", self.redis.url())
    }

    fn plan(&self, model: &str) -> Program {
        self.coordinator("plan")
            .args(["--items"])
            .args(items(&self.shared))
            .flag("--images", self.shared.join("sample/images"))
            .flag("--model", model)
            .flag("--shard-size", SHARD_SIZE)
            .args(["--dtype", "f32"])
    }

    /// The reference model in a folder of its own, which can be taken away.
    fn copied_model(&self) -> PathBuf {
        let copy = self.path("model");
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(self.shared.join("reference/model")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        copy
    }

    /// Makes the worker's user, and its URL of the queue.
    fn queue_user(&self) -> String {
        let applied = self.coordinator("queue-acl").args(["--run", &self.run, "--apply"]).output().expect(0);
        let file = self.path(&format!("{}.queue-password", self.run));
        let password = std::fs::read_to_string(&file).unwrap();
        let password = password.trim();
        assert_eq!(password.len(), 64);
        assert_eq!(mode(&file), 0o600);
        assert!(!format!("{}{}", applied.stdout(), applied.stderr()).contains(password));
        self.redis.url().replace("redis://", &format!("redis://worker-{}:{password}@", self.run))
    }

    /// A worker with the environment of the file and nothing of the coordinator's.
    fn worker(&self) -> Program {
        let program = Program::worker(self.working.path())
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("AWS_ENDPOINT_URL")
            .env_remove("AWS_REGION")
            .env_remove("AWS_ALLOW_HTTP")
            .env("HF_HOME", self.path("cache"))
            .args(["--device", "cpu"]);
        self.granted()
            .iter()
            .filter(|(name, _)| name.starts_with("FLEET_"))
            .fold(program, |program, (name, value)| program.env(name, value))
    }

    /// The file that `plan --signed-urls` wrote.
    fn granted(&self) -> BTreeMap<String, String> {
        let file = self.path(&format!("{}.worker.env", self.run));
        assert_eq!(mode(&file), 0o600);
        let text = std::fs::read_to_string(file).unwrap();
        text.lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    }

    /// The worker ends by itself, and the merged bits are the baseline's.
    fn finish(&self, worker: Finished) {
        let _ = worker.expect(0);
        let merge = self.coordinator("merge").env("FLEET_STORE", STORE);
        let _ = merge.args(["--run", &self.run, "--out", "e.npz"]).output().expect(0);
        npz::read(&self.path("e.npz")).assert_same_bits(baseline(&self.shared));
    }
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

/// The run id alone on standard output, and no signature anywhere.
fn run_id(planned: &Finished) -> String {
    let (stdout, stderr) = (planned.stdout(), planned.stderr());
    assert!(!stderr.contains("X-Amz") && stderr.contains("worker.env"), "{stderr}");
    let run = stdout.strip_suffix('\n').unwrap();
    assert!(run.len() == 12 && run.chars().all(|c| c.is_ascii_hexdigit()), "{stdout}");
    run.to_owned()
}

#[test]
fn a_worker_with_a_user_for_one_run_finishes_it() {
    let Some(mut stage) = Stage::new(Vec::new()) else { return };
    let store = stage.path("store");
    stage.store = vec![("FLEET_STORE".to_owned(), store.display().to_string())];
    let model = stage.shared.join("reference/model");
    let planned = stage.plan(&model.display().to_string()).output().expect(0);
    planned.stdout().trim().clone_into(&mut stage.run);
    let queue = stage.queue_user();
    let worker = Program::worker(stage.working.path()).env("FLEET_STORE", &store).env("FLEET_QUEUE", &queue);
    let _ = worker.args(["--device", "cpu"]).output().expect(0);
    let _ = stage.coordinator("merge").args(["--out", "e.npz"]).output().expect(0);
    npz::read(&stage.path("e.npz")).assert_same_bits(baseline(&stage.shared));

    // The printed line, given to redis-cli, makes the same user again.
    let user = format!("worker-{}", stage.run);
    let rights = stage.redis.cli(&["ACL", "GETUSER", &user]);
    let line = stage.coordinator("queue-acl").output().expect(0).stdout();
    assert_eq!(line.lines().count(), 1);
    let removed = stage.coordinator("queue-acl").args(["--remove"]).output().expect(0);
    assert!(removed.stdout().contains("deleted"), "{}", removed.stdout());
    assert_eq!(stage.redis.cli(&["ACL", "GETUSER", &user]), "");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(stage.redis.cli(&words), "OK");
    assert_eq!(stage.redis.cli(&["ACL", "GETUSER", &user]), rights);
    let _ = stage.coordinator("queue-acl").args(["--remove"]).output().expect(0);
    // Without its user the worker is told what to look at.
    let worker = Program::worker(stage.working.path()).env("FLEET_STORE", &store).env("FLEET_QUEUE", &queue);
    let refused = worker.args(["--device", "cpu"]).output().expect(2);
    assert!(refused.stderr().contains("queue-acl"), "{}", refused.stderr());
}

#[test]
fn wrong_names_and_passwords_of_users_are_refused() {
    let Some(redis) = RedisServer::start() else { return };
    let working = TempDir::new().unwrap();
    let command = || {
        let command = Program::coordinator(working.path()).args(["queue-acl", "--run", "r"]);
        command.env("FLEET_QUEUE", redis.url())
    };
    for name in ["default", "a b", ""] {
        let refused = command().args(["--user", name, "--apply"]).output().expect(2);
        assert!(refused.stderr().contains("no name for a worker's user"), "{}", refused.stderr());
    }
    std::fs::write(working.path().join("empty"), "\n").unwrap();
    let refused = command().args(["--password-file", "empty"]).output().expect(2);
    assert!(refused.stderr().contains("is empty"), "{}", refused.stderr());
    std::fs::write(working.path().join("own"), "chosen\n").unwrap();
    let made = command().args(["--password-file", "own", "--user", "w", "--apply"]).output().expect(0);
    assert!(made.stderr().contains("others can read own"), "{}", made.stderr());
    assert!(made.stderr().contains("a restart goes back"), "{}", made.stderr());
    assert!(made.stdout().contains("~fleet:{r}:*"), "{}", made.stdout());
    assert_eq!(redis.cli(&["--no-auth-warning", "--user", "w", "--pass", "chosen", "PING"]), "PONG");
}

#[test]
fn signed_urls_are_enough_on_a_simple_s3() {
    let Some(s3) = S3Server::start() else { return };
    let Some(mut stage) = Stage::new(s3.environment()) else { return };
    let model = stage.copied_model();
    let plan = |stage: &Stage| {
        let plan = stage.plan(&model.display().to_string()).env("FLEET_STORE", STORE);
        plan.args(["--push-model", "--signed-urls", "7d"]).output().expect(0)
    };
    stage.run = run_id(&plan(&stage));
    let first = stage.granted();
    // The same plan again signs anew; a signature holds the second it was made in.
    let again = until("another second", || {
        assert_eq!(run_id(&plan(&stage)), stage.run);
        Some(stage.granted()).filter(|again| *again != first)
    });
    assert_eq!(again["FLEET_RUN"], stage.run);
    // The model comes through the signed URLs too: its folder is gone.
    std::fs::remove_dir_all(&model).unwrap();
    let worker = stage.worker().env("FLEET_QUEUE", stage.queue_user()).output();
    stage.finish(worker);
    let temporary =
        stage.plan("hash:64").env("FLEET_STORE", STORE).env("AWS_SESSION_TOKEN", "session-secret");
    let temporary = temporary.args(["--signed-urls", "1h"]).output().expect(0);
    let said = temporary.stderr();
    assert!(said.contains("credentials are temporary") && !said.contains("session-secret"), "{said}");
}

#[test]
fn only_what_was_signed_works_where_signatures_are_checked() {
    let Some(server) = SeaweedServer::start() else { return };
    let Some(mut stage) = Stage::new(server.environment()) else { return };
    let model = stage.copied_model();
    let pushed = stage.plan(&model.display().to_string()).env("FLEET_STORE", "s3://fleet/models-here");
    let _ = pushed.args(["--push-model"]).output().expect(0);
    std::fs::remove_dir_all(&model).unwrap();
    // The model in another folder of the bucket, by its URL.
    let digest = model_folder(&server, &stage);
    let model = format!("s3://fleet/models-here/models/{digest}");
    let plan = stage.plan(&model).env("FLEET_STORE", STORE).args(["--signed-urls", "7d"]);
    stage.run = run_id(&plan.output().expect(0));
    let worker = stage.worker().env("FLEET_QUEUE", stage.queue_user()).output();
    stage.finish(worker);
    refuses_reading(&server, &stage);
    refuses_writing(&server, &stage);
    says_when_it_is_over(&server, &stage);
}

/// The folder of the pushed model, from the plan in the first store.
fn model_folder(server: &SeaweedServer, stage: &Stage) -> String {
    let plan = stage.coordinator("status").env("FLEET_STORE", "s3://fleet/models-here").args(["--json"]);
    let status: Value = serde_json::from_str(&plan.output().expect(0).stdout()).unwrap();
    let run = status["run"].as_str().unwrap().to_owned();
    let url =
        block_on(signing_at(server, "s3://fleet/models-here", 600).read(&format!("runs/{run}/plan.json")));
    let (_, plan) = server.get(&path_and_query(url.unwrap().expose().as_str())).unwrap();
    let plan: Value = serde_json::from_str(&plan).unwrap();
    plan["model"]["digest"].as_str().unwrap()[..16].to_owned()
}

fn path_and_query(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

fn refuses_reading(server: &SeaweedServer, stage: &Stage) {
    let root = path_and_query(&stage.granted()["FLEET_STORE"]);
    assert_eq!(server.get(&root).unwrap().0, 200);
    let (path, query) = root.split_once('?').unwrap();
    let run = &stage.run;
    for other in [
        format!("/fleet/some/prefix/runs/{run}/shards.jsonl?{query}"),
        format!("/fleet/some/prefix/runs/{run}/access/?{query}"),
        format!("/fleet/?list-type=2&{query}"),
        format!("/fleet?{query}"),
        format!("{path}?{}", query.replace("X-Amz-Expires=604800", "X-Amz-Expires=604799")),
        path.to_owned(),
    ] {
        let (status, body) = server.get(&other).unwrap();
        assert_eq!(status, 403, "{other}: {body}");
    }
    // Nor does the program try: it says what its rights are.
    let worker = stage.worker().env("FLEET_QUEUE", stage.redis.url()).env("FLEET_RUN", "other");
    let refused = worker.output().expect(6);
    assert!(refused.stderr().contains(&format!("rights are those of run {run}")), "{}", refused.stderr());
    let status = Program::coordinator(stage.working.path()).args(["status"]);
    let refused = status.env("FLEET_STORE", &stage.granted()["FLEET_STORE"]).output().expect(6);
    assert!(refused.stderr().contains("do not allow listing"), "{}", refused.stderr());
    assert!(!refused.stderr().contains("X-Amz"), "{}", refused.stderr());
}

fn refuses_writing(server: &SeaweedServer, stage: &Stage) {
    let (_, root) = server.get(&path_and_query(&stage.granted()["FLEET_STORE"])).unwrap();
    let root: Value = serde_json::from_str(&root).unwrap();
    let upload = &root["upload"];
    let prefix = upload["key_prefix"].as_str().unwrap();
    assert_eq!(prefix, format!("some/prefix/runs/{}/parts/", stage.run));
    let fields = |key: &str| -> Vec<(String, String)> {
        let signed = upload["fields"].as_object().unwrap();
        let signed = signed.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        std::iter::once(("key".to_owned(), key.to_owned())).chain(signed).collect()
    };
    let post = |fields: &[(String, String)], file: &[u8]| server.post("/fleet", fields, file).unwrap();
    assert_eq!(post(&fields(&format!("{prefix}trial")), b"x").0, 201);
    for outside in ["some/prefix/runs/x", "trial", &prefix.replace("parts", "inputs")] {
        let (status, body) = post(&fields(outside), b"x");
        assert!((400..500).contains(&status), "{outside}: {status} {body}");
    }
    let (status, body) = post(&fields(&format!("{prefix}empty")), b"");
    assert!((400..500).contains(&status), "an empty file: {status} {body}");
    let mut forged = fields(&format!("{prefix}forged"));
    for (name, value) in &mut forged {
        if name == "x-amz-signature" {
            *value = value.chars().rev().collect();
        }
    }
    let (status, body) = post(&forged, b"x");
    assert!((400..500).contains(&status), "a forged signature: {status} {body}");
}

fn says_when_it_is_over(server: &SeaweedServer, stage: &Stage) {
    let root = path_and_query(&stage.granted()["FLEET_STORE"]);
    let key = root.split('?').next().unwrap().strip_prefix("/fleet/some/prefix/").unwrap().to_owned();
    let short = block_on(signing_at(server, STORE, 1).read(&key)).unwrap();
    until("the end of a second", || {
        server.get(&path_and_query(short.expose().as_str())).filter(|(status, _)| *status == 403)
    });
    let worker = stage.worker().env("FLEET_QUEUE", stage.redis.url());
    let over = worker.env("FLEET_STORE", short.expose().as_str()).output().expect(6);
    let said = over.stderr();
    assert!(
        said.contains("the signed URLs expired; run `coordinator plan --signed-urls 7d` again"),
        "{said}"
    );
    assert!(!said.contains("X-Amz"), "{said}");
}

fn signing_at(server: &SeaweedServer, store: &str, seconds: u64) -> Signing {
    let endpoint = server.endpoint();
    let settings = [
        ("aws_endpoint_url", endpoint.as_str()),
        ("aws_allow_http", "true"),
        ("aws_access_key_id", ACCESS_KEY),
        ("aws_secret_access_key", SECRET_KEY),
        ("aws_region", "us-east-1"),
    ];
    Signing::open_with(store, Duration::from_secs(seconds), settings).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn what_cannot_be_signed_is_exit_two_and_writes_nothing() {
    let Some(shared) = folder() else { return };
    let working = TempDir::new().unwrap();
    let plan = |store: &str, time: &str| {
        let plan = Program::coordinator(working.path()).args(["plan", "--model", "hash:64", "--items"]);
        let plan = plan.args(items(&shared)).flag("--store", store).flag("--signed-urls", time);
        plan.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").output().expect(2).stderr()
    };
    for store in ["store", "gs://bucket/x", "az://container/x"] {
        let said = plan(store, "7d");
        assert!(said.contains("credentials of their own"), "{said}");
    }
    for time in ["8d", "59s", "soon"] {
        let said = plan("s3://bucket/x", time);
        assert!(said.contains("--signed-urls"), "{said}");
    }
    assert_eq!(std::fs::read_dir(working.path()).unwrap().count(), 0);
}
