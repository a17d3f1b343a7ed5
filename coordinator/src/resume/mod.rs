//! The queue rebuilt from the store ([`shared::laws::Law::StoreIsTheRecord`]): what `resume` does, and
//! how `plan` and `run` fill a queue in the first place.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::TryStreamExt as _;
use serde::Serialize;
use shared::exit::ExitCode;
use shared::ids::{ContentName, ShardId};
use shared::plan::Plan;
use shared::queue::{NewShard, Queue, QueueSettings};

use shared::store::{Listed, layout};

use crate::failure::Failure;
use crate::merge::Run;
use crate::record::Record;

/// What was done, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resumed {
    /// Shards of the run.
    pub shards: u64,
    /// Shards with a valid part.
    pub with_part: u64,
    /// Shards the queue did not have.
    pub added: u64,
    /// Dead shards that are pending again.
    pub requeued_dead: u64,
    /// Finished shards that are pending again for their failed items.
    pub requeued_failed_items: u64,
    /// Objects in `parts/` that are no valid parts.
    pub refused_parts: Vec<String>,
}

/// The queue's settings, as the plan has them.
fn queue_settings(plan: &Plan) -> Result<QueueSettings, Failure> {
    let lease = Duration::try_from_secs_f64(plan.fleet.lease_seconds)
        .map_err(|error| Failure::new(ExitCode::Input, error).context("the plan's lease_seconds"))?;
    Ok(QueueSettings { lease, ..QueueSettings::default() })
}

/// Adds every shard the queue lacks, those with a part as done. Returns how many were new.
pub async fn add_missing(queue: &dyn Queue, run: &Run, record: &Record) -> Result<u64, Failure> {
    let shards: Result<Vec<NewShard>, _> = run
        .shards()
        .iter()
        .map(|shard| {
            shard.content_name().map(|bundle| NewShard {
                id: shard.id,
                bundle,
                items: shard.items,
                part: record.parts.get(&shard.id).cloned(),
            })
        })
        .collect();
    let shards = shards.map_err(|error| Failure::new(ExitCode::Input, error))?;
    // All in one call: a run whose shards are still coming is never told to be finished.
    Ok(queue.add(&queue_settings(&run.plan)?, &shards).await?)
}

/// Makes the queue agree with the store: unpauses, adds what is missing, marks shards with a part done
/// and done shards without one pending, requeues dead ones, and with `failed_items` also finished
/// shards that have failed items.
pub async fn resume(
    queue: &dyn Queue,
    run: &Run,
    record: &Record,
    failed_items: bool,
) -> Result<Resumed, Failure> {
    let mut resumed = preview(run, record, failed_items);
    resumed.added = add_missing(queue, run, record).await?;
    if resumed.added < resumed.shards {
        // A shard finished since the record was read has a part that the record does not know: only one
        // without any part now is made pending again.
        let now = shards_with_parts(run).await?;
        let parts: Vec<_> = run
            .shards()
            .iter()
            .map(|shard| (shard.id, record.parts.get(&shard.id).cloned()))
            .filter(|(shard, part)| part.is_some() || !now.contains(shard) || record.refuses(*shard))
            .collect();
        queue.reconcile_all(&parts).await?;
    }
    resumed.requeued_dead = queue.requeue_dead().await?;
    resumed.requeued_failed_items = 0;
    if failed_items {
        for part in record.parts.values().filter(|part| part.failed > 0) {
            resumed.requeued_failed_items += u64::from(queue.requeue_done(part.name.shard).await?);
        }
    }
    queue.unpause().await?;
    Ok(resumed)
}

/// Shards that have something in `parts/` by name.
async fn shards_with_parts(run: &Run) -> Result<BTreeSet<ShardId>, Failure> {
    let listed: Vec<Listed> = run.store.list(&layout::parts_folder(&run.plan.run)).try_collect().await?;
    Ok(listed.iter().filter_map(|part| Some(ContentName::parse_part(&part.name).ok()?.shard)).collect())
}

/// What `resume` would do, as far as the store alone tells.
pub fn preview(run: &Run, record: &Record, failed_items: bool) -> Resumed {
    let failing = record.parts.values().filter(|part| part.failed > 0).count() as u64;
    Resumed {
        shards: run.shards().len() as u64,
        with_part: record.parts.len() as u64,
        requeued_failed_items: if failed_items { failing } else { 0 },
        refused_parts: record.refused.iter().map(|part| format!("{}: {}", part.name, part.reason)).collect(),
        ..Resumed::default()
    }
}
