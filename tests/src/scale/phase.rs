//! A fleet at work for a while, with somebody who asks for its status beside.

use std::sync::Arc;
use std::time::Duration;

use shared::queue::redis::RedisQueue;
use shared::queue::{Queue as _, QueueError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::samples::Samples;
use super::server::{self, SlowCalls};
use super::worker::{SimulatedWorker, Work};
use crate::redis::RedisServer;

/// How often status is asked for.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// What the workers of a phase do.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each claims one shard, all at the same moment.
    Start,
    /// A shard takes about `mean`, for so long.
    Paced {
        /// What a shard takes on average.
        mean: Duration,
        /// How long the phase lasts.
        lasts: Duration,
    },
    /// No pause between calls, for so long or until all shards are done.
    FlatOut {
        /// How long the phase lasts.
        lasts: Duration,
    },
}

/// What came out of a phase.
#[derive(Debug)]
pub struct Phase {
    /// What the workers did.
    pub work: Work,
    /// What `coordinator status` asks of the queue, from the question to the snapshot in its memory.
    pub snapshots: Samples,
    /// How long the phase took.
    pub took: Duration,
    /// Seconds of processor time that the server used.
    pub processor_seconds: f64,
    /// Calls that took the server long.
    pub slow: SlowCalls,
    /// The machine's load over the last minute, at the end.
    pub load: f64,
}

impl Phase {
    /// So many things, by the second.
    pub fn rate(&self, count: usize) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }

    /// The server's share of one core in percent.
    pub fn processor_percent(&self) -> f64 {
        100.0 * self.processor_seconds / self.took.as_secs_f64()
    }

    /// The server's processor time by the call of a worker, in microseconds; snapshots are left in.
    pub fn processor_by_call(&self) -> f64 {
        1e6 * self.processor_seconds / self.work.calls() as f64
    }
}

/// Lets the workers work and gives them back with what they did.
pub async fn run(
    server: &RedisServer,
    workers: Vec<SimulatedWorker>,
    status: &Arc<RedisQueue>,
    pace: Pace,
) -> Result<(Vec<SimulatedWorker>, Phase), QueueError> {
    server::start_slow_log(server);
    let processor_before = server::processor_seconds(server);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move {
            work(&mut worker, pace, started).await?;
            Ok::<_, QueueError>(worker)
        });
    }
    let (stop, stopped) = oneshot::channel();
    let watcher = tokio::spawn(watch(Arc::clone(status), stopped));

    let mut workers = Vec::with_capacity(tasks.len());
    let mut work = Work::default();
    while let Some(ended) = tasks.join_next().await {
        let mut worker = ended.unwrap()?;
        work.merge(std::mem::take(&mut worker.work));
        workers.push(worker);
    }
    let took = started.elapsed();
    let processor_seconds = server::processor_seconds(server) - processor_before;
    drop(stop);
    let snapshots = watcher.await.unwrap()?;
    let slow = server::slow_calls(server);
    let phase = Phase { work, snapshots, took, processor_seconds, slow, load: load() };
    Ok((workers, phase))
}

async fn work(worker: &mut SimulatedWorker, pace: Pace, started: Instant) -> Result<(), QueueError> {
    match pace {
        Pace::Start => worker.claim().await,
        Pace::Paced { mean, lasts } => worker.work_paced(mean, started + lasts).await,
        Pace::FlatOut { lasts } => worker.work_flat_out(started + lasts).await,
    }
}

/// Asks for the status until the other end of `stopped` is dropped, and once at least.
async fn watch(queue: Arc<RedisQueue>, mut stopped: oneshot::Receiver<()>) -> Result<Samples, QueueError> {
    let mut samples = Samples::default();
    let mut ticks = interval(STATUS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        queue.snapshot().await?;
        samples.note(asked.elapsed());
        if stopped.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
            return Ok(samples);
        }
    }
}

fn load() -> f64 {
    let loads = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}
