//! From what a queue stores to the [`Snapshot`] that it shows: the same sums in every queue. What workers say is a
//! stranger's word: their texts are made lines that a terminal only shows.

use std::collections::HashMap;

use crate::excerpt::one_line;
use crate::ids::{ShardId, WorkerId};

use super::rate::items_per_second;
use super::{
    LeaseSnapshot, RunState, ServerTime, ShardCounts, ShardFailure, Snapshot, WorkerInfo, WorkerSnapshot,
};

/// A run as stored.
#[derive(Debug)]
pub struct Stored {
    /// The server's time of the reading.
    pub now: ServerTime,
    /// When the run was made.
    pub made_at: ServerTime,
    /// The run's state.
    pub state: RunState,
    /// Shards by state.
    pub shards: ShardCounts,
    /// Items of all shards.
    pub items_total: u64,
    /// Items with a row in a finished shard.
    pub items_done: u64,
    /// Items that failed in a finished shard.
    pub items_failed: u64,
    /// The run's setting.
    pub host_failures_to_ban: u32,
    /// Items embedded by the minute.
    pub buckets: Vec<(u64, u64)>,
    /// The workers, in any order.
    pub workers: Vec<StoredWorker>,
    /// The leases, in any order.
    pub leases: Vec<StoredLease>,
    /// Dead and delayed shards.
    pub failures: Vec<ShardFailure>,
}

/// A worker as stored.
#[derive(Debug)]
pub struct StoredWorker {
    /// Its id.
    pub id: WorkerId,
    /// What it says of itself.
    pub info: WorkerInfo,
    /// Its last claim or beat.
    pub last_seen: ServerTime,
    /// Items embedded in shards that it finished.
    pub items_done: u64,
    /// Failures that were its machine's.
    pub host_failures: u32,
}

/// A lease as stored.
#[derive(Debug)]
pub struct StoredLease {
    /// The shard.
    pub shard: ShardId,
    /// Who holds it.
    pub worker: WorkerId,
    /// Which attempt it is.
    pub attempt: u32,
    /// When it expires.
    pub expires_at: ServerTime,
    /// Items embedded so far.
    pub items_done: u64,
}

impl Stored {
    /// The snapshot to show: workers by when they were last seen, leases by when they end.
    pub fn snapshot(mut self) -> Snapshot {
        self.workers.sort_by(|a, b| (b.last_seen, &b.id).cmp(&(a.last_seen, &a.id)));
        self.leases.sort_by_key(|lease| (lease.expires_at, lease.shard));
        let mut held: HashMap<WorkerId, (u64, u64)> = HashMap::new();
        for lease in &self.leases {
            let (leases, items) = held.entry(lease.worker.clone()).or_default();
            *leases += 1;
            *items += lease.items_done;
        }
        let now = self.now;
        let to_ban = self.host_failures_to_ban;
        Snapshot {
            state: self.state,
            shards: self.shards,
            items_total: self.items_total,
            items_done: self.items_done,
            items_failed: self.items_failed,
            items_in_flight: self.leases.iter().map(|lease| lease.items_done).sum(),
            items_per_second: items_per_second(self.buckets, self.made_at, now),
            workers: self
                .workers
                .into_iter()
                .map(|worker| {
                    let (leases, items_in_flight) = held.get(&worker.id).copied().unwrap_or_default();
                    WorkerSnapshot {
                        last_seen_seconds: seconds_between(worker.last_seen, now),
                        leases,
                        items_done: worker.items_done,
                        items_in_flight,
                        host_failures: worker.host_failures,
                        banned: is_banned(worker.host_failures, to_ban),
                        id: WorkerId(one_line(&worker.id.0)),
                        info: shown(worker.info),
                    }
                })
                .collect(),
            leases: self
                .leases
                .into_iter()
                .map(|lease| LeaseSnapshot {
                    shard: lease.shard,
                    worker: WorkerId(one_line(&lease.worker.0)),
                    attempt: lease.attempt,
                    expires_in_seconds: seconds_between(now, lease.expires_at),
                    items_done: lease.items_done,
                })
                .collect(),
            failures: self
                .failures
                .into_iter()
                .map(|failure| ShardFailure { message: one_line(&failure.message), ..failure })
                .collect(),
        }
    }
}

/// What a worker says of itself, as it is shown.
fn shown(info: WorkerInfo) -> WorkerInfo {
    WorkerInfo {
        host: one_line(&info.host),
        device: one_line(&info.device),
        version: one_line(&info.version),
        instance: one_line(&info.instance),
        ..info
    }
}

/// Whether so many failures of a machine ban it; a limit of 0 bans nobody.
pub fn is_banned(host_failures: u32, to_ban: u32) -> bool {
    to_ban > 0 && host_failures >= to_ban
}

/// Seconds from `earlier` to `later`, negative where they stand the other way round.
fn seconds_between(earlier: ServerTime, later: ServerTime) -> f64 {
    (later.0 as f64 - earlier.0 as f64) / 1e6
}
