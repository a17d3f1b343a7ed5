//! A run as it stands: one [`Status`], collected from the queue or, without one, from the store, and
//! rendered as text ([`text`]) or JSON.

pub mod look;
#[cfg(test)]
pub(crate) mod sample;
pub mod text;
pub mod words;

use serde::Serialize;
use shared::ids::RunId;
use shared::plan::Plan;
use shared::queue::{LeaseSnapshot, RunState, ShardCounts, ShardFailure, Snapshot, WorkerSnapshot};

use crate::failure::Failure;
use crate::fleet::view::Cost;
use crate::merge::Run;
use crate::record::{Depth, RefusedPart, read_record};

/// Where a status comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The queue: live.
    Queue,
    /// The store: what is finished, and nothing of what is in flight.
    Store,
}

/// A run as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The run.
    pub run: RunId,
    /// Where this comes from.
    pub source: Source,
    /// The model as the plan names it.
    pub model: String,
    /// Components of a vector.
    pub dim: u32,
    /// Running, paused or draining; unknown from the store.
    pub state: Option<RunState>,
    /// Shards by state.
    pub shards: ShardCounts,
    /// Items of the run.
    pub items_total: u64,
    /// Items with a row in a finished shard.
    pub items_done: u64,
    /// Items that failed in a finished shard.
    pub items_failed: u64,
    /// Items embedded in shards still held.
    pub items_in_flight: u64,
    /// Items a second over the last minutes; unknown from the store.
    pub items_per_second: Option<f64>,
    /// Seconds to the end at that rate, while shards are handed out.
    pub eta_seconds: Option<f64>,
    /// Workers seen.
    pub workers: Vec<WorkerSnapshot>,
    /// Leases held.
    pub leases: Vec<LeaseSnapshot>,
    /// Shards that failed and are not done, with their reasons.
    pub failures: Vec<ShardFailure>,
    /// Objects in `parts/` that are no valid parts of this run (from the store alone).
    pub refused_parts: Vec<RefusedPart>,
    /// What rented boxes cost; nothing where none ever were.
    pub cost: Option<Cost>,
    /// What a person should know: a queue that is away or has lost the run.
    pub notes: Vec<String>,
}

/// From a snapshot of the queue. How much there is of everything is the plan's word: a queue that is being filled
/// again knows a part of the shards, and would be finished too soon.
pub fn from_queue(plan: &Plan, snapshot: Snapshot) -> Status {
    let rate = snapshot.items_per_second;
    let settled = snapshot.items_done + snapshot.items_failed + snapshot.items_in_flight;
    let left = plan.counts.items.saturating_sub(settled);
    let eta_seconds = match left {
        0 => Some(0.0),
        _ if rate > 0.0 && snapshot.state == RunState::Running => Some(left as f64 / rate),
        _ => None,
    };
    let mut shards = snapshot.shards;
    shards.pending += plan.counts.shards.saturating_sub(shards.total());
    Status {
        run: plan.run.clone(),
        source: Source::Queue,
        model: plan.model.name.clone(),
        dim: plan.embedding.dim,
        state: Some(snapshot.state),
        shards,
        items_total: plan.counts.items,
        items_done: snapshot.items_done,
        items_failed: snapshot.items_failed,
        items_in_flight: snapshot.items_in_flight,
        items_per_second: Some(rate),
        eta_seconds,
        workers: snapshot.workers,
        leases: snapshot.leases,
        failures: snapshot.failures,
        refused_parts: Vec::new(),
        cost: None,
        notes: Vec::new(),
    }
}

/// From the plan and the parts: shards are done or pending, nothing else is known.
pub async fn from_store(run: &Run) -> Result<Status, Failure> {
    let (plan, record) = (&run.plan, read_record(run, Depth::Tail).await?);
    let done = record.parts.len() as u64;
    let items_done = record.parts.values().map(|part| part.embedded).sum();
    let items_failed = record.parts.values().map(|part| part.failed).sum();
    Ok(Status {
        run: plan.run.clone(),
        source: Source::Store,
        model: plan.model.name.clone(),
        dim: plan.embedding.dim,
        state: None,
        shards: ShardCounts {
            done,
            pending: plan.counts.shards.saturating_sub(done),
            ..ShardCounts::default()
        },
        items_total: plan.counts.items,
        items_done,
        items_failed,
        items_in_flight: 0,
        items_per_second: None,
        eta_seconds: None,
        workers: Vec::new(),
        leases: Vec::new(),
        failures: Vec::new(),
        refused_parts: record.refused,
        cost: None,
        notes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::words::Stage;
    use super::*;

    fn snapshot(shards: ShardCounts, state: RunState) -> Snapshot {
        Snapshot {
            state,
            shards,
            items_total: 8 * shards.total(),
            items_done: 8 * shards.done,
            items_failed: 0,
            items_in_flight: 0,
            items_per_second: 4.0,
            workers: Vec::new(),
            leases: Vec::new(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_queue_that_is_filled_again_is_not_finished() {
        let plan = sample::run(4).plan;
        let half = ShardCounts { done: 2, ..ShardCounts::default() };
        let status = from_queue(&plan, snapshot(half, RunState::Running));
        assert_eq!((status.shards.pending, status.shards.total()), (2, 4));
        assert_eq!(status.items_total, plan.counts.items);
        assert_eq!(Stage::of(&status), Stage::Running);
        let whole = ShardCounts { done: 4, ..ShardCounts::default() };
        assert_eq!(Stage::of(&from_queue(&plan, snapshot(whole, RunState::Paused))), Stage::Finished);
    }

    #[test]
    fn a_run_that_hands_out_nothing_has_no_time_left() {
        let plan = sample::run(4).plan;
        let left = |state| from_queue(&plan, snapshot(ShardCounts::default(), state)).eta_seconds;
        assert!(left(RunState::Running).is_some());
        assert_eq!((left(RunState::Paused), left(RunState::Draining)), (None, None));
    }

    #[tokio::test]
    async fn the_store_alone_tells_of_the_end() {
        let status = from_store(&sample::run(4)).await.unwrap();
        assert_eq!(Stage::of(&status), Stage::FromStore);
        let shards = ShardCounts { done: 4, ..ShardCounts::default() };
        assert_eq!(Stage::of(&Status { shards, ..status }), Stage::Finished);
    }
}
