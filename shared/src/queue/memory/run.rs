//! A run's shards, with the ordered sets that make every operation O(log n).
//!
//! Invariant: a shard stands in the set of its state and in no other, and a held shard stands in its
//! worker's set too. Both follow from [`Run::step`] being the only way a shard changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::{ClaimNonce, LeaseToken, ShardId, WorkerId};

use super::super::admission::FAILURES_SHOWN;
use super::super::rate::{BUCKETS_KEPT, bucket_of};
use super::super::transition::{Event, Refusal, Shard, State, apply};
use super::super::view::{Stored, StoredLease, StoredWorker};
use super::super::{
    Claim, Lease, QueueSettings, RunState, ServerTime, ShardCounts, ShardFailure, WorkerInfo,
};

/// A worker as the run knows it.
#[derive(Debug, Default)]
pub struct Worker {
    /// What it says of itself.
    pub info: WorkerInfo,
    /// Its last claim or beat.
    pub last_seen: ServerTime,
    /// Items embedded in shards that it finished.
    pub items_done: u64,
    /// Failures that were its machine's.
    pub host_failures: u32,
    /// The last claim that was given leases.
    pub granted_nonce: Option<ClaimNonce>,
    /// The shards that it holds.
    pub held: BTreeSet<ShardId>,
}

/// One run.
#[derive(Debug)]
pub struct Run {
    /// Fixed when the run is made.
    pub settings: QueueSettings,
    /// What workers are told.
    pub state: RunState,
    made_at: ServerTime,
    last_token: LeaseToken,
    /// Of all claims and of all failures for memory; it only grows.
    largest_memory: u64,
    shards: HashMap<ShardId, Shard>,
    pending: BTreeSet<ShardId>,
    leased: BTreeSet<(ServerTime, ShardId)>,
    delayed: BTreeSet<(ServerTime, ShardId)>,
    dead: BTreeSet<ShardId>,
    done: u64,
    workers: HashMap<WorkerId, Worker>,
    buckets: BTreeMap<u64, u64>,
    items_total: u64,
    items_done: u64,
    items_failed: u64,
}

impl Run {
    /// A run without shards.
    pub fn new(settings: QueueSettings, now: ServerTime) -> Self {
        Self {
            settings,
            state: RunState::Running,
            made_at: now,
            last_token: LeaseToken(0),
            largest_memory: 0,
            shards: HashMap::new(),
            pending: BTreeSet::new(),
            leased: BTreeSet::new(),
            delayed: BTreeSet::new(),
            dead: BTreeSet::new(),
            done: 0,
            workers: HashMap::new(),
            buckets: BTreeMap::new(),
            items_total: 0,
            items_done: 0,
            items_failed: 0,
        }
    }

    /// Takes a shard in; `false` where it is known already.
    pub fn insert(&mut self, id: ShardId, shard: Shard) -> bool {
        if self.shards.contains_key(&id) {
            return false;
        }
        self.items_total += shard.items;
        self.enter(id, &shard);
        self.shards.insert(id, shard);
        true
    }

    /// Makes one change, or says why it is refused; gives the shard as it was before.
    pub fn step(&mut self, id: ShardId, event: &Event<'_>, now: ServerTime) -> Result<Shard, Refusal> {
        let before = self.shards.get(&id).ok_or(Refusal::NotHeld)?.clone();
        let after = apply(&before, event, now, &self.settings)?;
        self.leave(id, &before);
        self.enter(id, &after);
        self.shards.insert(id, after);
        Ok(before)
    }

    /// The shard, where it is known.
    pub fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(&id)
    }

    /// Reaps expired leases and promotes delayed shards, at most `limit` of each.
    pub fn look_after(&mut self, now: ServerTime, limit: usize) {
        let due = |set: &BTreeSet<(ServerTime, ShardId)>| -> Vec<ShardId> {
            set.iter().take_while(|(time, _)| *time <= now).take(limit).map(|(_, id)| *id).collect()
        };
        for id in due(&self.leased) {
            // Never refused: the shard stands in the set of leases, with a time that has passed.
            let _ = self.step(id, &Event::Expire, now);
        }
        for id in due(&self.delayed) {
            let _ = self.step(id, &Event::Promote, now);
        }
    }

    /// Notes a sign of life.
    pub fn touch(&mut self, id: &WorkerId, info: &WorkerInfo, now: ServerTime) -> &mut Worker {
        let worker = self.workers.entry(id.clone()).or_default();
        worker.info = info.clone();
        worker.last_seen = now;
        worker
    }

    /// The largest memory that the run has seen, with that of another machine.
    pub fn largest_memory(&self, another: u64) -> u64 {
        self.largest_memory.max(another)
    }

    /// Notes that the run has a machine of this memory.
    pub fn see_memory(&mut self, memory: u64) {
        self.largest_memory = self.largest_memory(memory);
    }

    /// The machine of a worker, as it said when it claimed; empty where it was never seen.
    pub fn host_of(&self, worker: &WorkerId) -> String {
        self.workers.get(worker).map(|worker| worker.info.host.clone()).unwrap_or_default()
    }

    /// A worker that was seen before.
    pub fn worker_mut(&mut self, id: &WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(id)
    }

    /// The leases that this very claim made and that still stand, lowest id first.
    pub fn leases_of(&self, claim: &Claim) -> Vec<Lease> {
        let held = self.workers.get(&claim.worker).map(|worker| &worker.held);
        let ids = held.into_iter().flatten();
        ids.filter_map(|id| self.lease(*id, &claim.nonce)).collect()
    }

    /// Leases up to `max` pending shards, lowest id first.
    pub fn grant(&mut self, claim: &Claim, max: usize, now: ServerTime) -> Vec<Lease> {
        let ids: Vec<ShardId> = self.pending.iter().take(max).copied().collect();
        for id in &ids {
            self.last_token = LeaseToken(now.0.max(self.last_token.0 + 1));
            let (worker, nonce) = (&claim.worker, &claim.nonce);
            // Never refused: the shard stands in the set of pending ones.
            let _ = self.step(*id, &Event::Claim { worker, nonce, token: self.last_token }, now);
        }
        ids.iter().filter_map(|id| self.lease(*id, &claim.nonce)).collect()
    }

    /// Makes every dead shard pending; how many there were.
    pub fn requeue_dead(&mut self, now: ServerTime) -> u64 {
        let dead: Vec<ShardId> = self.dead.iter().copied().collect();
        dead.iter().filter(|id| self.step(**id, &Event::RequeueDead, now).is_ok()).count() as u64
    }

    /// Counts newly embedded items into the running minute.
    pub fn count_items(&mut self, items: u64, now: ServerTime) {
        if items == 0 {
            return;
        }
        let bucket = bucket_of(now);
        *self.buckets.entry(bucket).or_default() += items;
        self.buckets = self.buckets.split_off(&bucket.saturating_sub(BUCKETS_KEPT));
    }

    /// Shards by state.
    pub fn counts(&self) -> ShardCounts {
        ShardCounts {
            pending: self.pending.len() as u64,
            leased: self.leased.len() as u64,
            delayed: self.delayed.len() as u64,
            done: self.done,
            dead: self.dead.len() as u64,
        }
    }

    /// The next lease to expire or delay to pass.
    pub fn next_change(&self) -> Option<ServerTime> {
        let first = |set: &BTreeSet<(ServerTime, ShardId)>| set.first().map(|(time, _)| *time);
        first(&self.leased).into_iter().chain(first(&self.delayed)).min()
    }

    /// Everything that a snapshot shows.
    pub fn stored(&self, now: ServerTime) -> Stored {
        let troubled = self.dead.iter().chain(self.delayed.iter().map(|(_, id)| id));
        Stored {
            now,
            made_at: self.made_at,
            state: self.state,
            shards: self.counts(),
            items_total: self.items_total,
            items_done: self.items_done,
            items_failed: self.items_failed,
            host_failures_to_ban: self.settings.host_failures_to_ban,
            buckets: self.buckets.iter().map(|(bucket, items)| (*bucket, *items)).collect(),
            workers: self
                .workers
                .iter()
                .map(|(id, worker)| StoredWorker {
                    id: id.clone(),
                    info: worker.info.clone(),
                    last_seen: worker.last_seen,
                    items_done: worker.items_done,
                    host_failures: worker.host_failures,
                })
                .collect(),
            leases: self.leased.iter().filter_map(|(_, id)| self.stored_lease(*id)).collect(),
            failures: troubled.take(FAILURES_SHOWN).filter_map(|id| self.failure(*id)).collect(),
        }
    }

    fn lease(&self, id: ShardId, nonce: &ClaimNonce) -> Option<Lease> {
        let shard = self.shards.get(&id)?;
        let State::Leased(held) = &shard.state else {
            return None;
        };
        (held.nonce == *nonce).then(|| Lease {
            shard: id,
            bundle: shard.bundle.clone(),
            items: shard.items,
            token: held.token,
            expires_at: held.expires_at,
            lease: self.settings.lease,
            attempt: attempt(shard),
            isolate: shard.trouble.isolate,
            too_large: shard.trouble.shortages.too_large(self.largest_memory),
        })
    }

    fn stored_lease(&self, id: ShardId) -> Option<StoredLease> {
        let shard = self.shards.get(&id)?;
        let State::Leased(held) = &shard.state else {
            return None;
        };
        Some(StoredLease {
            shard: id,
            worker: held.worker.clone(),
            attempt: attempt(shard),
            expires_at: held.expires_at,
            items_done: held.items_done,
        })
    }

    fn failure(&self, id: ShardId) -> Option<ShardFailure> {
        let shard = self.shards.get(&id)?;
        Some(ShardFailure {
            shard: id,
            state: shard.state.name(),
            attempts: shard.trouble.attempts,
            lost_leases: shard.trouble.lost_leases,
            message: shard.trouble.message.clone(),
        })
    }

    fn enter(&mut self, id: ShardId, shard: &Shard) {
        match &shard.state {
            State::Pending => {
                self.pending.insert(id);
            }
            State::Leased(held) => {
                self.leased.insert((held.expires_at, id));
                self.workers.entry(held.worker.clone()).or_default().held.insert(id);
            }
            State::Delayed { until } => {
                self.delayed.insert((*until, id));
            }
            State::Dead => {
                self.dead.insert(id);
            }
            State::Done(part) => {
                self.done += 1;
                self.items_done += part.embedded;
                self.items_failed += part.failed;
            }
        }
    }

    fn leave(&mut self, id: ShardId, shard: &Shard) {
        match &shard.state {
            State::Pending => {
                self.pending.remove(&id);
            }
            State::Leased(held) => {
                self.leased.remove(&(held.expires_at, id));
                if let Some(worker) = self.workers.get_mut(&held.worker) {
                    worker.held.remove(&id);
                }
            }
            State::Delayed { until } => {
                self.delayed.remove(&(*until, id));
            }
            State::Dead => {
                self.dead.remove(&id);
            }
            State::Done(part) => {
                self.done -= 1;
                self.items_done -= part.embedded;
                self.items_failed -= part.failed;
            }
        }
    }
}

/// 1 for the first attempt.
fn attempt(shard: &Shard) -> u32 {
    shard.trouble.attempts + shard.trouble.lost_leases + 1
}
