//! What is said to a queue and what it answers. Times that cross the wire are the server's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClaimNonce, ContentName, LeaseToken, ShardId, WorkerId};

/// A moment on the queue server's clock: microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerTime(pub u64);

/// State of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardState {
    /// Waits to be claimed.
    Pending,
    /// A worker holds it until its lease expires.
    Leased,
    /// Failed, waits for its backoff to pass.
    Delayed,
    /// A part exists.
    Done,
    /// Too many attempts or lost leases; only a person brings it back.
    Dead,
}

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Shards are handed out.
    Running,
    /// Workers stay and claim nothing.
    Paused,
    /// Workers finish what they hold and exit.
    Draining,
}

/// Settings of a run's queue, fixed when the run is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// How long a lease lasts without a beat.
    pub lease: Duration,
    /// Attempts counted by failures ([`FailKind`] says which) after which a shard is dead.
    pub max_attempts: u32,
    /// Leases lost after which a shard is dead. Counted apart: a box that vanished is not poison.
    pub max_lost_leases: u32,
    /// The first delay after a failure; it doubles with every further one.
    pub first_backoff: Duration,
    /// The longest delay.
    pub longest_backoff: Duration,
    /// Failures of kind [`FailKind::Host`] from one worker after which it is banned.
    pub host_failures_to_ban: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(1),
            max_attempts: 4,
            max_lost_leases: 8,
            first_backoff: Duration::from_secs(5),
            longest_backoff: Duration::from_mins(10),
            host_failures_to_ban: 3,
        }
    }
}

/// A shard as the plan knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewShard {
    /// Its id, also its priority: the lowest is claimed first.
    pub id: ShardId,
    /// Its bundle in the store.
    pub bundle: ContentName,
    /// How many items it has.
    pub items: u64,
    /// A valid part that the store already holds.
    pub part: Option<CompletedPart>,
}

/// A part in the store, and what it accounts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPart {
    /// Its name.
    pub name: ContentName,
    /// Items with a row.
    pub embedded: u64,
    /// Items without one, each with a reason in the part's metadata.
    pub failed: u64,
}

/// What a worker says of itself, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// The machine's name.
    pub host: String,
    /// The device, for instance `NVIDIA GeForce RTX 4090 (8.9)` or `CPU (AVX2)`.
    pub device: String,
    /// The worker's version.
    pub version: String,
    /// Bytes of device memory that the worker may use; 0 where that is unknown, as on a CPU.
    #[serde(default)]
    pub memory: u64,
    /// The share of the time since its first batch that its devices worked, in percent; `None` before.
    #[serde(default)]
    pub busy_percent: Option<u8>,
    /// The label of the rented box that the worker runs on, by which a launcher knows it; empty elsewhere.
    #[serde(default)]
    pub instance: String,
}

/// Asks for shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who asks.
    pub worker: WorkerId,
    /// What it is.
    pub info: WorkerInfo,
    /// Fresh for every claim, the same when one is repeated after a lost reply.
    pub nonce: ClaimNonce,
    /// How many shards at most (1 or more).
    pub max: u32,
}

/// A half-open range of item positions inside a shard: `first..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemRange {
    /// The first position.
    pub first: u32,
    /// One past the last.
    pub end: u32,
}

/// A shard held until `expires_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: ShardId,
    /// Its bundle.
    pub bundle: ContentName,
    /// How many items it has.
    pub items: u64,
    /// The fencing token every later call on this lease must carry.
    pub token: LeaseToken,
    /// When the lease ends by the server's clock.
    pub expires_at: ServerTime,
    /// How long a lease lasts from a beat.
    pub lease: Duration,
    /// 1 for the first attempt; grows with failures and lost leases alike.
    pub attempt: u32,
    /// Set after two leases were lost inside this range on different workers: bisect it in child
    /// processes.
    pub isolate: Option<ItemRange>,
    /// Positions of items that two hosts of the largest memory seen ran out of memory on, ascending: they
    /// are not embedded but written into the part as failed.
    pub too_large: Vec<u32>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimReply {
    /// One or more leases.
    Leases(Vec<Lease>),
    /// Nothing to claim now; something may be after this moment at the earliest (the next lease to
    /// expire or delay to pass), or sooner when a lease is given back.
    Wait(ServerTime),
    /// The run is paused: stay.
    Paused,
    /// The run drains: exit.
    Draining,
    /// All shards are done: exit.
    Finished,
    /// Only done and dead shards are left.
    Stuck,
    /// This worker's machine failed too often: exit.
    Banned,
    /// The queue has lost the run (or never had it): wait for `coordinator resume`.
    UnknownRun,
}

/// One held shard in a beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeatShard {
    /// The shard.
    pub shard: ShardId,
    /// The token of its lease.
    pub token: LeaseToken,
    /// Items embedded so far.
    pub items_done: u64,
    /// Items in the batch that is running, where one is.
    pub in_flight: Option<ItemRange>,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Who lives.
    pub worker: WorkerId,
    /// What it is.
    pub info: WorkerInfo,
    /// What it holds.
    pub shards: Vec<BeatShard>,
}

/// What became of one held shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatAnswer {
    /// The lease goes on until this moment.
    Extended(ServerTime),
    /// The lease is no longer this worker's.
    Lost,
    /// The shard is done by other means: stop work on it.
    Cancelled,
}

/// The answer to a beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeatReply {
    /// An answer per shard, in the order asked.
    pub shards: Vec<(ShardId, BeatAnswer)>,
    /// The run's state; `None` where the queue does not know the run.
    pub run: Option<RunState>,
}

/// The answer to `complete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompleteReply {
    /// The shard is done.
    Ok,
    /// This token had completed it before.
    Duplicate,
    /// The lease is no longer this worker's; the part in the store stays, and may be the one that counts.
    Lost,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailKind {
    /// The shard's: an attempt is counted and the shard waits for its backoff.
    Retry,
    /// The machine's (device, disk): no attempt counted; too many from one worker ban it.
    Host,
    /// The device had too little memory for one item alone. Nobody is banned for it: the machine does
    /// well with other shards. The shard waits for its backoff; an attempt is counted only where no
    /// machine of the run has more memory.
    OutOfMemory {
        /// The item's position in the shard.
        item: u32,
        /// The memory of the device, as in [`WorkerInfo::memory`].
        memory: u64,
    },
}

impl FailKind {
    /// The memory that this failure says a machine of the run has; 0 where it says nothing of it.
    pub fn memory(self) -> u64 {
        match self {
            Self::OutOfMemory { memory, .. } => memory,
            Self::Retry | Self::Host => 0,
        }
    }
}

/// The answer to `fail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailReply {
    /// The shard will be tried again.
    Retry,
    /// It will not.
    Dead,
    /// The lease is no longer this worker's.
    Lost,
}

/// The answer to `release`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReply {
    /// The shard is pending again.
    Ok,
    /// The lease is no longer this worker's.
    Lost,
}

/// How many shards stand in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShardCounts {
    /// Waiting to be claimed.
    pub pending: u64,
    /// Held by a worker.
    pub leased: u64,
    /// Waiting for a backoff.
    pub delayed: u64,
    /// With a part.
    pub done: u64,
    /// Given up.
    pub dead: u64,
}

impl ShardCounts {
    /// All shards of the run.
    pub fn total(&self) -> u64 {
        self.pending + self.leased + self.delayed + self.done + self.dead
    }
}

/// A worker as the queue last saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSnapshot {
    /// Its id.
    pub id: WorkerId,
    /// What it says of itself.
    pub info: WorkerInfo,
    /// Since its last claim or beat.
    pub last_seen_seconds: f64,
    /// Shards it holds.
    pub leases: u64,
    /// Items embedded in shards that are done.
    pub items_done: u64,
    /// Items embedded in shards it still holds.
    pub items_in_flight: u64,
    /// Failures that were its machine's.
    pub host_failures: u32,
    /// Whether it is banned for them.
    pub banned: bool,
}

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseSnapshot {
    /// The shard.
    pub shard: ShardId,
    /// Who holds it.
    pub worker: WorkerId,
    /// Which attempt it is.
    pub attempt: u32,
    /// Until it expires; negative when it is overdue for reaping.
    pub expires_in_seconds: f64,
    /// Items embedded so far.
    pub items_done: u64,
}

/// A shard that failed at least once and is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFailure {
    /// The shard.
    pub shard: ShardId,
    /// Where it stands now.
    pub state: ShardState,
    /// Failures that were the shard's.
    pub attempts: u32,
    /// Leases lost.
    pub lost_leases: u32,
    /// The last reason.
    pub message: String,
}

/// A run as it stands: what `status` shows in every form it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
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
    /// Items embedded in shards that are still held.
    pub items_in_flight: u64,
    /// Items a second over the last minutes, in finished shards and in flight.
    pub items_per_second: f64,
    /// Every worker seen, the latest first.
    pub workers: Vec<WorkerSnapshot>,
    /// Every lease, the next to expire first.
    pub leases: Vec<LeaseSnapshot>,
    /// Dead and delayed shards with their reasons, at most 100, dead ones first.
    pub failures: Vec<ShardFailure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_workers_info_has_unknown_memory_and_no_box() {
        let info = r#"{"host": "a", "device": "CPU", "version": "1"}"#;
        let info: WorkerInfo = serde_json::from_str(info).unwrap();
        assert_eq!((info.memory, info.instance.as_str()), (0, ""));
    }
}
