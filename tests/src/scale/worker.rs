//! A simulated worker: it claims, beats and completes as a real one does, and embeds nothing.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use shared::ids::{ClaimNonce, ContentName, Sha16, WorkerId};
use shared::queue::redis::RedisQueue;
use shared::queue::{
    Beat, BeatShard, Claim, ClaimReply, CompleteReply, CompletedPart, ItemRange, Lease, Queue as _,
    QueueError, WorkerInfo,
};
use tokio::time::{Instant, sleep_until};

use super::samples::Samples;

/// How long a worker waits where there is nothing to claim.
const POLL: (f64, f64) = (2.0, 5.0);
/// The same for one that works without a pause.
const EAGER_POLL: (f64, f64) = (0.02, 0.05);

/// What a worker, or a whole fleet, did in one phase.
#[derive(Debug, Default)]
pub struct Work {
    /// Claims that gave a lease.
    pub claims: Samples,
    /// Claims that gave none.
    pub empty_claims: Samples,
    /// Beats.
    pub beats: Samples,
    /// Completions.
    pub completes: Samples,
    /// The shards whose completion was answered with OK, in that order.
    pub done: Vec<u64>,
    /// Completions that were refused: the lease was lost.
    pub lost: u64,
}

impl Work {
    /// Takes in that of another.
    pub fn merge(&mut self, other: Self) {
        self.claims.merge(other.claims);
        self.empty_claims.merge(other.empty_claims);
        self.beats.merge(other.beats);
        self.completes.merge(other.completes);
        self.done.extend(other.done);
        self.lost += other.lost;
    }

    /// Calls of all kinds.
    pub fn calls(&self) -> usize {
        self.claims.count() + self.empty_claims.count() + self.beats.count() + self.completes.count()
    }
}

/// One worker with what it holds.
pub struct SimulatedWorker {
    id: WorkerId,
    info: WorkerInfo,
    queue: Arc<RedisQueue>,
    lease: Duration,
    held: Option<Lease>,
    /// Whether it was told that all shards are done.
    pub is_finished: bool,
    /// What it did since this was last taken.
    pub work: Work,
}

impl SimulatedWorker {
    /// The `number`th worker of a fleet, whose leases last so long.
    pub fn new(number: usize, queue: Arc<RedisQueue>, lease: Duration) -> Self {
        // As long as those of a real worker on a rented box.
        let info = WorkerInfo {
            host: format!("host-{number:05}"),
            device: "NVIDIA GeForce RTX 4090 (8.9)".to_owned(),
            version: "0.1.0".to_owned(),
            memory: 24 << 30,
            busy_percent: Some(97),
            instance: format!("embed-fleet-scale-{number}"),
        };
        let id = WorkerId::fresh(&info.host);
        Self { id, info, queue, lease, held: None, is_finished: false, work: Work::default() }
    }

    /// Asks for one shard, holding none.
    pub async fn claim(&mut self) -> Result<(), QueueError> {
        let claim =
            Claim { worker: self.id.clone(), info: self.info.clone(), nonce: ClaimNonce::fresh(), max: 1 };
        let sent = Instant::now();
        let reply = self.queue.claim(&claim).await?;
        let took = sent.elapsed();
        self.is_finished = reply == ClaimReply::Finished;
        if let ClaimReply::Leases(mut leases) = reply {
            self.held = leases.pop();
        }
        if self.held.is_some() {
            self.work.claims.note(took);
        } else {
            self.work.empty_claims.note(took);
        }
        Ok(())
    }

    /// The beat that it would send now: half of what it holds is done, and a batch in flight.
    pub fn next_beat(&self) -> Beat {
        let shards = self.held.iter().map(|held| BeatShard {
            shard: held.shard,
            token: held.token,
            items_done: held.items / 2,
            in_flight: Some(ItemRange { first: 0, end: 16 }),
        });
        Beat { worker: self.id.clone(), info: self.info.clone(), shards: shards.collect() }
    }

    /// Says that it lives.
    pub async fn beat(&mut self) -> Result<(), QueueError> {
        let beat = self.next_beat();
        let sent = Instant::now();
        self.queue.beat(&beat).await?;
        self.work.beats.note(sent.elapsed());
        Ok(())
    }

    /// Completes what it holds with a part of all items.
    pub async fn complete(&mut self) -> Result<(), QueueError> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let name = ContentName { shard: held.shard, sha: Sha16::of(&held.token.0.to_be_bytes()) };
        let part = CompletedPart { name, embedded: held.items, failed: 0 };
        let sent = Instant::now();
        let reply = self.queue.complete(&self.id, held.shard, held.token, &part).await?;
        self.work.completes.note(sent.elapsed());
        match reply {
            CompleteReply::Ok => self.work.done.push(held.shard.0),
            CompleteReply::Duplicate | CompleteReply::Lost => self.work.lost += 1,
        }
        Ok(())
    }

    /// Works until `end`: every shard takes between half and one and a half times `mean`, and a beat goes
    /// out every quarter of a lease. What it holds at first is taken to be half way through, at random.
    pub async fn work_paced(&mut self, mean: Duration, end: Instant) -> Result<(), QueueError> {
        let mut next_step = Instant::now() + mean.mul_f64(drawn(0.0, 1.0));
        let mut next_beat = Instant::now() + (self.lease / 4).mul_f64(drawn(0.0, 1.0));
        while next_step.min(next_beat) < end {
            sleep_until(next_step.min(next_beat)).await;
            if next_beat <= next_step {
                self.beat().await?;
                next_beat = Instant::now() + (self.lease / 4).mul_f64(drawn(0.9, 1.0));
                continue;
            }
            self.complete().await?;
            self.claim().await?;
            next_step = Instant::now()
                + match self.held {
                    Some(_) => mean.mul_f64(drawn(0.5, 1.5)),
                    None => Duration::from_secs_f64(drawn(POLL.0, POLL.1)),
                };
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Works until `end`, or until all shards are done: claims, beats once and completes, without a pause.
    pub async fn work_flat_out(&mut self, end: Instant) -> Result<(), QueueError> {
        while Instant::now() < end {
            if self.held.is_some() {
                self.beat().await?;
                self.complete().await?;
            }
            self.claim().await?;
            if self.is_finished {
                break;
            }
            if self.held.is_none() {
                let wake = Instant::now() + Duration::from_secs_f64(drawn(EAGER_POLL.0, EAGER_POLL.1));
                sleep_until(wake).await;
            }
        }
        Ok(())
    }
}

fn drawn(low: f64, high: f64) -> f64 {
    rand::rng().random_range(low..high)
}
