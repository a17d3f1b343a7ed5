//! The queue rebuilt from the store ([`shared::laws::Law::StoreIsTheRecord`]): what `resume` does, and
//! how `plan` and `run` fill a queue in the first place.

use serde::Serialize;
use shared::exit::ExitCode;
use shared::plan::Plan;
use shared::queue::{NewShard, Queue, QueueSettings};

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
pub fn queue_settings(plan: &Plan) -> QueueSettings {
    QueueSettings {
        lease: std::time::Duration::from_secs_f64(plan.fleet.lease_seconds),
        ..QueueSettings::default()
    }
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
    Ok(queue.add(&queue_settings(&run.plan), &shards).await?)
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
        let parts: Vec<_> =
            run.shards().iter().map(|shard| (shard.id, record.parts.get(&shard.id).cloned())).collect();
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
