//! A worker's life: claim and fetch the next shards while one is embedded and another is published.
//!
//! ```text
//!  claim ──► fetch ──► prepare ─┐ a bounded      ┌─► embed (one OS thread for each device) ─┐
//!  (async)   (async)   (CPU     ├───────────────►┤                                          │
//!                      threads) ┘ channel        └── publish: npz, upload, complete ◄───────┘
//!  beat: every quarter of a lease, for all leases held
//! ```
//!
//! A shard that fails, or panics, fails alone. Memory is bounded by the shards held.
//!
//! A shard on which workers died comes with a range of suspected items. The worker then ends the pass that
//! is going on, gives its devices free, searches the range in child processes ([`crate::isolate`]), loads
//! the model again, and begins another pass with that shard.

mod beat;
pub mod busy;
mod claim;
mod device;
mod embed;
mod fetch;
mod lease;
mod publish;
mod search;
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
use crate::isolate::Isolation;
use busy::BusyMeter;
use device::DeviceThread;
use fetch::ShardError;
use lease::{HeldLease, Leases};
use search::{Between, load_again, search};
use talk::Contact;

pub(crate) use embed::settle;

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
    /// How long a batch, or the preparation of a shard, may take before the worker ends: an item may hang it.
    pub step_limit: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            give_up_after: Duration::from_secs(30 * 60),
            budget: BatchBudget::CPU,
            claim_poll: (Duration::from_secs(2), Duration::from_secs(5)),
            step_limit: Duration::from_secs(60 * 60),
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
    /// How it finds items that kill it; `None` where it has no process of its own to lose.
    pub isolation: Option<Isolation>,
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
    /// A step was not through in time, and its thread cannot be stopped: the process must end.
    Hung,
    /// Told to stop.
    Stopped,
}

/// How a pass of the pipeline ends.
pub(crate) enum Pass {
    /// With the worker.
    Ended(WorkerEnd),
    /// With a shard whose suspected items must be searched.
    Search(Arc<HeldLease>),
}

/// Who beats: all of a worker that outlives its passes.
#[derive(Clone)]
pub(crate) struct Member {
    id: WorkerId,
    info: WorkerInfo,
    queue: Arc<dyn Queue>,
    busy: Arc<BusyMeter>,
    give_up_after: Duration,
}

impl Member {
    /// What the worker says of itself now.
    fn info_now(&self) -> WorkerInfo {
        info_now(&self.info, &self.busy)
    }
}

fn info_now(info: &WorkerInfo, busy: &BusyMeter) -> WorkerInfo {
    let busy_percent = busy.share().map(|share| (100.0 * share).round() as u8);
    WorkerInfo { busy_percent, ..info.clone() }
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
    /// The model was given free for a search and cannot be loaded again.
    #[error("the model cannot be loaded again: {0}")]
    Reload(String),
}

impl Worker {
    /// What it says of itself now.
    fn info_now(&self) -> WorkerInfo {
        info_now(&self.info, &self.busy)
    }

    /// Prepares items: all its embedders do that alike.
    fn preparer(&self) -> &dyn Embedder {
        self.embedders[0].as_ref()
    }

    fn member(&self) -> Member {
        Member {
            id: self.id.clone(),
            info: self.info.clone(),
            queue: Arc::clone(&self.queue),
            busy: Arc::clone(&self.busy),
            give_up_after: self.settings.give_up_after,
        }
    }

    /// Works until there is nothing left to do, or the worker is told to stop.
    pub async fn run(self) -> Result<WorkerEnd, WorkerError> {
        let (leases, contact) = (Arc::new(Leases::default()), Arc::new(Contact::new()));
        let beats =
            tokio::spawn(beat::beat_forever(self.member(), Arc::clone(&leases), Arc::clone(&contact)));
        let _beats = AbortOnDropHandle::new(beats);
        let mut worker = self;
        let mut searched = None;
        loop {
            let without_model = Self { embedders: Vec::new(), ..worker.clone() };
            let suspected = match pass(worker, &leases, &contact, searched.take()).await? {
                Pass::Ended(end) => return Ok(end),
                Pass::Search(held) => held,
            };
            let Some(isolation) = &without_model.isolation else { return Err(WorkerError::DeviceThread) };
            let between = async {
                search(&without_model, isolation, &suspected).await;
                load_again(isolation).await
            };
            let loaded = tokio::select! {
                loaded = between => loaded,
                () = suspected.until_lost() => load_again(isolation).await,
                () = without_model.stop.cancelled() => Err(Between::Over(WorkerEnd::Stopped)),
                () = contact.lost_for(without_model.settings.give_up_after) => {
                    return Ok(WorkerEnd::QueueLost);
                }
            };
            match loaded {
                Ok(embedders) => worker = Self { embedders, ..without_model },
                Err(between) => {
                    let why = ShardError::GiveBack("the worker ends in a search".to_owned());
                    claim::end_without_part(&without_model, &leases, &contact, &suspected, why).await;
                    return between.into_end();
                }
            }
            searched = Some(suspected);
        }
    }
}

/// One pass of the pipeline with the model loaded, until the worker ends or a search must be made. Nothing
/// of the worker is left when it has ended.
async fn pass(
    worker: Worker,
    leases: &Arc<Leases>,
    contact: &Arc<Contact>,
    searched: Option<Arc<HeldLease>>,
) -> Result<Pass, WorkerError> {
    let worker = Arc::new(worker);
    let devices = worker.embedders.len();
    let (to_device, from_fetch) = mpsc::channel(devices.max(1));
    let (to_publisher, from_device) = mpsc::channel(devices.max(1));
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
        Arc::clone(leases),
        Arc::clone(contact),
        store_lost.clone(),
        from_device,
    ));
    let claims = claim::Claims {
        worker: &worker,
        leases,
        contact,
        room: Arc::new(Semaphore::new(held_at_most(devices))),
        to_device,
        halt: halt.clone(),
    };
    let joined = async {
        // Past a fence the device thread waits for a beat, and claiming for the device thread: only this
        // clock notices a queue that never comes back.
        let end = tokio::select! {
            end = claims.run(searched) => end,
            () = contact.lost_for(worker.settings.give_up_after) => Ok(Pass::Ended(WorkerEnd::QueueLost)),
            () = store_lost.cancelled() => Ok(Pass::Ended(WorkerEnd::StoreLost)),
        };
        let broken = [WorkerEnd::QueueLost, WorkerEnd::StoreLost, WorkerEnd::Banned];
        if matches!(&end, Ok(Pass::Ended(end)) if broken.contains(end)) || end.is_err() {
            halt.cancel();
        }
        // No more shards: the stages empty themselves one after the other. A queue that is lost meanwhile
        // must not keep a device thread waiting for its lease.
        drop(claims);
        let mut publisher = publisher;
        tokio::select! {
            published = &mut publisher => published.map_err(|_| WorkerError::DeviceThread)?,
            () = contact.lost_for(worker.settings.give_up_after) => {
                halt.cancel();
                publisher.await.map_err(|_| WorkerError::DeviceThread)?;
            }
        }
        tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join))
            .await
            .map_err(|_| WorkerError::DeviceThread)?
            .map_err(|_| WorkerError::DeviceThread)?;
        end.map_err(WorkerError::Queue)
    };
    let end = tokio::select! {
        end = joined => end?,
        held = leases.overdue(worker.settings.step_limit) => {
            give_up(&worker, leases, &held).await;
            return Ok(Pass::Ended(WorkerEnd::Hung));
        }
    };
    if let Some(share) = busy.share() {
        tracing::info!(devices, "the devices worked {:.1} % of the time", 100.0 * share);
    }
    match end {
        Pass::Ended(_) if worker.stop.is_cancelled() => Ok(Pass::Ended(WorkerEnd::Stopped)),
        // Nobody told it to stop: the device threads take no shards any more.
        Pass::Ended(WorkerEnd::Stopped) => Err(WorkerError::DeviceThread),
        end => Ok(end),
    }
}

/// A step hangs: its lease is left to expire, so that the queue counts it against its items, and the others
/// go back.
async fn give_up(worker: &Worker, leases: &Leases, hung: &HeldLease) {
    let limit = worker.settings.step_limit;
    tracing::error!(
        shard = %hung.lease().shard,
        "a step of this shard is not through after {limit:?} (--step-limit): an item or the device hangs; \
         the worker ends, and its shards go to others"
    );
    for held in leases.all() {
        let lease = held.lease();
        if lease.shard != hung.lease().shard
            && let Err(error) = worker.queue.release(&worker.id, lease.shard, lease.token).await
        {
            tracing::warn!(shard = %lease.shard, %error, "could not be given back; its lease expires");
        }
    }
}
