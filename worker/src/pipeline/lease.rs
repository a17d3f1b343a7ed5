//! The leases a worker holds, and the fence past which it starts no batch.
//!
//! The fence of a lease is the moment its last accepted claim or beat was *sent*, plus the lease's
//! length, on this machine's monotonic clock: the server's clock started later, so the fence lies
//! before the server's expiry whatever the two clocks say ([`shared::laws::Law::LeasesAreFenced`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::ids::ShardId;
use shared::queue::{BeatAnswer, BeatShard, ItemRange, Lease};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Whether the next batch of a shard may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Go,
    /// The lease is another's, or the shard is done by other means: drop it.
    Lost,
    /// The worker was told to stop: give the lease back.
    Stopped,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    fence: Instant,
    lost: bool,
    items_done: u64,
    in_flight: Option<ItemRange>,
}

/// One lease from claim to its end.
#[derive(Debug)]
pub struct HeldLease {
    lease: Lease,
    standing: Mutex<Standing>,
    changed: Condvar,
}

impl HeldLease {
    /// A lease whose claim was sent at `claimed_at`.
    pub fn new(lease: Lease, claimed_at: Instant) -> Self {
        let fence = claimed_at + lease.lease;
        let standing = Standing { fence, lost: false, items_done: 0, in_flight: None };
        Self { lease, standing: Mutex::new(standing), changed: Condvar::new() }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Says that a batch starts, if it may. Past the fence this waits until a beat has moved the fence,
    /// the lease is lost, or the worker stops.
    pub fn start_batch(&self, range: ItemRange, stop: &CancellationToken) -> Permission {
        let mut standing = self.lock();
        loop {
            if standing.lost {
                return Permission::Lost;
            }
            if stop.is_cancelled() {
                return Permission::Stopped;
            }
            if Instant::now() < standing.fence {
                // The batch before may still run.
                let first = standing.in_flight.map_or(range.first, |running| running.first.min(range.first));
                standing.in_flight = Some(ItemRange { first, end: range.end });
                return Permission::Go;
            }
            // Woken by a beat; the short timeout notices a stop.
            let waited = self.changed.wait_timeout(standing, Duration::from_millis(100));
            standing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that a batch has ended and `items_done` items are embedded; a batch behind it may be in flight.
    pub fn finish_batch(&self, items_done: u64, batch: ItemRange) {
        let mut standing = self.lock();
        standing.items_done = items_done;
        let rest = |running: ItemRange| ItemRange { first: batch.end.max(running.first), end: running.end };
        standing.in_flight = standing.in_flight.map(rest).filter(|rest| rest.first < rest.end);
    }

    /// What the next beat says of this lease.
    fn beat(&self) -> BeatShard {
        let standing = *self.lock();
        BeatShard {
            shard: self.lease.shard,
            token: self.lease.token,
            items_done: standing.items_done,
            in_flight: standing.in_flight,
        }
    }

    /// Takes in the answer to a beat that was sent at `sent_at`.
    fn answer(&self, answer: BeatAnswer, sent_at: Instant) {
        let mut standing = self.lock();
        match answer {
            BeatAnswer::Extended(_) => standing.fence = standing.fence.max(sent_at + self.lease.lease),
            BeatAnswer::Lost | BeatAnswer::Cancelled => standing.lost = true,
        }
        drop(standing);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything a worker holds.
#[derive(Debug, Default)]
pub struct Leases {
    held: Mutex<BTreeMap<ShardId, Arc<HeldLease>>>,
    ended: Notify,
}

impl Leases {
    /// Takes a lease up.
    pub fn hold(&self, lease: Lease, claimed_at: Instant) -> Arc<HeldLease> {
        let held = Arc::new(HeldLease::new(lease, claimed_at));
        self.lock().insert(held.lease.shard, Arc::clone(&held));
        held
    }

    /// Puts a lease down, unless a newer one of the same shard has taken its place.
    pub fn put_down(&self, held: &HeldLease) {
        let mut leases = self.lock();
        if leases.get(&held.lease.shard).is_some_and(|current| current.lease.token == held.lease.token) {
            leases.remove(&held.lease.shard);
        }
        drop(leases);
        self.ended.notify_one();
    }

    /// Waits until a lease has ended: the run may be finished by that.
    pub async fn one_ended(&self) {
        self.ended.notified().await;
    }

    /// What the next beat says.
    pub fn beat(&self) -> Vec<BeatShard> {
        self.lock().values().map(|held| held.beat()).collect()
    }

    /// The shortest lease held.
    pub fn shortest(&self) -> Option<Duration> {
        self.lock().values().map(|held| held.lease.lease).min()
    }

    /// Takes in the answers to a beat that was sent at `sent_at`.
    pub fn answer(&self, answers: &[(ShardId, BeatAnswer)], asked: &[BeatShard], sent_at: Instant) {
        let leases = self.lock();
        for ((shard, answer), asked) in answers.iter().zip(asked) {
            // A lease put down and claimed anew while the beat was on its way is not meant.
            let meant = leases.get(shard).filter(|held| held.lease.token == asked.token);
            if let Some(held) = meant {
                held.answer(*answer, sent_at);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Arc<HeldLease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{ContentName, LeaseToken, Sha16};
    use shared::queue::ServerTime;

    use super::*;

    fn lease(length: Duration) -> Lease {
        let shard = ShardId(1);
        Lease {
            shard,
            bundle: ContentName { shard, sha: Sha16::of(b"x") },
            items: 8,
            token: LeaseToken(5),
            expires_at: ServerTime(0),
            lease: length,
            attempt: 1,
            isolate: None,
            too_large: Vec::new(),
        }
    }

    const RANGE: ItemRange = ItemRange { first: 0, end: 4 };

    #[test]
    fn no_batch_starts_past_the_fence_until_a_beat_moves_it() {
        let leases = Leases::default();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        let held = leases.hold(lease(Duration::from_secs(60)), long_ago);
        let stop = CancellationToken::new();
        let waiting = std::thread::spawn({
            let (held, stop) = (Arc::clone(&held), stop.clone());
            move || held.start_batch(RANGE, &stop)
        });
        let asked = leases.beat();
        assert_eq!(asked[0].in_flight, None, "the batch has not started");
        assert!(!waiting.is_finished());
        leases.answer(&[(ShardId(1), BeatAnswer::Extended(ServerTime(1)))], &asked, Instant::now());
        assert_eq!(waiting.join().unwrap(), Permission::Go);
        assert_eq!(leases.beat()[0].in_flight, Some(RANGE));
    }

    #[test]
    fn what_is_in_flight_spans_the_batches_that_run() {
        let leases = Leases::default();
        let held = leases.hold(lease(Duration::from_secs(60)), Instant::now());
        let stop = CancellationToken::new();
        held.start_batch(RANGE, &stop);
        held.start_batch(ItemRange { first: 4, end: 8 }, &stop);
        assert_eq!(leases.beat()[0].in_flight, Some(ItemRange { first: 0, end: 8 }));
        held.finish_batch(4, RANGE);
        assert_eq!(leases.beat()[0].in_flight, Some(ItemRange { first: 4, end: 8 }));
        assert_eq!(leases.beat()[0].items_done, 4);
        held.finish_batch(8, ItemRange { first: 4, end: 8 });
        assert_eq!(leases.beat()[0].in_flight, None);
    }

    #[test]
    fn a_lost_lease_and_a_stop_end_the_wait() {
        let leases = Leases::default();
        let held = leases.hold(lease(Duration::ZERO), Instant::now());
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(held.start_batch(RANGE, &stop), Permission::Stopped);
        let asked = leases.beat();
        leases.answer(&[(ShardId(1), BeatAnswer::Lost)], &asked, Instant::now());
        assert_eq!(held.start_batch(RANGE, &CancellationToken::new()), Permission::Lost);
    }

    #[test]
    fn an_answer_to_an_older_lease_is_not_meant() {
        let leases = Leases::default();
        leases.hold(lease(Duration::from_secs(60)), Instant::now());
        let asked = leases.beat();
        let newer = Lease { token: LeaseToken(6), ..lease(Duration::from_secs(60)) };
        let held = leases.hold(newer, Instant::now());
        leases.answer(&[(ShardId(1), BeatAnswer::Lost)], &asked, Instant::now());
        assert_eq!(held.start_batch(RANGE, &CancellationToken::new()), Permission::Go);
    }
}
