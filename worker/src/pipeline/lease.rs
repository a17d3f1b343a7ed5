//! The leases a worker holds, and the fence past which it starts no batch.
//!
//! Beats tell the queue which items are in flight, so that items that kill their worker can be found. A
//! shard that was tried before is worked on with care: a batch of it starts only once the queue knows its
//! range, so that a worker that dies is known to have died on it.
//!
//! The fence of a lease is the moment its last accepted claim or beat was *sent*, plus the lease's
//! length, on this machine's monotonic clock: the server's clock started later, so the fence lies
//! before the server's expiry whatever the two clocks say ([`shared::laws::Law::LeasesAreFenced`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use shared::ids::ShardId;
use shared::queue::{BeatAnswer, BeatShard, ItemRange, Lease};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::isolate::LeftOut;

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
    /// What of it the queue knows: as in the last beat that was answered.
    known: Option<ItemRange>,
    /// When the work that goes on now began, or was last heard of.
    working_since: Option<Instant>,
}

/// One lease from claim to its end.
#[derive(Debug)]
pub struct HeldLease {
    lease: Lease,
    standing: Mutex<Standing>,
    changed: Condvar,
    /// Asks for a beat at once.
    hurry: Arc<Notify>,
    left_out: OnceLock<Vec<LeftOut>>,
}

impl HeldLease {
    /// A lease whose claim was sent at `claimed_at`.
    fn new(lease: Lease, claimed_at: Instant, hurry: Arc<Notify>) -> Self {
        let fence = claimed_at + lease.lease;
        let standing =
            Standing { fence, lost: false, items_done: 0, in_flight: None, known: None, working_since: None };
        let (standing, changed) = (Mutex::new(standing), Condvar::new());
        Self { lease, standing, changed, hurry, left_out: OnceLock::new() }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Every item of the shard.
    pub fn all_items(&self) -> ItemRange {
        ItemRange { first: 0, end: u32::try_from(self.lease.items).unwrap_or(u32::MAX) }
    }

    /// Items that are not touched any more, since each kills the process that does: none until a search
    /// for them has ended.
    pub fn left_out(&self) -> &[LeftOut] {
        self.left_out.get().map_or(&[], Vec::as_slice)
    }

    /// Takes in what a search has found; the first search counts.
    pub fn leave_out(&self, items: Vec<LeftOut>) {
        let _ = self.left_out.set(items);
    }

    /// Whether it is another's by now.
    pub fn is_lost(&self) -> bool {
        self.lock().lost
    }

    /// Waits until it is.
    pub async fn until_lost(&self) {
        while !self.is_lost() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Says that a step on these items starts (preparing them all, or a batch), if it may. Past the fence
    /// this waits until a beat has moved the fence, the lease is lost, or the worker stops; and where the
    /// shard was tried before, until the queue knows the range.
    pub fn start(&self, range: ItemRange, stop: &CancellationToken) -> Permission {
        let mut standing = self.lock();
        loop {
            if let Some(permission) = self.judge(&mut standing, range, stop) {
                return permission;
            }
            // Woken by a beat; the short timeout notices a stop.
            let waited = self.changed.wait_timeout(standing, Duration::from_millis(100));
            standing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same without waiting; `None` where it would.
    pub fn try_start(&self, range: ItemRange, stop: &CancellationToken) -> Option<Permission> {
        self.judge(&mut self.lock(), range, stop)
    }

    fn judge(
        &self,
        standing: &mut Standing,
        range: ItemRange,
        stop: &CancellationToken,
    ) -> Option<Permission> {
        if standing.lost {
            return Some(Permission::Lost);
        }
        if stop.is_cancelled() {
            return Some(Permission::Stopped);
        }
        let now = Instant::now();
        if now >= standing.fence {
            return None;
        }
        // The batch before may still run.
        let first = standing.in_flight.map_or(range.first, |running| running.first.min(range.first));
        standing.in_flight = Some(ItemRange { first, end: range.end });
        if self.needs_care() && !standing.known.is_some_and(|known| covers(known, range)) {
            self.hurry.notify_one();
            return None;
        }
        self.log_start(range, now, standing.fence);
        Some(Permission::Go)
    }

    /// A shard that was tried before may have killed its worker.
    fn needs_care(&self) -> bool {
        self.lease.attempt > 1
    }

    /// The end-to-end tests hold these lines against the queue's own account.
    fn log_start(&self, range: ItemRange, now: Instant, fence: Instant) {
        let before_fence = match fence.checked_duration_since(now) {
            Some(left) => left.as_millis() as i64,
            None => -(now.duration_since(fence).as_millis() as i64),
        };
        let (shard, token) = (self.lease.shard, self.lease.token);
        tracing::debug!(%shard, %token, first = range.first, end = range.end, before_fence, "a step starts");
    }

    /// Says that a batch has ended and `items_done` items are embedded; a batch behind it may be in flight.
    pub fn finish_batch(&self, items_done: u64, batch: ItemRange) {
        let mut standing = self.lock();
        standing.items_done = items_done;
        let rest = |running: ItemRange| ItemRange { first: batch.end.max(running.first), end: running.end };
        standing.in_flight = standing.in_flight.map(rest).filter(|rest| rest.first < rest.end);
    }

    /// Says that nothing of it is in flight until the next step starts.
    pub fn rest(&self) {
        let mut standing = self.lock();
        (standing.in_flight, standing.known) = (None, None);
    }

    /// Work on its items that may hang: until what this gives is dropped.
    pub fn working(&self) -> Working<'_> {
        self.lock().working_since = Some(Instant::now());
        Working(self)
    }

    /// How long the work that goes on now has been going on without a sign.
    fn working_for(&self) -> Option<Duration> {
        self.lock().working_since.map(|since| since.elapsed())
    }

    /// It is another's: whoever waits for it is told.
    fn lose(&self) {
        self.lock().lost = true;
        self.changed.notify_all();
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

    /// Takes in the answer to a beat that was sent at `sent_at` and named these items.
    fn answer(&self, answer: BeatAnswer, said: Option<ItemRange>, sent_at: Instant) {
        let mut standing = self.lock();
        match answer {
            BeatAnswer::Extended(_) => {
                standing.fence = standing.fence.max(sent_at + self.lease.lease);
                standing.known = said;
            }
            BeatAnswer::Lost | BeatAnswer::Cancelled => standing.lost = true,
        }
        drop(standing);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn covers(known: ItemRange, range: ItemRange) -> bool {
    known.first <= range.first && range.end <= known.end
}

/// How often steps that go on for too long are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Work that may hang goes on.
pub struct Working<'a>(&'a HeldLease);

impl Working<'_> {
    /// A part of it is through.
    pub fn goes_on(&self) {
        self.0.lock().working_since = Some(Instant::now());
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.lock().working_since = None;
    }
}

/// Everything a worker holds.
#[derive(Debug, Default)]
pub struct Leases {
    held: Mutex<BTreeMap<ShardId, Arc<HeldLease>>>,
    ended: Notify,
    hurry: Arc<Notify>,
}

impl Leases {
    /// Takes a lease up. An older one of the same shard that this worker has not put down yet is lost: the
    /// queue gives a shard anew only when it has.
    pub fn hold(&self, lease: Lease, claimed_at: Instant) -> Arc<HeldLease> {
        let held = Arc::new(HeldLease::new(lease, claimed_at, Arc::clone(&self.hurry)));
        let older = self.lock().insert(held.lease.shard, Arc::clone(&held));
        if let Some(older) = older.filter(|older| older.lease.token != held.lease.token) {
            older.lose();
        }
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

    /// Waits until a beat is wanted at once.
    pub async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Waits for a lease on which work goes on for longer than this without a sign; of several, the one
    /// that does so for the longest time.
    pub async fn overdue(&self, longest: Duration) -> Arc<HeldLease> {
        loop {
            let oldest = self.all().into_iter().max_by_key(|held| held.working_for());
            if let Some(held) = oldest.filter(|held| held.working_for().is_some_and(|time| time > longest)) {
                return held;
            }
            tokio::time::sleep((longest / 4).min(LOOK_EVERY)).await;
        }
    }

    /// All leases held.
    pub fn all(&self) -> Vec<Arc<HeldLease>> {
        self.lock().values().cloned().collect()
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
                held.answer(*answer, asked.in_flight, sent_at);
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
            move || held.start(RANGE, &stop)
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
        held.start(RANGE, &stop);
        held.start(ItemRange { first: 4, end: 8 }, &stop);
        assert_eq!(leases.beat()[0].in_flight, Some(ItemRange { first: 0, end: 8 }));
        held.finish_batch(4, RANGE);
        assert_eq!(leases.beat()[0].in_flight, Some(ItemRange { first: 4, end: 8 }));
        assert_eq!(leases.beat()[0].items_done, 4);
        held.finish_batch(8, ItemRange { first: 4, end: 8 });
        assert_eq!(leases.beat()[0].in_flight, None);
    }

    #[test]
    fn a_shard_tried_before_waits_until_the_queue_knows_the_range() {
        let leases = Leases::default();
        let tried = Lease { attempt: 2, ..lease(Duration::from_secs(60)) };
        let held = leases.hold(tried, Instant::now());
        let waiting = std::thread::spawn({
            let held = Arc::clone(&held);
            move || held.start(RANGE, &CancellationToken::new())
        });
        let asked = loop {
            let asked = leases.beat();
            if asked[0].in_flight.is_some() {
                break asked;
            }
            std::thread::yield_now();
        };
        assert!(!waiting.is_finished());
        leases.answer(&[(ShardId(1), BeatAnswer::Extended(ServerTime(1)))], &asked, Instant::now());
        assert_eq!(waiting.join().unwrap(), Permission::Go);
        held.rest();
        let stop = CancellationToken::new();
        assert_eq!(held.try_start(RANGE, &stop), None, "what the queue knew is over");
    }

    #[test]
    fn only_work_that_goes_on_can_be_overdue() {
        let leases = Leases::default();
        let held = leases.hold(lease(Duration::from_secs(60)), Instant::now());
        assert_eq!(held.start(RANGE, &CancellationToken::new()), Permission::Go);
        assert_eq!(held.working_for(), None, "a permission is no work yet");
        let working = held.working();
        assert!(held.working_for().is_some());
        working.goes_on();
        drop(working);
        assert_eq!(held.working_for(), None);
    }

    #[test]
    fn a_shard_claimed_anew_ends_the_wait_for_its_older_lease() {
        let leases = Leases::default();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        let older = leases.hold(lease(Duration::from_secs(60)), long_ago);
        let waiting = std::thread::spawn({
            let older = Arc::clone(&older);
            move || older.start(RANGE, &CancellationToken::new())
        });
        leases.hold(Lease { token: LeaseToken(6), ..lease(Duration::from_secs(60)) }, Instant::now());
        assert_eq!(waiting.join().unwrap(), Permission::Lost);
    }

    #[test]
    fn a_lost_lease_and_a_stop_end_the_wait() {
        let leases = Leases::default();
        let held = leases.hold(lease(Duration::ZERO), Instant::now());
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(held.start(RANGE, &stop), Permission::Stopped);
        let asked = leases.beat();
        leases.answer(&[(ShardId(1), BeatAnswer::Lost)], &asked, Instant::now());
        assert_eq!(held.start(RANGE, &CancellationToken::new()), Permission::Lost);
    }

    #[test]
    fn an_answer_to_an_older_lease_is_not_meant() {
        let leases = Leases::default();
        leases.hold(lease(Duration::from_secs(60)), Instant::now());
        let asked = leases.beat();
        let newer = Lease { token: LeaseToken(6), ..lease(Duration::from_secs(60)) };
        let held = leases.hold(newer, Instant::now());
        leases.answer(&[(ShardId(1), BeatAnswer::Lost)], &asked, Instant::now());
        assert_eq!(held.start(RANGE, &CancellationToken::new()), Permission::Go);
    }
}
