//! The Redis queue against the in-memory one: the same random operations on both, on one clock, and
//! every answer and every snapshot compared.
//!
//! `FLEET_QUEUE_OPERATIONS` sets how many operations are made at least (100,000 without it). What fails is
//! shrunk to the fewest operations that still fail, and played once more for a trace of them and their
//! answers.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use shared::ids::{ClaimNonce, LeaseToken, ShardId, WorkerId};
use shared::queue::Clock;
use shared::queue::memory::MemoryQueue;
use shared::queue::redis::{LIBRARY, RedisQueue};
use shared::queue::{
    Beat, BeatShard, Claim, ClaimReply, CompletedPart, FailKind, ItemRange, NewShard, Queue, QueueSettings,
    ServerTime, WorkerInfo,
};

use crate::common::redis_server::RedisServer;
use crate::{name, shards};

const START: ServerTime = ServerTime(1_700_000_000_000_000);
const SHARDS: u64 = 8;
const OPERATIONS_PER_CASE: usize = 200;

/// A lease as a beat names it: which one, the items done, and the batch in flight.
type Beaten = (usize, u64, Option<(u32, u32)>);

/// Something that happens. Indexes are taken modulo what there is.
#[derive(Debug, Clone)]
enum Operation {
    Claim {
        worker: u8,
        max: u32,
    },
    /// The claim that this worker made last, once more.
    ClaimAgain {
        worker: u8,
    },
    Beat {
        leases: Vec<Beaten>,
        worker: u8,
    },
    /// `stranger` ends the lease in place of its worker.
    Complete {
        lease: usize,
        stranger: bool,
        embedded: u64,
    },
    Fail {
        lease: usize,
        stranger: bool,
        kind: FailKind,
    },
    Release {
        lease: usize,
        stranger: bool,
    },
    Reconcile {
        shard: u64,
        embedded: Option<u64>,
    },
    Advance {
        milliseconds: u64,
    },
    Pause,
    Unpause,
    Drain,
    RequeueDead,
    RequeueDone {
        shard: u64,
    },
    Add {
        shard: u64,
        done: bool,
    },
    Forget,
}

/// An operation, and whether its answer is lost, so that the caller repeats it.
type Step = (Operation, bool);

fn operation() -> impl Strategy<Value = Operation> {
    let worker = 0u8..12;
    // Small numbers name the latest leases: mostly those that stand, sometimes a zombie's.
    let lease = prop_oneof![4 => 0usize..4, 1 => 0usize..40];
    let stranger = prop::bool::weighted(0.1);
    let range = prop::option::of((0u32..6, 1u32..6).prop_map(|(first, length)| (first, first + length)));
    let held = (lease.clone(), 0u64..10, range);
    prop_oneof![
        60 => (worker.clone(), 1u32..4).prop_map(|(worker, max)| Operation::Claim { worker, max }),
        10 => worker.clone().prop_map(|worker| Operation::ClaimAgain { worker }),
        40 => (prop::collection::vec(held, 0..3), worker)
            .prop_map(|(leases, worker)| Operation::Beat { leases, worker }),
        20 => (lease.clone(), stranger, 0u64..=10)
            .prop_map(|(lease, stranger, embedded)| Operation::Complete { lease, stranger, embedded }),
        40 => (lease.clone(), stranger, fail_kind())
            .prop_map(|(lease, stranger, kind)| Operation::Fail { lease, stranger, kind }),
        10 => (lease, stranger).prop_map(|(lease, stranger)| Operation::Release { lease, stranger }),
        10 => (0..SHARDS + 2, prop::option::of(0u64..=10))
            .prop_map(|(shard, embedded)| Operation::Reconcile { shard, embedded }),
        50 => (1u64..1500).prop_map(|milliseconds| Operation::Advance { milliseconds }),
        2 => (60_000u64..400_000).prop_map(|milliseconds| Operation::Advance { milliseconds }),
        3 => Just(Operation::Pause),
        8 => Just(Operation::Unpause),
        2 => Just(Operation::Drain),
        4 => Just(Operation::RequeueDead),
        10 => (0..SHARDS).prop_map(|shard| Operation::RequeueDone { shard }),
        4 => (0..SHARDS + 2, any::<bool>()).prop_map(|(shard, done)| Operation::Add { shard, done }),
        1 => Just(Operation::Forget),
    ]
}

/// Mostly the same item and the largest memory, so that several hosts run out on it; seldom a memory that
/// no worker claims with, which raises the bar for the rest of the case.
fn fail_kind() -> impl Strategy<Value = FailKind> {
    let memory = prop_oneof![20 => Just(24u64), 40 => Just(80), 1 => Just(0), 1 => Just(96)];
    prop_oneof![
        4 => Just(FailKind::Retry),
        1 => Just(FailKind::Host),
        10 => (prop_oneof![5 => Just(3u32), 1 => 0u32..12], memory).prop_map(|(item, memory)| FailKind::OutOfMemory { item, memory }),
    ]
}

/// Operations made unless the environment asks for another number.
const OPERATIONS: usize = 100_000;

/// Servers, each with its own share of the operations.
const SERVERS: usize = 2;

#[test]
fn redis_and_memory_agree() {
    let asked = std::env::var("FLEET_QUEUE_OPERATIONS").ok().and_then(|text| text.parse().ok());
    let share = asked.unwrap_or(OPERATIONS).div_ceil(SERVERS);
    let played: Vec<Option<Played>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SERVERS).map(|_| scope.spawn(|| play(share))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the thread ends")).collect()
    });
    let Some(played) = played.into_iter().collect::<Option<Vec<_>>>() else {
        return;
    };
    let sum = |count: fn(&Played) -> usize| played.iter().map(count).sum::<usize>();
    println!(
        "{} operations, {} leases with items too large",
        sum(|played| played.operations),
        sum(|played| played.with_too_large)
    );
    if let Some(failure) = played.into_iter().find_map(|played| played.failure) {
        panic!("{failure}");
    }
}

/// What a share of the operations came to.
struct Played {
    operations: usize,
    with_too_large: usize,
    failure: Option<String>,
}

/// Makes at least so many operations on a server of its own; `None` without one.
fn play(operations: usize) -> Option<Played> {
    // The clock of the library is a key here: the one function that reads the time is replaced.
    let read_time =
        "local time = redis.call('TIME')\n  return tonumber(time[1]) * 1000000 + tonumber(time[2])";
    assert_eq!(LIBRARY.matches(read_time).count(), 1);
    let library = LIBRARY.replace(read_time, "return tonumber(redis.call('GET', 'test:clock'))");
    let server = RedisServer::start(&[])?;
    let loaded = redis::cmd("FUNCTION").arg("LOAD").arg(library).exec(&mut server.raw());
    loaded.expect("the functions load");
    let strategy = prop::collection::vec((operation(), prop::bool::weighted(0.15)), 1..=OPERATIONS_PER_CASE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (made, with_too_large) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let case = |steps: Vec<Step>| {
        made.set(made.get() + steps.len());
        runtime.block_on(async {
            let mut both = Both::new(&server).await;
            for step in &steps {
                both.take(step).await?;
            }
            with_too_large.set(with_too_large.get() + both.with_too_large);
            both.finish().await
        })
    };
    let mut failure = None;
    while made.get() < operations && failure.is_none() {
        // A case has between one operation and the most, half of them on average.
        let cases = (2 * (operations - made.get())).div_ceil(OPERATIONS_PER_CASE) as u32;
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
        failure = match TestRunner::new(config).run(&strategy, case) {
            Ok(()) => None,
            Err(TestError::Fail(reason, steps)) => Some(runtime.block_on(trace(&server, &steps, &reason))),
            Err(error) => Some(error.to_string()),
        };
    }
    Some(Played { operations: made.get(), with_too_large: with_too_large.get(), failure })
}

/// The steps, each with its answers, up to the one that fails.
async fn trace(server: &RedisServer, steps: &[Step], reason: &dyn std::fmt::Display) -> String {
    let mut both = Both::new(server).await;
    let mut text = format!("{reason}\nthe fewest operations that fail:\n");
    for (number, (operation, lost)) in steps.iter().enumerate() {
        let taken = both.take(&(operation.clone(), *lost)).await;
        let repeated = if *lost { " (its answer is lost, so it is repeated)" } else { "" };
        text += &format!("{:>3}. {operation:?}{repeated}\n", number + 1);
        for (memory, redis) in &both.answers {
            let (memory, redis) = (plain(memory), plain(redis));
            text += &if memory == redis {
                format!("     -> {memory}\n")
            } else {
                format!("     -> memory: {memory}\n        redis:  {redis}\n")
            };
        }
        if let Err(error) = taken {
            return text + &format!("     {error}\n");
        }
    }
    text
}

/// An answer without what every lease of these tests has alike.
fn plain(answer: &str) -> String {
    let mut parts = answer.split("bundle: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + &part[part.find("token: ").unwrap_or(0)..])
}

fn settings() -> QueueSettings {
    QueueSettings {
        lease: Duration::from_secs(1),
        max_attempts: 3,
        max_lost_leases: 4,
        first_backoff: Duration::from_millis(500),
        longest_backoff: Duration::from_millis(1500),
        host_failures_to_ban: 2,
    }
}

/// Both queues on one clock.
struct Both {
    clock: Clock,
    raw: redis::Connection,
    memory: MemoryQueue,
    redis: RedisQueue,
    /// Every lease that was ever given, the latest last.
    leases: Vec<(WorkerId, ShardId, LeaseToken)>,
    last_claims: Vec<Claim>,
    nonces: u64,
    steps: u64,
    /// Leases that named items as too large.
    with_too_large: usize,
    /// What memory and Redis answered to the step in progress.
    answers: Vec<(String, String)>,
}

/// The same call on both queues, its answers compared (and once more where the answer is lost).
macro_rules! on_both {
    ($both:expr, $lost:expr, $queue:ident => $call:expr) => {{
        let mut answer;
        let mut repeats = u32::from($lost) + 1;
        loop {
            let expected = {
                let $queue: &dyn Queue = &$both.memory;
                $call.await.map_err(|error| error.kind)
            };
            let got = {
                let $queue: &dyn Queue = &$both.redis;
                $call.await.map_err(|error| error.kind)
            };
            $both.answers.push((format!("{expected:?}"), format!("{got:?}")));
            prop_assert_eq!(&expected, &got, "memory on the left, Redis on the right");
            answer = got;
            repeats -= 1;
            if repeats == 0 {
                break answer;
            }
        }
    }};
}

impl Both {
    async fn new(server: &RedisServer) -> Self {
        let clock = Clock::manual(START);
        let memory = MemoryQueue::new(clock.clone());
        let redis = server.queue("property");
        let mut both = Self {
            clock,
            raw: server.raw(),
            memory,
            redis,
            leases: Vec::new(),
            last_claims: Vec::new(),
            nonces: 0,
            steps: 0,
            with_too_large: 0,
            answers: Vec::new(),
        };
        both.set_time();
        // What a failed case has left.
        both.redis.forget().await.expect("forget");
        for queue in [&both.memory as &dyn Queue, &both.redis] {
            queue.add(&settings(), &shards(SHARDS)).await.expect("add");
        }
        both
    }

    fn set_time(&mut self) {
        let now = self.clock.now().0;
        redis::cmd("SET").arg("test:clock").arg(now).exec(&mut self.raw).expect("the clock is set");
    }

    async fn take(&mut self, (operation, lost): &Step) -> Result<(), TestCaseError> {
        self.answers.clear();
        match *operation {
            Operation::Claim { worker, max } => {
                self.nonces += 1;
                let nonce = ClaimNonce(format!("nonce {}", self.nonces));
                let claim = Claim { worker: worker_id(worker), info: info(worker), nonce, max };
                self.last_claims.retain(|other| other.worker != claim.worker);
                self.last_claims.push(claim.clone());
                self.claim(&claim, *lost).await?;
            }
            Operation::ClaimAgain { worker } => {
                let worker = worker_id(worker);
                if let Some(claim) = self.last_claims.iter().find(|claim| claim.worker == worker).cloned() {
                    self.claim(&claim, *lost).await?;
                }
            }
            Operation::Beat { ref leases, worker } => self.beat(leases, worker, *lost).await?,
            Operation::Complete { lease, stranger, embedded } => {
                if let Some((worker, shard, token)) = self.lease(lease, stranger) {
                    let part = part(shard, embedded);
                    let _ = on_both!(self, *lost, q => q.complete(&worker, shard, token, &part));
                }
            }
            Operation::Fail { lease, stranger, kind } => {
                if let Some((worker, shard, token)) = self.lease(lease, stranger) {
                    let message = format!("{kind:?} of {worker}");
                    let _ = on_both!(self, *lost, q => q.fail(&worker, shard, token, kind, &message));
                }
            }
            Operation::Release { lease, stranger } => {
                if let Some((worker, shard, token)) = self.lease(lease, stranger) {
                    let _ = on_both!(self, *lost, q => q.release(&worker, shard, token));
                }
            }
            Operation::Reconcile { shard, embedded } => {
                let part = embedded.map(|embedded| part(ShardId(shard), embedded));
                let _ = on_both!(self, *lost, q => q.reconcile(ShardId(shard), part.as_ref()));
            }
            Operation::Advance { milliseconds } => {
                self.clock.advance(Duration::from_millis(milliseconds));
                self.set_time();
            }
            Operation::Pause => drop(on_both!(self, *lost, q => q.pause())),
            Operation::Unpause => drop(on_both!(self, *lost, q => q.unpause())),
            Operation::Drain => drop(on_both!(self, *lost, q => q.drain())),
            Operation::RequeueDead => drop(on_both!(self, *lost, q => q.requeue_dead())),
            Operation::RequeueDone { shard } => {
                let _ = on_both!(self, *lost, q => q.requeue_done(ShardId(shard)));
            }
            Operation::Add { shard, done } => {
                let part = done.then(|| part(ShardId(shard), 10));
                let new = NewShard { part, ..shards(shard + 1).remove(shard as usize) };
                let new = [new];
                let _ = on_both!(self, *lost, q => q.add(&settings(), &new));
            }
            Operation::Forget => drop(on_both!(self, *lost, q => q.forget())),
        }
        self.steps += 1;
        self.compare().await
    }

    async fn claim(&mut self, claim: &Claim, lost: bool) -> Result<(), TestCaseError> {
        if let Ok(ClaimReply::Leases(leases)) = on_both!(self, lost, q => q.claim(claim)) {
            self.with_too_large += leases.iter().filter(|lease| !lease.too_large.is_empty()).count();
            let given = leases.iter().map(|lease| (claim.worker.clone(), lease.shard, lease.token));
            self.leases.extend(given);
        }
        Ok(())
    }

    async fn beat(&mut self, leases: &[Beaten], worker: u8, lost: bool) -> Result<(), TestCaseError> {
        let held = |(lease, items_done, range): &Beaten| {
            let (_, shard, token) = self.lease(*lease, false)?;
            let in_flight = range.map(|(first, end)| ItemRange { first, end });
            Some(BeatShard { shard, token, items_done: *items_done, in_flight })
        };
        // The worker of the first lease beats, for all of them: so some are a stranger's.
        let owner = leases.first().and_then(|(lease, ..)| Some(self.lease(*lease, false)?.0));
        let beat = Beat {
            worker: owner.unwrap_or_else(|| worker_id(worker)),
            info: info(worker),
            shards: leases.iter().filter_map(held).collect(),
        };
        let _ = on_both!(self, lost, q => q.beat(&beat));
        Ok(())
    }

    /// The lease that many back from the latest, as its worker or another one would name it.
    fn lease(&self, back: usize, stranger: bool) -> Option<(WorkerId, ShardId, LeaseToken)> {
        let count = self.leases.len();
        let (worker, shard, token) = self.leases.get(count.checked_sub(1)? - back % count)?.clone();
        Some((if stranger { worker_id(200) } else { worker }, shard, token))
    }

    async fn compare(&mut self) -> Result<(), TestCaseError> {
        let expected = self.memory.snapshot().await.expect("snapshot");
        let got = self.redis.snapshot().await.expect("snapshot");
        prop_assert_eq!(expected, got, "memory on the left, Redis on the right");
        if self.steps.is_multiple_of(20) {
            let repaired = self.redis.audit().await.expect("audit");
            prop_assert_eq!(repaired, 0, "every shard stands in the set of its state");
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.redis.audit().await.expect("audit"), 0);
        self.redis.forget().await.expect("forget");
        let left: Vec<String> = redis::cmd("KEYS").arg("fleet:*").query(&mut self.raw).expect("KEYS");
        prop_assert_eq!(left, Vec::<String>::new(), "forget leaves no key");
        Ok(())
    }
}

fn worker_id(number: u8) -> WorkerId {
    WorkerId(format!("worker-{number}"))
}

fn info(worker: u8) -> WorkerInfo {
    // Two workers of each of six hosts; two hosts have the least memory.
    let host = worker / 2;
    WorkerInfo {
        host: format!("host-{host}"),
        device: "CPU".to_owned(),
        version: "1".to_owned(),
        memory: if host < 2 { 24 } else { 80 },
        busy_percent: worker.is_multiple_of(2).then_some(worker),
        instance: if worker.is_multiple_of(3) { format!("fleet-run-{worker}-x") } else { String::new() },
    }
}

fn part(shard: ShardId, embedded: u64) -> CompletedPart {
    CompletedPart { name: name(shard, &format!("part {embedded}")), embedded, failed: 10 - embedded }
}
