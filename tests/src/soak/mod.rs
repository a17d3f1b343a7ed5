//! The soak: a fleet works for a long time while faults are injected at random, one after the other. Two of
//! its workers are never killed, so that a leak would show; the others come and go.
//!
//! | file | job |
//! |---|---|
//! | `faults` | what may go wrong, and how it is brought about |
//! | `measure` | memory of processes and keys of the queue over time |

mod faults;
mod measure;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::chaos::ledger::{self, Ledger};
use crate::chaos::work::{Work, write_items};
use crate::chaos::world::{Missing, Worker, World};
use crate::npz;
use crate::program::{Program, Running};
use crate::redis::RedisServer;
use crate::s3::S3Server;
use crate::wait::until;
use faults::{FAULTS, Tally};
use measure::Measurements;

/// Shards that four slow workers do in a second, rounded up.
const SHARDS_A_SECOND: f64 = 2.0;
/// Items of a shard.
const SHARD_SIZE: u64 = 16;
/// What a batch takes while the soak lasts.
const BATCH_MS: &str = "200";
/// The pause between the recovery from one fault and the next.
const PAUSE: Duration = Duration::from_secs(1);
/// Work must go on within this after a fault.
const RECOVERY: Duration = Duration::from_secs(60);

/// The fleet of a soak.
pub struct Fleet {
    /// Its run, queue and store.
    pub world: World,
    /// Workers that may be killed.
    pub mortal: Vec<Worker>,
    /// Workers that are not.
    pub steady: Vec<Worker>,
    /// The account so far.
    pub ledger: Ledger,
    /// Workers started so far.
    pub started: u64,
}

impl Fleet {
    /// Starts another worker.
    pub fn worker(&mut self) -> Worker {
        self.started += 1;
        self.world.start(self.world.worker_command().env("RIGGED_BATCH_MS", BATCH_MS))
    }

    /// Reads the account up to now, before the queue loses its keys.
    pub fn close_account(&mut self) {
        self.ledger.follow(&self.world.redis.borrow(), &self.world.run_id());
        self.ledger.forget();
    }
}

/// Runs it and prints what came out; fails where anything was lost.
pub fn run(length: Duration, seed: u64) -> ExitCode {
    let fleet = match start(length, seed) {
        Ok(fleet) => fleet,
        Err(Missing(what)) => {
            eprintln!("error: cannot soak: {what}");
            return ExitCode::from(2);
        }
    };
    soak(fleet, length, seed);
    ExitCode::SUCCESS
}

fn start(length: Duration, seed: u64) -> Result<Fleet, Missing> {
    let redis = RedisServer::start_persistent().ok_or_else(|| Missing("no redis-server".to_owned()))?;
    let s3 = S3Server::start().ok_or_else(|| Missing("no moto[server]".to_owned()))?;
    // It serves as long as this process lives.
    let s3: &'static S3Server = Box::leak(Box::new(s3));
    let mut world = World::with(seed, "soak", redis, Some(s3));
    let shards = (length.as_secs_f64() * SHARDS_A_SECOND) as u64 + 20;
    write_items(world.folder.path(), shards * SHARD_SIZE);
    world.work = Work::of(shards * SHARD_SIZE, SHARD_SIZE);
    println!("planning {shards} shards of {SHARD_SIZE} items");
    world.plan();
    Ok(Fleet { world, mortal: Vec::new(), steady: Vec::new(), ledger: Ledger::default(), started: 0 })
}

fn soak(mut fleet: Fleet, length: Duration, seed: u64) {
    fleet.steady = vec![fleet.worker(), fleet.worker()];
    fleet.mortal = vec![fleet.worker(), fleet.worker()];
    let watch = fleet.world.coordinator("status").args(["--watch"]);
    let watch = watch.start(&fleet.world.folder.path().join("watch.log"));
    let mut measurements = Measurements::default();
    let mut tallies: Vec<Tally> = FAULTS.iter().map(|fault| Tally::new(fault.name)).collect();
    let started = Instant::now();
    println!("soaking for {:.1} minutes with seed {seed}", length.as_secs_f64() / 60.0);
    while started.elapsed() < length && fleet.world.done().is_none_or(|done| done < fleet.world.work.shards) {
        let chosen = fleet.world.between(0, FAULTS.len() as u64 - 1) as usize;
        eprintln!("{:6.1} s: {}", started.elapsed().as_secs_f64(), FAULTS[chosen].name);
        (FAULTS[chosen].inject)(&mut fleet);
        let recovery = until_work_goes_on(&mut fleet, &watch, &mut measurements);
        tallies[chosen].note(recovery);
        pause(&mut fleet, &watch, &mut measurements);
    }
    let soaked = started.elapsed();
    finish(fleet, watch, &measurements, &tallies, soaked);
}

/// How long it takes until another shard is done.
fn until_work_goes_on(fleet: &mut Fleet, watch: &Running, measurements: &mut Measurements) -> Duration {
    let since = Instant::now();
    let before = fleet.world.done();
    loop {
        measurements.take(fleet, watch);
        let now = fleet.world.done();
        let all = now == Some(fleet.world.work.shards);
        // A queue that lost its keys counts anew.
        if all || (now.is_some() && now > before) || (now < before && now > Some(0)) {
            return since.elapsed();
        }
        assert!(since.elapsed() < RECOVERY, "no shard in {RECOVERY:?}:\n{}", fleet.world.all_logs());
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn pause(fleet: &mut Fleet, watch: &Running, measurements: &mut Measurements) {
    let since = Instant::now();
    while since.elapsed() < PAUSE {
        measurements.take(fleet, watch);
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The rest of the work without faults, then everything that must hold.
fn finish(fleet: Fleet, watch: Running, measurements: &Measurements, tallies: &[Tally], soaked: Duration) {
    let Fleet { world, mortal, steady, mut ledger, started } = fleet;
    let done = world.done().unwrap_or(0);
    drop(watch);
    for worker in mortal.iter().chain(&steady) {
        worker.process.signal("TERM");
    }
    let mut logs = Vec::new();
    for mut worker in mortal.into_iter().chain(steady) {
        let code = worker.ends();
        assert!([143, 0].contains(&code), "{code}: {}", worker.log());
        logs.push(worker.log());
    }
    let _ = world.resume();
    let last = [(), ()].map(|()| world.start(world.worker_command().env("RIGGED_BATCH_MS", "0")));
    for mut worker in last {
        // The queue keeps its last events alone, and these workers are fast.
        let code = until("the last workers to end", || {
            ledger.follow(&world.redis.borrow(), &world.run_id());
            worker.process.wait_for(Duration::from_millis(100))
        });
        assert_eq!(code, 0, "{}", worker.log());
    }
    let account = ledger.follow(&world.redis.borrow(), &world.run_id());
    let steps: usize = logs.iter().map(|log| ledger::check_worker(log)).sum();
    check_arrays(&world);
    let _ = world.coordinator("forget").output().expect(0);
    let keys = world.redis.borrow().cli(&["KEYS", "fleet:*"]);
    assert_eq!(keys, "", "forget leaves no key");
    println!("\n| fault | injected | slowest to go on |\n|---|---|---|");
    for tally in tallies {
        println!("{tally}");
    }
    println!(
        "\n{:.1} minutes; {done} of {} shards done under faults, the rest after.",
        soaked.as_secs_f64() / 60.0,
        world.work.shards
    );
    println!(
        "{} leases, {} lost; {} steps of the last {} workers, none past its fence; {started} workers started.",
        account.leases,
        account.lost,
        steps,
        logs.len()
    );
    println!("{} items: every id once, and the arrays of an undisturbed run, bit for bit.", world.work.items);
    println!("{measurements}");
    println!("After `coordinator forget` no key is left.");
    measurements.check(world.work.shards, started);
}

fn check_arrays(world: &World) {
    let merged = world.coordinator("merge").args(["--out", "e.npz"]).output().expect(0);
    drop(merged);
    let run = world.run_id();
    let verified = world.coordinator("verify").args(["e.npz", "--run", &run]).output().expect(0);
    assert!(verified.stdout().contains("nothing is wrong"), "{}", verified.stdout());
    let _ = Program::coordinator(world.folder.path())
        .args(["run", "--device", "cpu", "--store", "undisturbed-store", "--out", "undisturbed.npz"])
        .args(&world.work.plan)
        .output()
        .expect(0);
    let read = |name: &str| npz::read(&world.folder.path().join(name));
    read("e.npz").assert_same_bits(&read("undisturbed.npz"));
}
