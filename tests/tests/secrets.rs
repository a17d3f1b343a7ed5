//! No secret is ever shown: a run is made with planted ones, with every log line that these programs can
//! write, and everything they print, log, store or pass on is searched for them.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;
use tests::http;
use tests::program::{Finished, Program};
use tests::redis::{RedisServer, free_port};
use tests::s3::S3Server;
use tests::tls::Certificates;
use tests::wait::until;

const QUEUE_PASSWORD: &str = "planted-queue-password";
const WRONG_PASSWORD: &str = "planted-wrong-password";
const SECRET_KEY: &str = "planted-aws-secret-access-key";
const SESSION_TOKEN: &str = "planted-aws-session-token";
const HUB_TOKEN: &str = "planted-hub-token";

/// A signature that the simple server does not check.
const ANYBODY: &str =
    "Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request\r\n";

/// What must not be seen, by name.
#[derive(Default)]
struct Secrets(Mutex<Vec<(&'static str, String)>>);

impl Secrets {
    fn plant(&self, name: &'static str, secret: &str) {
        assert!(secret.len() >= 16, "{name} is too short to be told from other text");
        self.0.lock().unwrap().push((name, secret.to_owned()));
    }

    /// # Panics
    /// Where the text shows one, with the name of the secret.
    fn search(&self, place: &str, text: &[u8]) {
        self.search_for(place, text, |_| true);
    }

    fn search_for(&self, place: &str, text: &[u8], which: impl Fn(&str) -> bool) {
        for (name, secret) in self.0.lock().unwrap().iter().filter(|(name, _)| which(name)) {
            let found = text.windows(secret.len()).position(|window| window == secret.as_bytes());
            if let Some(at) = found {
                let around = &text[at.saturating_sub(300)..at];
                panic!("{place} shows {name} after: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// A run over TLS with a client certificate, on a store with temporary credentials.
struct Stage {
    working: TempDir,
    s3: S3Server,
    _redis: RedisServer,
    tls_port: u16,
    certificates: Certificates,
    secrets: Secrets,
}

impl Stage {
    fn new() -> Option<Self> {
        let (s3, certificates) = (S3Server::start()?, Certificates::make()?);
        let tls_port = free_port();
        let path = |name: &str| certificates.path(name).display().to_string();
        let redis = RedisServer::start_with(&[
            "--requirepass",
            QUEUE_PASSWORD,
            "--tls-port",
            &tls_port.to_string(),
            "--tls-auth-clients",
            "yes",
            "--tls-cert-file",
            &path("server.crt"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.crt"),
        ])?;
        let secrets = Secrets::default();
        secrets.plant("the queue's password", QUEUE_PASSWORD);
        secrets.plant("the wrong password", WRONG_PASSWORD);
        secrets.plant("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        secrets.plant("AWS_SESSION_TOKEN", SESSION_TOKEN);
        secrets.plant("HF_TOKEN", HUB_TOKEN);
        for line in certificates.text("client.key").lines().filter(|line| !line.starts_with("---")) {
            secrets.plant("the TLS key", line);
        }
        let working = TempDir::new().unwrap();
        let items: Vec<Value> =
            (0..6).map(|id| serde_json::json!({"id": id, "text": format!("item {id}")})).collect();
        std::fs::write(working.path().join("items.json"), serde_json::to_vec(&items).unwrap()).unwrap();
        Some(Self { working, s3, _redis: redis, tls_port, certificates, secrets })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.working.path().join(name)
    }

    fn queue_url(&self, user_and_password: &str) -> String {
        format!("rediss://{user_and_password}@localhost:{}/0", self.tls_port)
    }

    fn store_environment(&self) -> Vec<(String, String)> {
        let mut variables = self.s3.environment();
        variables.retain(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
        for (name, value) in [
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ("FLEET_STORE", "s3://fleet/planted"),
        ] {
            variables.push((name.to_owned(), value.to_owned()));
        }
        variables
    }

    /// Everything that both programs get: the most talkative settings, and TLS as PEM text.
    fn with_secrets(&self, program: Program) -> Program {
        program
            .env("FLEET_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .env("HF_TOKEN", HUB_TOKEN)
            .env("HF_HOME", self.path("cache"))
            .env("FLEET_QUEUE_CA", self.certificates.text("ca.crt"))
            .env("FLEET_QUEUE_CERT", self.certificates.text("client.crt"))
            .env("FLEET_QUEUE_KEY", self.certificates.text("client.key"))
    }

    fn coordinator(&self, command: &str) -> Program {
        self.with_secrets(Program::coordinator(self.working.path()))
            .envs(&self.store_environment())
            .env("FLEET_QUEUE", self.queue_url(&format!(":{QUEUE_PASSWORD}")))
            .args([command])
    }

    fn plan(&self) -> Program {
        self.coordinator("plan").args(["--items", "items.json", "--model", "hash:64", "--shard-size", "2"])
    }

    /// Runs it to its end, and searches what it said.
    fn check(&self, what: &str, program: Program, code: i32) -> Finished {
        let finished = program.output();
        self.secrets.search(&format!("{what}: stdout"), finished.stdout().as_bytes());
        self.secrets.search(&format!("{what}: stderr"), finished.stderr().as_bytes());
        assert_eq!(finished.code(), code, "{what}:\n{}\n{}", finished.stdout(), finished.stderr());
        finished
    }
}

#[test]
fn nothing_a_run_prints_logs_or_stores_holds_a_secret() {
    let Some(stage) = Stage::new() else { return };
    let planned = stage.check("plan", stage.plan().args(["--signed-urls", "1h"]), 0);
    let run = planned.stdout().trim().to_owned();
    let granted = std::fs::read_to_string(stage.path(&format!("{run}.worker.env"))).unwrap();
    let signed_url = granted.lines().find_map(|line| line.strip_prefix("FLEET_STORE=")).unwrap();
    let (_, signature) = signed_url.rsplit_once("X-Amz-Signature=").unwrap();
    stage.secrets.plant("the signature of the signed URL", signature);
    let _ = stage.check("queue-acl", stage.coordinator("queue-acl").args(["--apply"]), 0);
    let password = std::fs::read_to_string(stage.path(&format!("{run}.queue-password"))).unwrap();
    stage.secrets.plant("the password of queue-acl", password.trim());
    let _ = stage.check("queue-acl again", stage.coordinator("queue-acl").args(["--apply"]), 0);

    let _ = stage.check("pause", stage.coordinator("pause"), 0);
    let queue = stage.queue_url(&format!("worker-{run}:{}", password.trim()));
    let log = stage.path("worker.log");
    let worker = stage.with_secrets(Program::worker(stage.working.path()));
    let worker = worker.env("FLEET_QUEUE", &queue).env("FLEET_STORE", signed_url).env("FLEET_RUN", &run);
    let mut worker = worker.args(["--device", "cpu"]).start(&log);
    until("the worker to be seen", || {
        let status = stage.check("status --json", stage.coordinator("status").args(["--json"]), 0);
        let status: Value = serde_json::from_str(&status.stdout()).unwrap();
        (status["workers"].as_array().unwrap().len() == 1).then_some(())
    });
    let arguments = std::fs::read(format!("/proc/{}/cmdline", worker.id())).unwrap();
    assert!(String::from_utf8_lossy(&arguments).contains("--device"));
    stage.secrets.search("/proc/PID/cmdline", &arguments);
    let _ = stage.check("resume --json", stage.coordinator("resume").args(["--json"]), 0);
    assert_eq!(worker.wait(), 0, "{}", std::fs::read_to_string(&log).unwrap());
    let log = std::fs::read(log).unwrap();
    stage.secrets.search("the worker's log", &log);
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("DEBUG") && text.contains("claimed"), "our own lines at every level: {text}");

    let _ = stage.check("status", stage.coordinator("status"), 0);
    let _ = stage.check("merge", stage.coordinator("merge").args(["--out", "e.npz", "--json"]), 0);
    let _ = stage.check("verify", stage.coordinator("verify").args(["e.npz", "--run", &run, "--json"]), 0);
    let _ = stage.check("remove", stage.coordinator("queue-acl").args(["--remove"]), 0);
    let _ = stage.check("forget", stage.coordinator("forget"), 0);
    stage.secrets.search("the merged file", &std::fs::read(stage.path("e.npz")).unwrap());
    search_store(&stage, &run);
    panics(&stage);
}

/// Everything in the bucket. The documents of rights hold signed URLs, and those a session token: that
/// is what they are for. Nothing else does.
fn search_store(stage: &Stage, run: &str) {
    let environment = stage.s3.environment();
    let (_, endpoint) = environment.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").unwrap();
    let port: u16 = endpoint.rsplit(':').next().unwrap().parse().unwrap();
    let (status, listing) = http::ask(port, "GET /fleet?list-type=2", ANYBODY, &[]).unwrap();
    assert_eq!(status, 200);
    let listing = String::from_utf8(listing).unwrap();
    let keys = listing.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap());
    let mut folders = std::collections::BTreeSet::new();
    for key in keys {
        let (status, object) = http::ask(port, &format!("GET /fleet/{key}"), ANYBODY, &[]).unwrap();
        assert_eq!(status, 200, "{key}");
        let is_right = key.contains("/access/");
        let of_urls = |name: &str| name == "AWS_SESSION_TOKEN" || name == "the signature of the signed URL";
        stage.secrets.search_for(key, &object, |name| !(is_right && of_urls(name)));
        folders.insert(key.strip_prefix(&format!("planted/runs/{run}/")).unwrap().split('/').next().unwrap());
    }
    let expected = ["access", "failed.jsonl", "inputs", "parts", "plan.json", "shards.jsonl"];
    assert!(folders.iter().eq(expected.iter()), "{folders:?}");
}

/// A program whose standard output is full panics; the message and its backtrace are as silent.
fn panics(stage: &Stage) {
    let program = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("coordinator");
    let mut command = Command::new(program);
    command.arg("pause").current_dir(stage.working.path()).stdin(Stdio::null());
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    command.envs(stage.store_environment()).env("FLEET_LOG", "trace").env("RUST_BACKTRACE", "full");
    command.env("FLEET_RUN", "r").env("HF_TOKEN", HUB_TOKEN);
    let _ = stage.plan().output().expect(0);
    let run = stage.coordinator("status").args(["--json"]).output().expect(0).stdout();
    let run: Value = serde_json::from_str(&run).unwrap();
    command.env("FLEET_RUN", run["run"].as_str().unwrap());
    command.env("FLEET_QUEUE", stage.queue_url(&format!(":{QUEUE_PASSWORD}")));
    for (name, file) in [("CA", "ca.crt"), ("CERT", "client.crt"), ("KEY", "client.key")] {
        command.env(format!("FLEET_QUEUE_{name}"), stage.certificates.text(file));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("panicked"), "{said}");
    stage.secrets.search("a panic", &output.stderr);
}

#[test]
fn no_failure_shows_a_secret() {
    let Some(stage) = Stage::new() else { return };
    let run = stage.check("plan", stage.plan(), 0).stdout().trim().to_owned();
    let pem = stage.certificates.text("client.key");

    // The queue.
    let queue = |url: String, command: &str| stage.coordinator(command).env("FLEET_QUEUE", url);
    let wrong = stage.queue_url(&format!(":{WRONG_PASSWORD}"));
    let said = stage.check("wrong password", queue(wrong.clone(), "drain"), 2);
    assert!(said.stderr().contains("check the user, the password"), "{}", said.stderr());
    let worker = stage.with_secrets(Program::worker(stage.working.path())).envs(&stage.store_environment());
    let _ =
        stage.check("wrong password, worker", worker.env("FLEET_QUEUE", &wrong).args(["--device", "cpu"]), 2);
    let away = format!("rediss://:{QUEUE_PASSWORD}@localhost:{}/0", free_port());
    let said = stage.check("queue away", queue(away, "status").args(["--json"]), 0);
    assert!(said.stdout().contains("does not answer"), "{}", said.stdout());
    for url in [
        format!("http://:{QUEUE_PASSWORD}@host/"),
        format!("us:{QUEUE_PASSWORD}@host"),
        format!("rediss://:{QUEUE_PASSWORD}@localhost:99999/0"),
        format!("rediss://:{QUEUE_PASSWORD}@/0"),
        QUEUE_PASSWORD.to_owned(),
        format!("redis://:{QUEUE_PASSWORD}@localhost/0"),
    ] {
        let _ = stage.check("a bad queue URL", queue(url, "drain"), 2);
    }

    // Its certificates and key.
    let drain = || stage.coordinator("drain");
    let _ = stage.check("key alone", drain().env_remove("FLEET_QUEUE_CERT"), 2);
    let _ = stage.check("no certificate", drain().env("FLEET_QUEUE_CERT", &pem), 2);
    let _ = stage.check("no CA", drain().env("FLEET_QUEUE_CA", &pem), 2);
    let _ =
        stage.check("another CA", drain().env("FLEET_QUEUE_CA", stage.certificates.text("client.crt")), 2);
    let damaged = pem.replacen('\n', "\n!", 1);
    let _ = stage.check("a damaged key", drain().env("FLEET_QUEUE_KEY", damaged), 2);
    let _ = stage.check("the key as a flag", drain().args(["--queue-key", &pem]), 2);
    let _ = stage.check("the key as a path", drain().env("FLEET_QUEUE_KEY", stage.path("absent.pem")), 2);

    // The store.
    let refusing = format!("http://127.0.0.1:{}", http::refusing());
    let refused = stage.coordinator("status").env("AWS_ENDPOINT_URL", &refusing).args(["--run", &run]);
    let said = stage.check("the store refuses", refused, 6);
    assert!(said.stderr().contains("denied"), "{}", said.stderr());
    let signed = format!("{refusing}/b/runs/{run}/access/0123456789abcdef.json?X-Amz-Signature={SECRET_KEY}");
    let worker = stage.with_secrets(Program::worker(stage.working.path())).env("FLEET_RUN", &run);
    let worker =
        worker.env("FLEET_QUEUE", stage.queue_url(&format!(":{QUEUE_PASSWORD}"))).env("FLEET_STORE", signed);
    let _ = stage.check("signed URLs are refused", worker, 6);
    for url in [
        format!("s3://key:{SECRET_KEY}@bucket/x"),
        format!("s3://key:{SECRET_KEY}/x@bucket"),
        format!("s3://bucket/x?secret={SECRET_KEY}"),
        format!("https://host/x?X-Amz-Signature={SECRET_KEY}"),
        format!("https://user:{SECRET_KEY}@host/x"),
        format!("ftp://user:{SECRET_KEY}@host/x"),
    ] {
        let _ = stage.check("a bad store URL", stage.coordinator("status").env("FLEET_STORE", &url), 2);
        let worker = stage.with_secrets(Program::worker(stage.working.path()));
        let worker = worker.env("FLEET_QUEUE", stage.queue_url("u:p")).env("FLEET_STORE", &url);
        let _ = stage.check("a bad store URL, worker", worker, 2);
    }
    let hub = stage.plan().env("HF_ENDPOINT", &refusing).args(["--model", "some/model"]);
    let refused = hub.output();
    stage.secrets.search("the hub refuses", refused.stderr().as_bytes());
    assert_ne!(refused.code(), 0);

    // The settings file.
    for text in [
        format!("queue = \"rediss://:{QUEUE_PASSWORD}@host\nrun = 1"),
        format!("queue = 1\nquue = \"{QUEUE_PASSWORD}\""),
        format!("queue-key = [\"{SECRET_KEY}\"]"),
    ] {
        std::fs::write(stage.path("embed-fleet.toml"), text).unwrap();
        let _ = stage.check("a bad settings file", stage.coordinator("status"), 2);
    }
}

#[test]
fn help_shows_no_setting_of_the_environment() {
    let Some(stage) = Stage::new() else { return };
    let signed = format!("https://h/b/runs/r/access/0123456789abcdef.json?X-Amz-Signature={SECRET_KEY}");
    let with_all = |program: Program| {
        let program = stage.with_secrets(program).envs(&stage.store_environment());
        program.env("FLEET_STORE", &signed).env("FLEET_QUEUE", stage.queue_url(&format!(":{QUEUE_PASSWORD}")))
    };
    let coordinator =
        |arguments: &[&str]| with_all(Program::coordinator(Path::new("."))).args(arguments.iter().copied());
    for command in [
        "demo",
        "check",
        "plan",
        "run",
        "status",
        "pause",
        "drain",
        "resume",
        "merge",
        "verify",
        "forget",
        "queue-acl",
    ] {
        let help = stage.check(command, coordinator(&[command, "--help"]), 0).stdout();
        let takes_queue = help.contains("--queue <URL>");
        assert_eq!(help.contains("FLEET_QUEUE_KEY"), takes_queue, "{command}: {help}");
        let _ = stage.check(command, coordinator(&[command, "--no-such-flag"]), 2);
    }
    for arguments in [&["--help"][..], &["embed", "--help"], &["bench", "--help"]] {
        let worker = with_all(Program::worker(Path::new("."))).args(arguments.iter().copied());
        let _ = stage.check("worker --help", worker, 0);
    }
    let worker = with_all(Program::worker(Path::new("."))).args(["--no-such-flag"]);
    let _ = stage.check("worker", worker, 2);
}
