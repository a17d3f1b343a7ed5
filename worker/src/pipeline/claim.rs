//! Claims shards one by one and hands them, fetched and prepared, to the device thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use shared::ids::ClaimNonce;
use shared::queue::{Claim, ClaimReply, FailKind, Lease, QueueError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::embed::PreparedShard;
use super::fetch::{ShardError, fetch};
use super::lease::{HeldLease, Leases};
use super::talk::{Contact, pause, persist};
use super::{Pass, Worker, WorkerEnd};

/// How long a claim that is on its way when the worker is told to stop is waited for.
const AFTER_STOP: Duration = Duration::from_secs(5);

/// The claiming stage of a worker.
pub struct Claims<'a> {
    /// Whose.
    pub worker: &'a Arc<Worker>,
    /// What it holds.
    pub leases: &'a Leases,
    /// When the queue last answered.
    pub contact: &'a Contact,
    /// How many shards fit into its memory.
    pub room: Arc<Semaphore>,
    /// Where prepared shards go.
    pub to_device: mpsc::Sender<PreparedShard>,
    /// Cancelled when nothing may start any more.
    pub halt: CancellationToken,
}

impl Claims<'_> {
    /// Works on a lease that a search was made for, where there is one, then claims until the run, the
    /// worker or the queue ends, or a search must be made.
    pub async fn run(&self, searched: Option<Arc<HeldLease>>) -> Result<Pass, QueueError> {
        let mut searched = searched;
        let mut unknown = 0;
        let mut store = StoreTrouble::default();
        loop {
            let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
                return Ok(Pass::Ended(WorkerEnd::Stopped));
            };
            if let Some(held) = searched.take() {
                if let Some(end) = self.take_up(&held, place, &mut store).await {
                    return Ok(Pass::Ended(end));
                }
                continue;
            }
            if self.worker.stop.is_cancelled() {
                return Ok(Pass::Ended(WorkerEnd::Stopped));
            }
            let (reply, sent_at) = tokio::select! {
                // A claim on its way may hold a lease that must be given back.
                () = a_while_after_stop(self.worker) => return Ok(Pass::Ended(WorkerEnd::Stopped)),
                reply = claim(self.worker, self.contact) => match reply {
                    Ok(reply) => reply,
                    Err(error) if error.is_transient() => return Ok(Pass::Ended(WorkerEnd::QueueLost)),
                    Err(error) => return Err(error),
                },
            };
            let end = match reply {
                ClaimReply::Leases(claimed) => {
                    unknown = 0;
                    // One is asked for at a time.
                    let Some(lease) = claimed.into_iter().next() else { continue };
                    let suspected = lease.isolate.is_some();
                    let held = self.leases.hold(lease, sent_at);
                    if suspected && self.worker.isolation.is_some() {
                        return Ok(Pass::Search(held));
                    }
                    match self.take_up(&held, place, &mut store).await {
                        Some(end) => return Ok(Pass::Ended(end)),
                        None => continue,
                    }
                }
                ClaimReply::Wait(_) | ClaimReply::Paused => {
                    unknown = 0;
                    None
                }
                ClaimReply::Draining => Some(WorkerEnd::Draining),
                ClaimReply::Finished => Some(WorkerEnd::Finished),
                ClaimReply::Stuck => Some(WorkerEnd::Stuck),
                ClaimReply::Banned => Some(WorkerEnd::Banned),
                ClaimReply::UnknownRun => {
                    unknown += 1;
                    tracing::warn!(
                        "the queue does not know the run; `coordinator resume` rebuilds it from the store"
                    );
                    let given_up = self.contact.silence() >= self.worker.settings.give_up_after;
                    given_up.then_some(WorkerEnd::QueueLost)
                }
            };
            if let Some(end) = end {
                return Ok(Pass::Ended(end));
            }
            drop(place);
            self.rest(unknown).await;
        }
    }

    /// Fetches and prepares a shard and hands it to the device; an end where the worker cannot go on.
    async fn take_up(
        &self,
        held: &Arc<HeldLease>,
        place: OwnedSemaphorePermit,
        store: &mut StoreTrouble,
    ) -> Option<WorkerEnd> {
        match self.prepare(held).await {
            Ok(mut shard) => {
                *store = StoreTrouble::default();
                shard.place = Some(place);
                self.to_device.send(shard).await.is_err().then_some(WorkerEnd::Stopped)
            }
            Err(error) => {
                let away = matches!(error, ShardError::GiveBack(_));
                end_without_part(self.worker, self.leases, self.contact, held, error).await;
                if away && store.lasts() >= self.worker.settings.give_up_after {
                    return Some(WorkerEnd::StoreLost);
                }
                // Neither a store that is away nor a bad shard may be hammered.
                tokio::time::sleep(pause(store.tries)).await;
                None
            }
        }
    }

    async fn prepare(&self, held: &Arc<HeldLease>) -> Result<PreparedShard, ShardError> {
        let worker = self.worker;
        tracing::debug!(shard = %held.lease().shard, attempt = held.lease().attempt, "claimed");
        if worker.stop.is_cancelled() {
            return Err(ShardError::stopped());
        }
        let bundle = fetch(&worker.store, &worker.plan.run, held.lease()).await?;
        let (worker, held, halt) = (Arc::clone(worker), Arc::clone(held), self.halt.clone());
        // A panic in one shard fails that shard alone.
        let prepared =
            tokio::task::spawn_blocking(move || PreparedShard::prepare(&worker, held, &bundle, &halt)).await;
        prepared.map_err(|error| ShardError::panic(error.into_panic().as_ref()))?
    }

    /// Waits before the next claim; longer where the run was unknown several times.
    async fn rest(&self, unknown: u32) {
        let (shortest, longest) = self.worker.settings.claim_poll;
        let poll = shortest + longest.saturating_sub(shortest).mul_f64(rand::rng().random_range(0.0..1.0));
        let duration = if unknown > 0 { poll.max(pause(unknown)) } else { poll };
        tokio::select! {
            () = self.worker.stop.cancelled() => {}
            () = self.leases.one_ended() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }
}

/// How long the store has refused every bundle, one after the other.
#[derive(Debug, Default)]
struct StoreTrouble {
    tries: u32,
    since: Option<Instant>,
}

impl StoreTrouble {
    /// Counts another refusal, and tells how long they have lasted.
    fn lasts(&mut self) -> Duration {
        self.tries += 1;
        self.since.get_or_insert_with(Instant::now).elapsed()
    }
}

/// Ends some seconds after the worker was told to stop.
async fn a_while_after_stop(worker: &Worker) {
    worker.stop.cancelled().await;
    tokio::time::sleep(AFTER_STOP).await;
}

/// One claim, repeated with the same nonce while its reply is lost. Answers with the moment the first
/// try was sent: a lease given to it cannot end before that moment plus its length.
async fn claim(worker: &Worker, contact: &Contact) -> Result<(ClaimReply, Instant), QueueError> {
    let request =
        Claim { worker: worker.id.clone(), info: worker.info_now(), nonce: ClaimNonce::fresh(), max: 1 };
    let sent_at = Instant::now();
    let mut tries = 0;
    loop {
        match worker.queue.claim(&request).await {
            Ok(reply) => {
                if reply != ClaimReply::UnknownRun {
                    contact.made();
                }
                return Ok((reply, sent_at));
            }
            Err(error) if error.is_transient() && contact.silence() < worker.settings.give_up_after => {
                tracing::warn!(%error, "the queue does not answer; trying again");
                tokio::time::sleep(pause(tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Ends a lease that gave no part: counts it against the shard or the machine, or gives it back.
pub async fn end_without_part(
    worker: &Worker,
    leases: &Leases,
    contact: &Contact,
    held: &HeldLease,
    error: ShardError,
) {
    let Lease { shard, token, .. } = held.lease().clone();
    let give_up = worker.settings.give_up_after;
    let failed = match error {
        ShardError::GiveBack(_) | ShardError::Lost => None,
        ShardError::Shard(_) => Some(FailKind::Retry),
        ShardError::Host(_) => Some(FailKind::Host),
        ShardError::OutOfMemory { item, memory } => Some(FailKind::OutOfMemory { item, memory }),
    };
    let ended = if let Some(kind) = failed {
        tracing::warn!(%shard, %error, "failed");
        let message = error.to_string();
        persist(contact, give_up, || worker.queue.fail(&worker.id, shard, token, kind, &message))
            .await
            .map(|_| ())
    } else if matches!(error, ShardError::GiveBack(_)) {
        tracing::info!(%shard, reason = %error, "given back");
        persist(contact, give_up, || worker.queue.release(&worker.id, shard, token)).await.map(|_| ())
    } else {
        Ok(())
    };
    // Unsaid, the lease simply expires.
    if let Err(error) = ended {
        tracing::warn!(%shard, %error, "could not end the lease; it expires by itself");
    }
    leases.put_down(held);
}
