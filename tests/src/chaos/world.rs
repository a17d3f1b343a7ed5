//! A planned run with a redis-server, a store, and workers that are slow enough to be hit by a fault; and
//! what must hold at its end, whatever happened: every id once, the arrays of an undisturbed run, counters
//! equal to the plan, and a clean account ([`super::ledger`]).

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::fault::Deed;
use super::ledger::{self, Account};
use super::proxy::Proxy;
use super::random::Random;
use super::work::{ITEMS, Work, write_items};
use crate::npz;
use crate::program::{Finished, Program, Running};
use crate::redis::RedisServer;
use crate::s3::S3Server;
use crate::sample;
use crate::wait::until;

/// The lease of a run: short, so that losing one costs a test little.
pub const LEASE: Duration = Duration::from_secs(2);
/// What a batch of a few items takes.
const BATCH_MS: &str = "60";
/// Longer than any program here takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// A run and all that belongs to it.
pub struct World {
    /// Where its files lie.
    pub folder: TempDir,
    /// Its queue.
    pub redis: RefCell<RedisServer>,
    /// Between the programs and the queue.
    pub queue: Proxy,
    /// Between the programs and an S3 server; `None` where the store is a folder.
    pub store_proxy: Option<Proxy>,
    /// Choices by seed.
    pub random: RefCell<Random>,
    /// What the store is called.
    pub store: String,
    /// What is computed.
    pub work: Work,
    /// The run's id, once it is planned.
    run: RefCell<String>,
    environment: Vec<(String, String)>,
    logs: RefCell<Vec<PathBuf>>,
    leases: Cell<usize>,
}

/// Why a scenario cannot be played on this machine.
#[derive(Debug)]
pub struct Missing(pub String);

/// A worker in the background.
pub struct Worker {
    /// Its process.
    pub process: Running,
    log: PathBuf,
}

/// A process to be named later, for a deed that is planned before it starts.
#[derive(Clone, Default)]
pub struct Victim(Arc<Mutex<Option<u32>>>);

impl Victim {
    /// It is this one.
    pub fn is(&self, process: &Running) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(process.id());
    }

    /// Kills it with -9, once it is known.
    ///
    /// # Panics
    /// The deed does, when nobody names it.
    pub fn killing(&self) -> Deed {
        self.signalling("KILL")
    }

    /// Sends it a signal, once it is known.
    ///
    /// # Panics
    /// The deed does, when nobody names it.
    pub fn signalling(&self, signal: &'static str) -> Deed {
        let named = Arc::clone(&self.0);
        Arc::new(move || {
            let id = until("a victim", || *named.lock().unwrap_or_else(PoisonError::into_inner));
            let _ = std::process::Command::new("kill").args(["-s", signal, &id.to_string()]).status();
        })
    }
}

impl World {
    /// A run with its store in a folder; planned, and nobody works on it yet.
    pub fn on_a_folder(seed: u64, name: &str) -> Result<Self, Missing> {
        let world = Self::unplanned(seed, name)?;
        world.plan();
        Ok(world)
    }

    /// A run with its store on an S3 server behind a proxy; planned.
    pub fn on_s3(seed: u64, name: &str) -> Result<Self, Missing> {
        let world = Self::unplanned_on_s3(seed, name)?;
        world.plan();
        Ok(world)
    }

    /// The sample with the tiny model: what it computes is what transformers computes.
    pub fn on_the_sample(seed: u64, name: &str) -> Result<Self, Missing> {
        let shared = sample::folder().ok_or_else(|| Missing("no sample".to_owned()))?;
        let mut world = Self::unplanned(seed, name)?;
        world.work = Work::sample(shared);
        world.plan();
        Ok(world)
    }

    /// The same before its plan.
    pub fn unplanned(seed: u64, name: &str) -> Result<Self, Missing> {
        let redis = RedisServer::start().ok_or_else(|| Missing("no redis-server".to_owned()))?;
        Ok(Self::with(seed, name, redis, None))
    }

    /// The same before its plan.
    pub fn unplanned_on_s3(seed: u64, name: &str) -> Result<Self, Missing> {
        static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
        let redis = RedisServer::start().ok_or_else(|| Missing("no redis-server".to_owned()))?;
        let server = SERVER.get_or_init(S3Server::start).as_ref();
        let server = server.ok_or_else(|| Missing("no moto[server]".to_owned()))?;
        Ok(Self::with(seed, name, redis, Some(server)))
    }

    /// The same with a redis-server of one's own, before its plan.
    ///
    /// # Panics
    /// When no folder can be made.
    pub fn with(seed: u64, name: &str, redis: RedisServer, s3: Option<&S3Server>) -> Self {
        let folder = TempDir::new().unwrap();
        write_items(folder.path(), ITEMS);
        let queue = Proxy::start(redis.port());
        let store_proxy = s3.map(|server| Proxy::start(server.port()));
        let environment = match (s3, &store_proxy) {
            (Some(server), Some(proxy)) => server.environment_at(proxy.port()),
            _ => Vec::new(),
        };
        let store = match s3 {
            Some(_) => format!("s3://fleet/{name}-{seed}-{}", std::process::id()),
            None => folder.path().join("store").display().to_string(),
        };
        Self {
            folder,
            redis: RefCell::new(redis),
            queue,
            store_proxy,
            random: RefCell::new(Random::new(seed, name)),
            store,
            work: Work::hash(),
            run: RefCell::default(),
            environment,
            logs: RefCell::default(),
            leases: Cell::new(0),
        }
    }

    /// A number of `low..=high` by the seed.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        self.random.borrow_mut().between(low, high)
    }

    /// The run's id.
    pub fn run_id(&self) -> String {
        self.run.borrow().clone()
    }

    /// A path in the run's folder in the store, where that is a folder.
    pub fn in_store(&self, name: &str) -> PathBuf {
        Path::new(&self.store).join("runs").join(self.run_id()).join(name)
    }

    /// The proxy of the store.
    ///
    /// # Panics
    /// When the store is a folder.
    pub fn store_proxy(&self) -> &Proxy {
        self.store_proxy.as_ref().unwrap()
    }

    /// The files in a folder of the run in the store, by name.
    ///
    /// # Panics
    /// When there is none.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.in_store(folder)).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn with_places(&self, program: Program) -> Program {
        program
            .envs(&self.environment)
            .env("FLEET_STORE", &self.store)
            .env("FLEET_QUEUE", format!("redis://127.0.0.1:{}/0", self.queue.port()))
            .env("FLEET_LOG", "info,worker=debug")
    }

    /// A command of the coordinator, through the proxies.
    pub fn coordinator(&self, command: &str) -> Program {
        self.with_places(Program::coordinator(self.folder.path()).args([command]))
    }

    /// `coordinator plan` for this run.
    pub fn plan_command(&self) -> Program {
        let lease = format!("{}s", LEASE.as_secs());
        self.coordinator("plan").args(&self.work.plan).args(["--lease", &lease])
    }

    /// Plans the run.
    pub fn plan(&self) {
        let planned = self.plan_command().output().expect(0);
        planned.stdout().trim().clone_into(&mut self.run.borrow_mut());
    }

    /// It was planned by a command of one's own.
    pub fn is_planned(&self, run: &str) {
        run.clone_into(&mut self.run.borrow_mut());
    }

    /// A worker's command.
    pub fn worker_command(&self) -> Program {
        self.with_places(Program::rigged_worker(self.folder.path()))
            .args(["--device", "cpu", "--claim-poll", "50ms"])
            .args(&self.work.worker)
            .env("RIGGED_BATCH_MS", BATCH_MS)
    }

    /// Starts a worker.
    pub fn worker(&self) -> Worker {
        self.start(self.worker_command())
    }

    /// Starts a worker with a command of one's own.
    pub fn start(&self, command: Program) -> Worker {
        let log = self.folder.path().join(format!("worker-{}.log", self.logs.borrow().len()));
        self.logs.borrow_mut().push(log.clone());
        Worker { process: command.start(&log), log }
    }

    /// A worker that `victim` names.
    pub fn victim(&self, victim: &Victim) -> Worker {
        let worker = self.worker();
        victim.is(&worker.process);
        worker
    }

    /// `coordinator status --json`.
    ///
    /// # Panics
    /// When it fails.
    pub fn status(&self) -> Value {
        let printed = self.coordinator("status").args(["--json"]).output().expect(0).stdout();
        serde_json::from_str(&printed).unwrap()
    }

    /// Waits until so many shards are done.
    pub fn wait_for_done(&self, shards: u64) {
        until("finished shards", || self.done().filter(|done| *done >= shards));
    }

    /// How many shards are done, as the queue's own keys say; `None` where it does not answer.
    pub fn done(&self) -> Option<u64> {
        // In one step, or a shard on its way from one set to another is counted twice or not at all.
        let script = "local open = 0 for _, state in ipairs({'pending', 'leased', 'delayed', 'dead'}) do \
                      open = open + redis.call('ZCARD', ARGV[1] .. state) end \
                      return redis.call('ZCARD', ARGV[1] .. 'shards') - open";
        let keys = format!("fleet:{{{}}}:", self.run_id());
        self.redis.borrow().cli(&["EVAL_RO", script, "0", &keys]).parse().ok()
    }

    /// Waits until a fault has struck.
    pub fn wait_for_strike(&self, proxy: &Proxy, strikes: u64) {
        until("a fault to strike", || (proxy.struck() >= strikes).then_some(()));
    }

    /// Checks the queue's account so far; before its keys are lost on purpose.
    pub fn check_account(&self) -> Account {
        let account = ledger::check_queue(&self.redis.borrow(), &self.run_id());
        self.leases.set(self.leases.get() + account.leases);
        account
    }

    /// Rebuilds the queue from the store.
    pub fn resume(&self) -> Finished {
        self.coordinator("resume").output().expect(0)
    }

    /// The rest of the work by undisturbed workers, then everything that must hold.
    pub fn finish(&self) {
        self.finish_with(vec![self.worker(), self.worker()]);
    }

    /// These workers end by themselves with exit 0; then everything that must hold.
    pub fn finish_with(&self, workers: Vec<Worker>) {
        for mut worker in workers {
            assert_eq!(worker.ends(), 0, "{}", worker.log());
        }
        self.check_end();
    }

    /// What must hold when all shards are done: the queue's counters are the plan's, its account is clean,
    /// and the merged arrays are those of an undisturbed run.
    pub fn check_end(&self) {
        self.check_end_with(|program| program);
    }

    /// The same, where commands must be changed to reach the queue.
    pub fn check_end_with(&self, change: impl Fn(Program) -> Program) {
        let status = change(self.coordinator("status").args(["--json"])).output().expect(0);
        let status: Value = serde_json::from_str(&status.stdout()).unwrap();
        assert_eq!(status["source"], "queue", "{status}");
        let shards = &status["shards"];
        assert_eq!(shards["done"], self.work.shards, "{status}");
        for state in ["pending", "leased", "delayed", "dead"] {
            assert_eq!(shards[state], 0, "{state}: {status}");
        }
        let items = |name: &str| status[name].as_u64().unwrap();
        assert_eq!(items("items_total"), self.work.items, "{status}");
        assert_eq!(items("items_done") + items("items_failed"), self.work.items, "{status}");
        let _ = self.check_account();
        let steps: usize = self.logs.borrow().iter().map(|log| ledger::check_worker(&read(log))).sum();
        assert!(steps > 0, "the workers' logs say what was started");
        assert!(self.leases.get() > 0, "the queue's account says what was leased");
        self.check_arrays("e.npz");
    }

    /// Merges, verifies, and holds the arrays against those of an undisturbed run.
    pub fn check_arrays(&self, name: &str) {
        let _ = self.coordinator("merge").args(["--out", name]).output().expect(0);
        let verified = self.coordinator("verify").args([name, "--run", &self.run_id()]).output().expect(0);
        assert!(verified.stdout().contains("nothing is wrong"), "{}", verified.stdout());
        let arrays = npz::read(&self.folder.path().join(name));
        arrays.assert_same_bits((self.work.undisturbed)());
    }

    /// Everything the workers said, for a message.
    pub fn all_logs(&self) -> String {
        self.logs.borrow().iter().fold(String::new(), |mut text, log| {
            let _ = writeln!(text, "--- {}\n{}", log.display(), read(log));
            text
        })
    }
}

impl Worker {
    /// What it said so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until it has said this.
    pub fn says(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }

    /// Waits for its end; its exit code, -1 for a signal.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ends(&mut self) -> i32 {
        self.process.wait_for(PATIENCE).unwrap_or_else(|| panic!("it does not end:\n{}", read(&self.log)))
    }
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}
