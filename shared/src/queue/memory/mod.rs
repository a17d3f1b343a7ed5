//! The queue of a single machine: several workers of one process share it behind an `Arc`.
//!
//! It is also the model that the Redis queue is tested against. Every shard changes through
//! [`apply`](super::transition::apply) alone, every operation holds one lock for O(log n), and the time is that of a
//! [`Clock`].

mod run;

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::ids::{LeaseToken, ShardId, WorkerId};

use super::admission::{LEASES_PER_CLAIM, REAPED_PER_CLAIM, check_part, check_shards, unknown_run};
use super::clock::Clock;
use super::transition::{EndedBy, Event, Failure, Refusal, Shard, State};
use super::view::is_banned;
use super::{
    Beat, BeatAnswer, BeatReply, BeatShard, Claim, ClaimReply, CompleteReply, CompletedPart, FailKind,
    FailReply, NewShard, Queue, QueueError, QueueSettings, ReleaseReply, RunState, ServerTime, Snapshot,
};
use run::Run;

/// A run's queue in this process. What it holds is lost with the process, and rebuilt from the store.
#[derive(Debug)]
pub struct MemoryQueue {
    clock: Clock,
    run: Mutex<Option<Run>>,
}

impl MemoryQueue {
    /// A queue that knows no run yet; [`Queue::add`] makes it.
    pub fn new(clock: Clock) -> Self {
        Self { clock, run: Mutex::new(None) }
    }

    /// A panic elsewhere cannot leave a run half changed: each step is applied whole.
    fn lock(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, operation: &str, state: RunState) -> Result<(), QueueError> {
        let mut guard = self.lock();
        let run = guard.as_mut().ok_or_else(|| unknown_run(operation, "this run"))?;
        run.state = state;
        Ok(())
    }

    /// Makes one change of a shard, where the run is known.
    fn step(&self, shard: ShardId, event: &Event<'_>) -> Result<Shard, Refusal> {
        let now = self.clock.now();
        self.lock().as_mut().ok_or(Refusal::NotHeld)?.step(shard, event, now)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn add(&self, settings: &QueueSettings, shards: &[NewShard]) -> Result<u64, QueueError> {
        check_shards(shards)?;
        let now = self.clock.now();
        let mut guard = self.lock();
        let run = guard.get_or_insert_with(|| Run::new(settings.clone(), now));
        let mut new = 0;
        for shard in shards {
            let fresh = Shard::new(shard.bundle.clone(), shard.items, shard.part.clone());
            new += u64::from(run.insert(shard.id, fresh));
        }
        Ok(new)
    }

    async fn claim(&self, claim: &Claim) -> Result<ClaimReply, QueueError> {
        let now = self.clock.now();
        let mut guard = self.lock();
        Ok(guard.as_mut().map_or(ClaimReply::UnknownRun, |run| claim_from(run, claim, now)))
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, QueueError> {
        let now = self.clock.now();
        let mut guard = self.lock();
        let Some(run) = guard.as_mut() else {
            let shards = beat.shards.iter().map(|held| (held.shard, BeatAnswer::Lost)).collect();
            return Ok(BeatReply { shards, run: None });
        };
        run.touch(&beat.worker, &beat.info, now);
        let answer = |held: &BeatShard| (held.shard, beat_one(run, &beat.worker, held, now));
        let shards = beat.shards.iter().map(answer).collect();
        Ok(BeatReply { shards, run: Some(run.state) })
    }

    async fn complete(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
        part: &CompletedPart,
    ) -> Result<CompleteReply, QueueError> {
        check_part(shard, part)?;
        let now = self.clock.now();
        let mut guard = self.lock();
        let Some(run) = guard.as_mut() else {
            return Ok(CompleteReply::Lost);
        };
        match run.step(shard, &Event::Complete { worker, token, part }, now) {
            Ok(before) => {
                run.count_items(part.embedded.saturating_sub(embedded_before(&before)), now);
                if let Some(worker) = run.worker_mut(worker) {
                    worker.items_done += part.embedded;
                }
                Ok(CompleteReply::Ok)
            }
            Err(Refusal::AlreadyEnded(EndedBy::Completed)) => Ok(CompleteReply::Duplicate),
            Err(_) => Ok(CompleteReply::Lost),
        }
    }

    async fn fail(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
        kind: FailKind,
        message: &str,
    ) -> Result<FailReply, QueueError> {
        let now = self.clock.now();
        let mut guard = self.lock();
        let Some(run) = guard.as_mut() else {
            return Ok(FailReply::Lost);
        };
        let (host, largest_memory) = (run.host_of(worker), run.largest_memory(kind.memory()));
        let failure = Failure { kind, message, host: &host, largest_memory };
        match run.step(shard, &Event::Fail { worker, token, failure }, now) {
            Ok(_) => {
                run.see_memory(kind.memory());
                if kind == FailKind::Host
                    && let Some(worker) = run.worker_mut(worker)
                {
                    worker.host_failures += 1;
                }
                let dead = run.shard(shard).is_some_and(|shard| shard.state == State::Dead);
                Ok(if dead { FailReply::Dead } else { FailReply::Retry })
            }
            Err(Refusal::AlreadyEnded(EndedBy::Retry)) => Ok(FailReply::Retry),
            Err(Refusal::AlreadyEnded(EndedBy::Dead)) => Ok(FailReply::Dead),
            Err(_) => Ok(FailReply::Lost),
        }
    }

    async fn release(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
    ) -> Result<ReleaseReply, QueueError> {
        Ok(match self.step(shard, &Event::Release { worker, token }) {
            Ok(_) | Err(Refusal::AlreadyEnded(EndedBy::Released)) => ReleaseReply::Ok,
            Err(_) => ReleaseReply::Lost,
        })
    }

    async fn reconcile(&self, shard: ShardId, part: Option<&CompletedPart>) -> Result<(), QueueError> {
        let event = match part {
            Some(part) => {
                check_part(shard, part)?;
                Event::PartFound(part)
            }
            None => Event::PartGone,
        };
        // Refused where there is nothing to reconcile, which is as it should be.
        let _ = self.step(shard, &event);
        Ok(())
    }

    async fn pause(&self) -> Result<(), QueueError> {
        self.set_state("pause", RunState::Paused)
    }

    async fn unpause(&self) -> Result<(), QueueError> {
        // A run that is not known has no pause to end.
        let _ = self.set_state("unpause", RunState::Running);
        Ok(())
    }

    async fn drain(&self) -> Result<(), QueueError> {
        self.set_state("drain", RunState::Draining)
    }

    async fn requeue_dead(&self) -> Result<u64, QueueError> {
        let now = self.clock.now();
        Ok(self.lock().as_mut().map_or(0, |run| run.requeue_dead(now)))
    }

    async fn requeue_done(&self, shard: ShardId) -> Result<bool, QueueError> {
        Ok(self.step(shard, &Event::RequeueDone).is_ok())
    }

    async fn forget(&self) -> Result<(), QueueError> {
        *self.lock() = None;
        Ok(())
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>, QueueError> {
        let now = self.clock.now();
        let stored = self.lock().as_ref().map(|run| run.stored(now));
        Ok(stored.map(super::view::Stored::snapshot))
    }
}

/// The order of the answers: what is certain for every worker first (all done), then what concerns
/// this worker, then the run's state, then shards.
fn claim_from(run: &mut Run, claim: &Claim, now: ServerTime) -> ClaimReply {
    let worker = run.touch(&claim.worker, &claim.info, now);
    let host_failures = worker.host_failures;
    let granted_before = worker.granted_nonce.as_ref() == Some(&claim.nonce);
    run.see_memory(claim.info.memory);
    run.look_after(now, REAPED_PER_CLAIM);

    let again = run.leases_of(claim);
    if !again.is_empty() {
        return ClaimReply::Leases(again);
    }
    if granted_before {
        // Its leases stand no more. A repeat that arrives late must not take others, which nobody
        // would work on.
        return ClaimReply::Wait(now);
    }
    let counts = run.counts();
    if counts.total() > 0 && counts.done == counts.total() {
        return ClaimReply::Finished;
    }
    if is_banned(host_failures, run.settings.host_failures_to_ban) {
        return ClaimReply::Banned;
    }
    match run.state {
        RunState::Draining => return ClaimReply::Draining,
        RunState::Paused => return ClaimReply::Paused,
        RunState::Running => {}
    }
    let leases = run.grant(claim, claim.max.clamp(1, LEASES_PER_CLAIM) as usize, now);
    if !leases.is_empty() {
        if let Some(worker) = run.worker_mut(&claim.worker) {
            worker.granted_nonce = Some(claim.nonce.clone());
        }
        return ClaimReply::Leases(leases);
    }
    match run.next_change() {
        Some(time) => ClaimReply::Wait(time),
        // Without any shard the run is still being made.
        None if counts.total() == 0 => ClaimReply::Wait(now),
        None => ClaimReply::Stuck,
    }
}

fn beat_one(run: &mut Run, worker: &WorkerId, held: &BeatShard, now: ServerTime) -> BeatAnswer {
    let BeatShard { shard, token, items_done, in_flight } = *held;
    match run.step(shard, &Event::Beat { worker, token, items_done, in_flight }, now) {
        Ok(before) => {
            run.count_items(items_done.saturating_sub(embedded_before(&before)), now);
            BeatAnswer::Extended(super::transition::later(now, run.settings.lease))
        }
        Err(_) if run.shard(shard).is_some_and(|shard| matches!(shard.state, State::Done(_))) => {
            BeatAnswer::Cancelled
        }
        Err(_) => BeatAnswer::Lost,
    }
}

/// Items that beats have already counted for the lease that stood.
fn embedded_before(before: &Shard) -> u64 {
    match &before.state {
        State::Leased(held) => held.items_done,
        _ => 0,
    }
}
