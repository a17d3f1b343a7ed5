//! Claims shards one by one and hands them, fetched and prepared, to the device thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use shared::ids::ClaimNonce;
use shared::queue::{Claim, ClaimReply, FailKind, Lease, QueueError};
use tokio::sync::{Semaphore, mpsc};

use super::embed::PreparedShard;
use super::fetch::{ShardError, fetch};
use super::lease::{HeldLease, Leases};
use super::talk::{Contact, pause, persist};
use super::{Worker, WorkerEnd};

/// How long a claim that is on its way when the worker is told to stop is waited for.
const AFTER_STOP: Duration = Duration::from_secs(5);

/// Claims until the run, the worker or the queue ends.
pub async fn claim_all(
    worker: &Arc<Worker>,
    leases: &Arc<Leases>,
    contact: &Arc<Contact>,
    room: &Arc<Semaphore>,
    to_device: &mpsc::Sender<PreparedShard>,
) -> Result<WorkerEnd, QueueError> {
    let mut unknown = 0;
    let mut store = StoreTrouble::default();
    loop {
        let Ok(place) = Arc::clone(room).acquire_owned().await else {
            return Ok(WorkerEnd::Stopped);
        };
        if worker.stop.is_cancelled() {
            return Ok(WorkerEnd::Stopped);
        }
        let (reply, sent_at) = tokio::select! {
            // A claim on its way may hold a lease that must be given back.
            () = a_while_after_stop(worker) => return Ok(WorkerEnd::Stopped),
            reply = claim(worker, contact) => match reply {
                Ok(reply) => reply,
                Err(error) if error.is_transient() => return Ok(WorkerEnd::QueueLost),
                Err(error) => return Err(error),
            },
        };
        match reply {
            ClaimReply::Leases(claimed) => {
                unknown = 0;
                let mut place = Some(place);
                for lease in claimed {
                    let held = leases.hold(lease, sent_at);
                    match prepare(worker, &held).await {
                        Ok(mut shard) => {
                            store = StoreTrouble::default();
                            shard.place = place.take();
                            if to_device.send(shard).await.is_err() {
                                return Ok(WorkerEnd::Stopped);
                            }
                        }
                        Err(error) => {
                            let away = matches!(error, ShardError::GiveBack(_));
                            end_without_part(worker, leases, contact, &held, error).await;
                            if away && store.lasts() >= worker.settings.give_up_after {
                                return Ok(WorkerEnd::StoreLost);
                            }
                            // Neither a store that is away nor a bad shard may be hammered.
                            tokio::time::sleep(pause(store.tries)).await;
                        }
                    }
                }
                continue;
            }
            ClaimReply::Wait(_) | ClaimReply::Paused => unknown = 0,
            ClaimReply::Draining => return Ok(WorkerEnd::Draining),
            ClaimReply::Finished => return Ok(WorkerEnd::Finished),
            ClaimReply::Stuck => return Ok(WorkerEnd::Stuck),
            ClaimReply::Banned => return Ok(WorkerEnd::Banned),
            ClaimReply::UnknownRun => {
                tracing::warn!(
                    "the queue does not know the run; `coordinator resume` rebuilds it from the store"
                );
                if contact.silence() >= worker.settings.give_up_after {
                    return Ok(WorkerEnd::QueueLost);
                }
                unknown += 1;
            }
        }
        drop(place);
        let (shortest, longest) = worker.settings.claim_poll;
        let poll = shortest + longest.saturating_sub(shortest).mul_f64(rand::rng().random_range(0.0..1.0));
        rest(worker, leases, if unknown > 0 { poll.max(pause(unknown)) } else { poll }).await;
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
async fn claim(worker: &Arc<Worker>, contact: &Arc<Contact>) -> Result<(ClaimReply, Instant), QueueError> {
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

async fn prepare(worker: &Arc<Worker>, held: &Arc<HeldLease>) -> Result<PreparedShard, ShardError> {
    tracing::debug!(shard = %held.lease().shard, attempt = held.lease().attempt, "claimed");
    if worker.stop.is_cancelled() {
        return Err(ShardError::stopped());
    }
    let bundle = fetch(&worker.store, &worker.plan.run, held.lease()).await?;
    let (worker, held) = (Arc::clone(worker), Arc::clone(held));
    // A panic in one shard fails that shard alone.
    let prepared = tokio::task::spawn_blocking(move || PreparedShard::prepare(&worker, held, &bundle)).await;
    prepared.map_err(|error| ShardError::panic(error.into_panic().as_ref()))?
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

async fn rest(worker: &Worker, leases: &Leases, duration: Duration) {
    tokio::select! {
        () = worker.stop.cancelled() => {}
        () = leases.one_ended() => {}
        () = tokio::time::sleep(duration) => {}
    }
}
