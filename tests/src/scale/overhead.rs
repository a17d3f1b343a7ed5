//! What the fleet costs a shard: one worker that embeds nothing, with beats beside.

use std::sync::Arc;
use std::time::Duration;

use shared::queue::redis::RedisQueue;
use shared::queue::{Beat, Queue as _, QueueError, QueueSettings};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::case::{new_shards, open};
use super::samples::Samples;
use super::worker::SimulatedWorker;
use crate::redis::RedisServer;

/// Between two beats: far more often than a worker does, so that they are in each other's way.
const BEAT_EVERY: Duration = Duration::from_millis(10);

/// What came out.
#[derive(Debug)]
pub struct Overhead {
    /// From the claim sent to the completion answered, a shard.
    pub shards: Samples,
    /// Beats beside.
    pub beats: Samples,
    /// Shards that the queue counts as done.
    pub done: u64,
}

/// Claims and completes so many shards, one after the other, on a server that holds nothing yet.
///
/// # Panics
/// When the queue loses sight of the run.
pub async fn run(server: &RedisServer, shards: u64) -> Result<Overhead, QueueError> {
    let queue = open(server)?;
    queue.load_functions().await?;
    let settings = QueueSettings::default();
    queue.add(&settings, &new_shards(shards)).await?;
    let mut worker = SimulatedWorker::new(0, Arc::clone(&queue), settings.lease);
    let (held, now_held) = watch::channel(worker.next_beat());
    let beating = tokio::spawn(beat(Arc::clone(&queue), now_held));
    let mut samples = Samples::default();
    loop {
        let started = Instant::now();
        worker.claim().await?;
        if worker.is_finished {
            break;
        }
        held.send_replace(worker.next_beat());
        worker.complete().await?;
        samples.note(started.elapsed());
    }
    drop(held);
    let beats = beating.await.unwrap()?;
    let end = queue.snapshot().await?.unwrap();
    Ok(Overhead { shards: samples, beats, done: end.shards.done })
}

/// Beats for what is held until the other end is dropped. An answer may say that the shard was completed
/// meanwhile.
async fn beat(queue: Arc<RedisQueue>, held: watch::Receiver<Beat>) -> Result<Samples, QueueError> {
    let mut samples = Samples::default();
    while held.has_changed().is_ok() {
        let beat = held.borrow().clone();
        let sent = Instant::now();
        queue.beat(&beat).await?;
        samples.note(sent.elapsed());
        sleep(BEAT_EVERY).await;
    }
    Ok(samples)
}
