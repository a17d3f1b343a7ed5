//! The whole job on this machine: plan, workers in this process over the in-memory queue, merge,
//! verify.
//!
//! The store keeps what is finished, so the same command after a kill or a power cut embeds only
//! shards that have no part.

use std::sync::Arc;
use std::time::Duration;

use shared::exit::ExitCode;
use shared::ids::WorkerId;
use shared::queue::memory::MemoryQueue;
use shared::queue::{Clock, Queue, WorkerInfo};
use tokio_util::sync::CancellationToken;
use worker::embedder::Embedder;
use worker::pipeline::busy::BusyMeter;
use worker::pipeline::{Worker, WorkerEnd, WorkerSettings};

use crate::failure::Failure;
use crate::merge::Run;
use crate::progress::Progress;
use crate::record::{Depth, read_record};
use crate::resume::add_missing;

/// The pause between two claims that found nothing: the queue is a lock in this process.
const CLAIM_POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(50));

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Work on a planned run.
pub struct LocalRun {
    /// The run.
    pub run: Arc<Run>,
    /// The model.
    pub embedder: Arc<dyn Embedder>,
    /// Workers in this process.
    pub workers: usize,
}

/// Embeds every shard that has no valid part. Answers with how many shards that were.
pub async fn embed_missing(local: LocalRun, stop: CancellationToken) -> Result<u64, Failure> {
    let LocalRun { run, embedder, workers } = local;
    let record = read_record(&run, Depth::Deep).await?;
    let missing = run.shards().len() as u64 - record.parts.len() as u64;
    if missing == 0 {
        return Ok(0);
    }
    let queue: Arc<dyn Queue> = Arc::new(MemoryQueue::new(Clock::system()));
    add_missing(queue.as_ref(), &run, &record).await?;
    let null = Arc::clone(&embedder);
    let null_vector = tokio::task::spawn_blocking(move || worker::load::null_vector(null.as_ref()))
        .await
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))?
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
    let plan = Arc::new(run.plan.clone());
    let mut working = tokio::task::JoinSet::new();
    for number in 0..workers.max(1) {
        let worker = Worker {
            id: WorkerId::fresh(&format!("local-{number}")),
            info: WorkerInfo {
                host: "local".to_owned(),
                device: embedder.device(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                memory: embedder.memory(),
                ..WorkerInfo::default()
            },
            queue: Arc::clone(&queue),
            store: run.store.clone(),
            plan: Arc::clone(&plan),
            busy: Arc::new(BusyMeter::new(1)),
            embedders: vec![Arc::clone(&embedder)],
            null_vector: Arc::clone(&null_vector),
            settings: WorkerSettings {
                claim_poll: CLAIM_POLL,
                budget: embedder.default_budget(),
                ..WorkerSettings::default()
            },
            stop: stop.clone(),
            // An item that kills its process kills this one.
            isolation: None,
        };
        working.spawn(worker.run());
    }
    let progress = Progress::start("embed", "items", plan.counts.items);
    // Every worker is waited for: one that ends must not take the vectors of the others with it.
    let mut ends = Vec::new();
    loop {
        tokio::select! {
            ended = working.join_next() => match ended {
                None => break,
                Some(end) => ends.push(end.map_err(|error| Failure::new(ExitCode::Unexpected, error))?),
            },
            () = tokio::time::sleep(SHOW_EVERY) => {
                if let Some(now) = queue.snapshot().await? {
                    progress.set(now.items_done + now.items_failed + now.items_in_flight, now.items_total);
                }
            }
        }
    }
    progress.finish();
    for end in ends {
        heed(end.map_err(|error| Failure::new(ExitCode::Unexpected, error))?)?;
    }
    report_failures(queue.as_ref()).await?;
    Ok(missing)
}

/// Whether a worker's end is the end of the command. Shards left over are the merge's to judge.
fn heed(end: WorkerEnd) -> Result<(), Failure> {
    match end {
        WorkerEnd::Finished
        | WorkerEnd::Draining
        | WorkerEnd::Stuck
        | WorkerEnd::Banned
        | WorkerEnd::QueueLost => Ok(()),
        WorkerEnd::Hung => Err(Failure::new(
            ExitCode::Unexpected,
            anyhow::anyhow!(
                "an item or the device hangs; the same command goes on with the shards that are left"
            ),
        )),
        WorkerEnd::StoreLost => {
            Err(Failure::new(ExitCode::Unreachable, anyhow::anyhow!("the store does not answer")))
        }
        WorkerEnd::Stopped => Err(Failure::new(
            ExitCode::Interrupted,
            anyhow::anyhow!("stopped; the same command goes on with the shards that are left"),
        )),
    }
}

/// Says why shards could not be embedded, where some could not.
async fn report_failures(queue: &dyn Queue) -> Result<(), Failure> {
    let Some(snapshot) = queue.snapshot().await? else { return Ok(()) };
    let left = snapshot.shards.total() - snapshot.shards.done;
    if left > 0 {
        eprintln!("{left} shards could not be embedded:");
        for failure in snapshot.failures {
            eprintln!("  shard {}: {}", failure.shard, failure.message);
        }
    }
    Ok(())
}
