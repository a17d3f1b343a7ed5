//! A worker's life: claim and fetch the next shards while one is embedded and another is published.
//!
//! ```text
//!  claim ──► fetch ──► prepare ─┐ a bounded      ┌─► embed (one OS thread for each device) ─┐
//!  (async)   (async)   (CPU     ├───────────────►┤                                          │
//!                      threads) ┘ channel        └── publish: npz, upload, complete ◄───────┘
//!  beat: every quarter of a lease, for all leases held
//! ```
//!
//! A shard that fails, or panics, fails alone. Memory is bounded by the shards of [`held_at_most`].

mod beat;
pub mod busy;
mod claim;
mod device;
mod embed;
mod fetch;
mod lease;
mod publish;
mod talk;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use shared::ids::WorkerId;
use shared::plan::Plan;
use shared::queue::{Queue, WorkerInfo};
use shared::store::Store;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::embedder::{BatchBudget, Embedder};
use busy::BusyMeter;
use device::DeviceThread;
use lease::Leases;
use talk::Contact;

/// Shards in the hands of a worker: for each device one on it and one ready to follow, and one each being
/// prepared and being published.
fn held_at_most(devices: usize) -> usize {
    2 * devices + 2
}

/// What a worker needs to know.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// How long to go on without a queue.
    pub give_up_after: Duration,
    /// What a batch may hold.
    pub budget: BatchBudget,
    /// The shortest and the longest pause between two claims that found nothing.
    pub claim_poll: (Duration, Duration),
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_secs(30 * 60),
            budget: BatchBudget::CPU,
            claim_poll: (Duration::from_secs(2), Duration::from_secs(5)),
        }
    }
}

/// One worker of one run.
#[derive(Clone)]
pub struct Worker {
    /// Unique per process start.
    pub id: WorkerId,
    /// What `status` shows of it.
    pub info: WorkerInfo,
    /// The run's queue.
    pub queue: Arc<dyn Queue>,
    /// The run's record.
    pub store: Store,
    /// The run.
    pub plan: Arc<Plan>,
    /// The model, once for each device; one or more of one kind.
    pub embedders: Vec<Arc<dyn Embedder>>,
    /// The vector of an item with nothing in it, recorded in every part.
    pub null_vector: Arc<[f32]>,
    /// How it works.
    pub settings: WorkerSettings,
    /// How long the devices work.
    pub busy: Arc<BusyMeter>,
    /// Cancelled by Ctrl-C and SIGTERM: the batch that runs is finished, leases are given back.
    pub stop: CancellationToken,
}

/// Why a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerEnd {
    /// All shards are done.
    Finished,
    /// The run is draining.
    Draining,
    /// Only dead shards are left.
    Stuck,
    /// This machine failed too often.
    Banned,
    /// No queue for too long.
    QueueLost,
    /// No store for too long.
    StoreLost,
    /// Told to stop.
    Stopped,
}

/// A worker that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue refuses us, or speaks another language: waiting does not help.
    #[error(transparent)]
    Queue(#[from] shared::queue::QueueError),
    /// The device thread could not be started.
    #[error("cannot start the thread that owns the device")]
    Thread(#[source] std::io::Error),
    /// The device thread panicked outside any shard.
    #[error("the thread that owns the device ended before its work did")]
    DeviceThread,
}

impl Worker {
    /// What it says of itself now.
    fn info_now(&self) -> WorkerInfo {
        let busy_percent = self.busy.share().map(|share| (100.0 * share).round() as u8);
        WorkerInfo { busy_percent, ..self.info.clone() }
    }

    /// Prepares items: all its embedders do that alike.
    fn preparer(&self) -> &dyn Embedder {
        self.embedders[0].as_ref()
    }

    /// Works until there is nothing left to do, or the worker is told to stop.
    pub async fn run(self) -> Result<WorkerEnd, WorkerError> {
        let worker = Arc::new(self);
        let leases = Arc::new(Leases::default());
        let contact = Arc::new(Contact::new());
        let devices = worker.embedders.len();
        let room = Arc::new(Semaphore::new(held_at_most(devices)));
        let (to_device, from_fetch) = mpsc::channel(devices.max(1));
        let (to_publisher, from_device) = mpsc::channel(devices.max(1));

        let beats =
            tokio::spawn(beat::beat_forever(Arc::clone(&worker), Arc::clone(&leases), Arc::clone(&contact)));
        let _beats = AbortOnDropHandle::new(beats);
        let halt = worker.stop.child_token();
        let busy = Arc::clone(&worker.busy);
        let prepared = Arc::new(tokio::sync::Mutex::new(from_fetch));
        let threads = worker.embedders.iter().enumerate().map(|(number, embedder)| {
            let thread = DeviceThread {
                embedder: Arc::clone(embedder),
                budget: worker.settings.budget,
                halt: halt.clone(),
                shards: Arc::clone(&prepared),
                to_publisher: to_publisher.clone(),
                busy: Arc::clone(&busy),
            };
            thread.start(number)
        });
        let threads = threads.collect::<Result<Vec<_>, _>>().map_err(WorkerError::Thread)?;
        drop((prepared, to_publisher));
        let store_lost = CancellationToken::new();
        let publisher = tokio::spawn(publish::publish_all(
            Arc::clone(&worker),
            Arc::clone(&leases),
            Arc::clone(&contact),
            store_lost.clone(),
            from_device,
        ));

        // Past a fence the device thread waits for a beat, and claiming for the device thread: only this
        // clock notices a queue that never comes back.
        let end = tokio::select! {
            end = claim::claim_all(&worker, &leases, &contact, &room, &to_device) => end,
            () = contact.lost_for(worker.settings.give_up_after) => Ok(WorkerEnd::QueueLost),
            () = store_lost.cancelled() => Ok(WorkerEnd::StoreLost),
        };
        if matches!(end, Err(_) | Ok(WorkerEnd::QueueLost | WorkerEnd::StoreLost | WorkerEnd::Banned)) {
            halt.cancel();
        }
        // No more shards: the stages empty themselves one after the other.
        drop(to_device);
        publisher.await.map_err(|_| WorkerError::DeviceThread)?;
        tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join))
            .await
            .map_err(|_| WorkerError::DeviceThread)?
            .map_err(|_| WorkerError::DeviceThread)?;
        if let Some(share) = busy.share() {
            tracing::info!(devices, "the devices worked {:.1} % of the time", 100.0 * share);
        }
        match end? {
            _ if worker.stop.is_cancelled() => Ok(WorkerEnd::Stopped),
            // Nobody told it to stop: the device threads take no shards any more.
            WorkerEnd::Stopped => Err(WorkerError::DeviceThread),
            end => Ok(end),
        }
    }
}
