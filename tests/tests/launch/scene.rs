//! A market with machines, a run with its store and its queue, and launchers that are started, stopped and killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tests::chaos::work::write_items;
use tests::npz::{self, Arrays};
use tests::program::{Finished, Program, Running};
use tests::redis::RedisServer;
use tests::s3::S3Server;
use tests::vast::{Arrival, Caller, OfferSpec, Script, Settings, StandIn};
use tests::wait::until;

/// The password of the queue's administrator: it may be nowhere but with the launcher.
pub const QUEUE_PASSWORD: &str = "administrator-of-the-queue-hunter2";

/// The secret key of the store: the same.
pub const STORE_SECRET: &str = "secret-key-of-the-store-hunter2";

/// Where the store lies in its bucket.
const STORE: &str = "s3://fleet/runs-of-a-test";

/// Gigabytes that a box fetches, which the launcher expects for a run without a model.
pub const FETCHED_GB: f64 = 1.6;

/// What a box does not take longer for: the deadlines of the real market are minutes.
const DEADLINES: [&str; 14] = [
    "--tick",
    "150ms",
    "--created-within",
    "3s",
    "--loading-within",
    "3s",
    "--beat-within",
    "12s",
    "--silent-after",
    "30s",
    "--drain-within",
    "6s",
    "--start-within",
    "0s",
];

/// A run that is planned, and a market.
pub struct Scene {
    /// The market.
    pub market: StandIn,
    /// The queue.
    pub redis: RedisServer,
    /// The run.
    pub run: String,
    folder: TempDir,
    s3: S3Server,
    launches: std::cell::Cell<u32>,
}

/// A machine that does as its script says, at this price an hour.
pub fn machine(price: f64, script: Script) -> OfferSpec {
    OfferSpec {
        price,
        min_bid: price,
        storage_cost: 3.0,
        inet_down: 20_000.0,
        inet_down_cost: 0.002,
        inet_up_cost: 0.0,
        script: Script { downloaded_gb: FETCHED_GB, ..script },
        ..OfferSpec::default()
    }
}

impl Scene {
    /// A run of so many items in shards of eight; `None`, visibly, where a server is missing.
    pub fn new(items: u64) -> Option<Self> {
        let redis = RedisServer::start_with(&["--requirepass", QUEUE_PASSWORD])?;
        let s3 = S3Server::start()?;
        let settings = Settings { credit: 1000.0, ..Settings::default() };
        let mut scene = Self {
            market: StandIn::start(settings),
            redis,
            run: String::new(),
            folder: TempDir::new().unwrap(),
            s3,
            launches: std::cell::Cell::new(0),
        };
        write_items(scene.folder.path(), items);
        let plan = scene.coordinator("plan").args([
            "--items",
            "items.jsonl",
            "--model",
            "hash:64",
            "--shard-size",
            "8",
            "--lease",
            "3s",
        ]);
        plan.output().expect(0).stdout().trim().clone_into(&mut scene.run);
        Some(scene)
    }

    /// The folder that programs work in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What every label of the run begins with.
    pub fn prefix(&self) -> String {
        format!("fleet-{}-", self.run)
    }

    /// A command of the coordinator.
    pub fn coordinator(&self, command: &str) -> Program {
        self.coordinator_in(command, self.folder.path())
    }

    /// The same as on another machine.
    pub fn coordinator_in(&self, command: &str, folder: &Path) -> Program {
        let store: BTreeMap<String, String> = self.s3.environment().into_iter().collect();
        let store: Vec<(String, String)> = store.into_iter().collect();
        Program::coordinator(folder)
            .args([command])
            .envs(&store)
            .env("AWS_SECRET_ACCESS_KEY", STORE_SECRET)
            .env("FLEET_STORE", STORE)
            .env("FLEET_QUEUE", self.queue_url())
            .env("VAST_URL", self.market.url())
            .env("VAST_API_KEY", self.market.key())
            .env("HOME", folder)
    }

    fn queue_url(&self) -> String {
        format!("redis://:{QUEUE_PASSWORD}@127.0.0.1:{}/0", self.redis.port())
    }

    /// `launch` with deadlines of seconds, for boxes whose batches take so many milliseconds.
    pub fn launch(&self, workers: u32, batch_ms: u32) -> Program {
        let variables = format!("RIGGED_BATCH_MS={batch_ms}\nRIGGED_CHECK=0\nFLEET_LINGER=5\n");
        std::fs::write(self.path("worker.env"), variables).unwrap();
        let worker = tests::program::path_of("rigged-worker");
        self.coordinator("launch")
            .flag("--workers", workers.to_string())
            .flag("--worker-binary", worker)
            .flag("--worker-env", self.path("worker.env"))
            .flag("--worker-args", "--device cpu --claim-poll 50ms")
            .args(["--yes", "--api-pace", "0.02", "--max-hours", "2"])
            .args(DEADLINES)
    }

    /// Starts a launcher in the background, with a log of its own.
    pub fn start(&self, launcher: Program) -> Launching {
        self.launches.set(self.launches.get() + 1);
        let log = self.path(&format!("launch-{}.log", self.launches.get()));
        Launching { process: launcher.start(&log), log }
    }

    /// How the fleet stands.
    pub fn fleet(&self) -> Value {
        let shown = self.coordinator("instances").args(["--all", "--json"]).output().expect(0).stdout();
        serde_json::from_str(&shown).unwrap()
    }

    /// Items done, of how many.
    pub fn progress(&self) -> (u64, u64) {
        let shown = self.coordinator("status").args(["--json"]).output().expect(0).stdout();
        let status: Value = serde_json::from_str(&shown).unwrap();
        let number = |name: &str| status[name].as_u64().unwrap();
        (number("items_done") + number("items_failed"), number("items_total"))
    }

    /// Merges and verifies the run, and reads the file.
    pub fn merged(&self) -> Arrays {
        let out = self.path("e.npz");
        let _ = self.coordinator("merge").flag("--out", &out).output().expect(0);
        let _ = self.coordinator("verify").args([&out]).flag("--run", &self.run).output().expect(0);
        npz::read(&out)
    }

    /// What the market billed for the run, in dollars.
    pub fn billed(&self) -> f64 {
        self.market.charges(&self.prefix()).dollars()
    }

    /// The market's account of the run: no box is left, and no place ever had two.
    pub fn check_ledger(&self) {
        let ledger = self.market.ledger();
        assert!(ledger.alive(&self.prefix()).is_empty(), "boxes are left");
        for (slot, most) in ledger.most_alive_per_slot(&self.prefix()) {
            assert_eq!(most, 1, "slot {slot} had {most} boxes at once");
        }
    }

    /// Boxes that were made so far.
    pub fn creations(&self) -> usize {
        self.market.ledger().created(&self.prefix()).len()
    }

    /// A box of somebody else, as the market's own page would make it.
    pub fn rent_foreign(&self, label: &str) -> u64 {
        let order = serde_json::json!({
            "client_id": "me", "image": "ubuntu", "disk": 10, "label": label, "onstart": "sleep 1000",
            "runtype": "ssh_proxy", "env": {}
        });
        let offer = self.market.add_offer(machine(99.0, Script::default()));
        // The market may say that this comes too early.
        until("a foreign box", || self.market.rent(offer, &order))
    }

    /// Requests of the account, not of boxes.
    pub fn of_account(&self, method: &str, path: &str) -> Vec<Arrival> {
        let ledger = self.market.ledger();
        let requests = ledger.requests(method, path).into_iter();
        requests.filter(|arrival| arrival.caller == Caller::Account).cloned().collect()
    }

    /// No secret of the launcher is in a text.
    pub fn check_secrets(&self, what: &str, text: &str) {
        for secret in [self.market.key(), QUEUE_PASSWORD, STORE_SECRET] {
            assert!(!text.contains(secret), "{what} holds a secret");
        }
    }
}

/// A launcher in the background.
pub struct Launching {
    /// Its process.
    pub process: Running,
    log: PathBuf,
}

impl Launching {
    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for its end; its exit code.
    pub fn wait(&mut self) -> i32 {
        let longest = std::time::Duration::from_secs(180);
        self.process.wait_for(longest).unwrap_or_else(|| panic!("it goes on and on:\n{}", self.log()))
    }

    /// Waits for its end with this code.
    pub fn expect(&mut self, code: i32) {
        let ended = self.wait();
        assert_eq!(ended, code, "{}", self.log());
    }
}

/// Both outputs of a program that ended.
pub fn both(finished: &Finished) -> String {
    format!("{}\n{}", finished.stdout(), finished.stderr())
}
