//! What every queue must do, as one suite that runs on each of them.
//!
//! A test gives [`run_all`] a way to make a fresh queue. The cases need no certain speed: a lease that
//! has to stand lasts for ten minutes, one that has to expire lasts for some milliseconds and is waited
//! for. They panic where a queue does not keep to the behaviour.

mod coordinating;
mod ending;
mod leasing;
mod setting;
mod shortage;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::ids::{ClaimNonce, ContentName, Sha16, ShardId, WorkerId};

use super::clock::Clock;
use super::{
    Beat, BeatAnswer, BeatShard, Claim, ClaimReply, CompletedPart, ItemRange, Lease, NewShard, Queue,
    QueueSettings, Snapshot, WorkerInfo,
};

/// A fresh queue that knows no run, and how its time passes.
pub struct Subject {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The manual clock that it reads; `None` where its time passes by itself.
    pub clock: Option<Clock>,
}

type Case = (&'static str, fn(Subject) -> BoxFuture<'static, ()>);

const CASES: [&[Case]; 5] =
    [setting::CASES, leasing::CASES, ending::CASES, coordinating::CASES, shortage::CASES];

/// How far time moves, or how long is waited, between two looks at a condition.
const TICK: Duration = Duration::from_millis(3);

/// Looks at a condition before a case gives up: over a minute of waiting.
const TICKS: u32 = 20_000;

/// Runs every case on a queue of its own, made by `make` from the case's name.
pub async fn run_all<M>(make: M)
where
    M: AsyncFn(&'static str) -> Subject,
{
    for (name, case) in CASES.into_iter().flatten() {
        println!("case: {name}");
        case(make(name).await).await;
    }
}

impl Subject {
    async fn tick(&self) {
        match &self.clock {
            Some(clock) => clock.advance(TICK),
            None => tokio::time::sleep(TICK).await,
        }
    }

    async fn add(&self, settings: &QueueSettings, ids: &[u64]) -> u64 {
        let shards: Vec<NewShard> = ids.iter().map(|id| shard(*id)).collect();
        self.queue.add(settings, &shards).await.expect("add")
    }

    async fn claim(&self, worker: &str, max: u32) -> ClaimReply {
        self.claim_as(worker, ClaimNonce::fresh(), max).await
    }

    async fn claim_as(&self, worker: &str, nonce: ClaimNonce, max: u32) -> ClaimReply {
        let claim = Claim { worker: id(worker), info: info(worker), nonce, max };
        self.queue.claim(&claim).await.expect("claim")
    }

    async fn lease(&self, worker: &str, max: u32) -> Vec<Lease> {
        match self.claim(worker, max).await {
            ClaimReply::Leases(leases) => leases,
            other => panic!("{worker} got {other:?} instead of leases"),
        }
    }

    async fn lease_one(&self, worker: &str) -> Lease {
        self.lease(worker, 1).await.remove(0)
    }

    /// Claims until something can be claimed.
    async fn lease_in_time(&self, worker: &str) -> Lease {
        for _ in 0..TICKS {
            match self.claim(worker, 1).await {
                ClaimReply::Leases(mut leases) => return leases.remove(0),
                ClaimReply::Wait(_) => self.tick().await,
                other => panic!("{worker} got {other:?} instead of a lease"),
            }
        }
        panic!("nothing to claim came in time for {worker}");
    }

    async fn snapshot(&self) -> Snapshot {
        self.queue.snapshot().await.expect("snapshot").expect("the run is known")
    }

    /// Waits until this shard's lease is overdue; nothing reaps it yet.
    async fn let_expire(&self, shard: ShardId) {
        for _ in 0..TICKS {
            let leases = self.snapshot().await.leases;
            let lease = leases.iter().find(|lease| lease.shard == shard).expect("the lease stands");
            if lease.expires_in_seconds < 0.0 {
                return;
            }
            self.tick().await;
        }
        panic!("the lease of {shard} does not expire");
    }

    async fn beat(&self, worker: &str, lease: &Lease, items: u64, range: Option<ItemRange>) -> BeatAnswer {
        let held = BeatShard { shard: lease.shard, token: lease.token, items_done: items, in_flight: range };
        let beat = Beat { worker: id(worker), info: info(worker), shards: vec![held] };
        let reply = self.queue.beat(&beat).await.expect("beat");
        assert_eq!(reply.shards.len(), 1);
        assert_eq!(reply.shards[0].0, lease.shard);
        reply.shards[0].1
    }
}

/// Leases that no case outlives.
fn lasting() -> QueueSettings {
    let hour = Duration::from_hours(1);
    QueueSettings {
        lease: Duration::from_mins(10),
        first_backoff: hour,
        longest_backoff: hour,
        ..QueueSettings::default()
    }
}

/// Leases and backoffs that pass at once.
fn passing() -> QueueSettings {
    QueueSettings {
        lease: Duration::from_millis(20),
        first_backoff: Duration::from_millis(1),
        longest_backoff: Duration::from_millis(4),
        ..QueueSettings::default()
    }
}

fn id(worker: &str) -> WorkerId {
    WorkerId(worker.to_owned())
}

fn info(worker: &str) -> WorkerInfo {
    WorkerInfo {
        host: format!("host of {worker}"),
        device: "CPU (AVX2)".to_owned(),
        version: "1".to_owned(),
        memory: 24 << 30,
        busy_percent: Some(97),
        instance: format!("box of {worker}"),
    }
}

fn shard(id: u64) -> NewShard {
    let sha = Sha16::of(format!("bundle {id}").as_bytes());
    NewShard { id: ShardId(id), bundle: ContentName { shard: ShardId(id), sha }, items: 10, part: None }
}

/// A part of a shard; parts with other numbers have other names.
fn part(id: ShardId, embedded: u64, failed: u64) -> CompletedPart {
    let sha = Sha16::of(format!("part {id} {embedded} {failed}").as_bytes());
    CompletedPart { name: ContentName { shard: id, sha }, embedded, failed }
}
