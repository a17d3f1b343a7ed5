//! The scheduler of a run: which shard is whose, and until when.
//!
//! ```text
//! pending -> leased -> done
//! leased  -> pending             lease expired, released, or the machine's own fault
//! leased  -> delayed -> pending  retry with backoff, or too little memory for an item
//! leased  -> dead                too many attempts or lost leases
//! dead    -> pending             requeue_dead
//! done    -> pending             reconcile: its part is gone
//! any     -> done                reconcile: a valid part was found
//! ```
//!
//! Two implementations: [`memory`] (single-machine runs, and the model the other one is tested
//! against) and [`redis`]. One [`conformance`] suite runs on both. Every operation is one atomic
//! step, and safe to repeat after a lost reply: it is idempotent by token or by nonce.
//!
//! An item that no machine has memory for must not keep a run from its end, and small machines must not
//! be taken for all machines: [`transition::Shortages`] says when an item is too large.
//!
//! The queue is never the record: whatever it loses is rebuilt from the store
//! ([`crate::laws::Law::StoreIsTheRecord`]).

mod admission;
mod clock;
pub mod conformance;
mod error;
pub mod memory;
mod rate;
pub mod redis;
pub mod transition;
mod types;
mod view;

pub use clock::Clock;
pub use error::{QueueError, QueueErrorKind};
pub use types::{
    Beat, BeatAnswer, BeatReply, BeatShard, Claim, ClaimReply, CompleteReply, CompletedPart, FailKind,
    FailReply, ItemRange, Lease, LeaseSnapshot, NewShard, QueueSettings, ReleaseReply, RunState, ServerTime,
    ShardCounts, ShardFailure, ShardState, Snapshot, WorkerInfo, WorkerSnapshot,
};

use async_trait::async_trait;

use crate::ids::{LeaseToken, ShardId, WorkerId};

/// One run's queue. A handle is bound to one run.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Adds shards, idempotent by shard id, and returns how many were new. The first call makes the
    /// run with these settings; later calls leave the run's settings as they are. A shard with a part
    /// is added as done.
    async fn add(&self, settings: &QueueSettings, shards: &[NewShard]) -> Result<u64, QueueError>;

    /// Reaps expired leases, then leases up to `claim.max` shards, lowest id first, in one atomic step.
    /// The same (worker, nonce) gets the same answer again while those leases stand; afterwards the
    /// worker's last nonce gets [`ClaimReply::Wait`], so that a repeat arriving late takes nothing.
    async fn claim(&self, claim: &Claim) -> Result<ClaimReply, QueueError>;

    /// Extends the leases this worker still holds and records its progress.
    async fn beat(&self, beat: &Beat) -> Result<BeatReply, QueueError>;

    /// Ends a lease with a part. The same token again is a duplicate, another one is lost.
    async fn complete(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
        part: &CompletedPart,
    ) -> Result<CompleteReply, QueueError>;

    /// Ends a lease without one.
    async fn fail(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
        kind: FailKind,
        message: &str,
    ) -> Result<FailReply, QueueError>;

    /// Gives a lease back; no attempt is counted.
    async fn release(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
    ) -> Result<ReleaseReply, QueueError>;

    /// What the store says wins: a part makes the shard done whatever its state was (a lease on it is
    /// cancelled); no part makes a done shard pending. Other states stay as they are.
    async fn reconcile(&self, shard: ShardId, part: Option<&CompletedPart>) -> Result<(), QueueError>;

    /// [`Queue::reconcile`] for many shards: a queue across a network overrides it to save round trips.
    async fn reconcile_all(&self, shards: &[(ShardId, Option<CompletedPart>)]) -> Result<(), QueueError> {
        for (shard, part) in shards {
            self.reconcile(*shard, part.as_ref()).await?;
        }
        Ok(())
    }

    /// Workers stay and claim nothing.
    async fn pause(&self) -> Result<(), QueueError>;

    /// Ends a pause or a drain.
    async fn unpause(&self) -> Result<(), QueueError>;

    /// Workers finish what they hold and exit.
    async fn drain(&self) -> Result<(), QueueError>;

    /// Makes dead shards pending with their counters at zero; returns how many.
    async fn requeue_dead(&self) -> Result<u64, QueueError>;

    /// Makes this done shard pending again for another try at its failed items; `false` where it was
    /// not done.
    async fn requeue_done(&self, shard: ShardId) -> Result<bool, QueueError>;

    /// Removes every key of the run. The store is left alone.
    async fn forget(&self) -> Result<(), QueueError>;

    /// Counts, rates, workers, leases and failures in one cheap call, O(workers); `None` where the
    /// queue does not know the run.
    async fn snapshot(&self) -> Result<Option<Snapshot>, QueueError>;
}
