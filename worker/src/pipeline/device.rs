//! The threads that own devices: batch after batch, of one shard after the other. A batch is started
//! while the one before it runs, also across shards, so that a device never waits for this machine.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::busy::BusyMeter;
use super::embed::{EmbeddedShard, PreparedShard, Vectors, blame, embed_range};
use super::fetch::ShardError;
use super::lease::Permission;
use crate::batch::batches;
use crate::embedder::{BatchBudget, EmbedError, Embedder, StartedBatch};

/// Prepared shards, taken by whichever device is free.
pub type Prepared = Arc<tokio::sync::Mutex<mpsc::Receiver<PreparedShard>>>;

/// What a device thread works with.
pub struct DeviceThread {
    /// Its device.
    pub embedder: Arc<dyn Embedder>,
    /// What a batch may hold.
    pub budget: BatchBudget,
    /// Cancelled when it must give back what it has not finished.
    pub halt: CancellationToken,
    /// Where shards come from.
    pub shards: Prepared,
    /// Where they go.
    pub to_publisher: mpsc::Sender<EmbeddedShard>,
    /// How long the device worked.
    pub busy: Arc<BusyMeter>,
}

impl DeviceThread {
    /// Starts the thread. It ends when no more shards come.
    pub fn start(self, number: usize) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name(format!("device {number}")).spawn(move || self.run())
    }

    fn run(self) {
        let mut open = VecDeque::new();
        let mut running: Option<Running> = None;
        loop {
            let next = self.next(&mut open, running.is_some());
            // A shard none of whose items gets a row is open and through at once.
            if next.is_none() && running.is_none() && open.is_empty() {
                return;
            }
            let started = next.and_then(|range| self.begin(&mut open, &mut running, range));
            if let Some(before) = std::mem::replace(&mut running, started) {
                self.end(&mut open, before);
            }
            // A device that does not work on its own is through already.
            if let Some(through) = running.take_if(|running| running.batch.is_finished()) {
                self.end(&mut open, through);
            }
            if !self.publish(&mut open) {
                return;
            }
        }
    }

    /// Passes on the shards that are through; `false` where nobody takes them.
    fn publish(&self, open: &mut VecDeque<OpenShard>) -> bool {
        while open.front().is_some_and(OpenShard::is_through) {
            if let Some(shard) = open.pop_front()
                && self.to_publisher.blocking_send(shard.close()).is_err()
            {
                return false;
            }
        }
        true
    }

    /// The next batch of the newest shard. Where that has none left, the next shard is taken: waited for
    /// only if nothing runs.
    fn next(&self, open: &mut VecDeque<OpenShard>, something_runs: bool) -> Option<Range<usize>> {
        loop {
            if let Some(range) = open.back_mut().and_then(|shard| shard.waiting.pop_front()) {
                return Some(range);
            }
            // A shard without batches is closed before another is taken.
            if open.back().is_some_and(OpenShard::is_through) {
                return None;
            }
            let mut shards =
                if something_runs { self.shards.try_lock().ok()? } else { self.shards.blocking_lock() };
            let shard = if something_runs { shards.try_recv().ok()? } else { shards.blocking_recv()? };
            open.push_back(OpenShard::new(shard, self.budget));
        }
    }

    /// Starts a batch of the newest shard, if its lease allows.
    fn begin(
        &self,
        open: &mut VecDeque<OpenShard>,
        running: &mut Option<Running>,
        range: Range<usize>,
    ) -> Option<Running> {
        let permission = self.permission(open, running, &range)?;
        let shard = open.back_mut()?;
        match permission {
            Permission::Go => {}
            Permission::Lost => return shard.fail(ShardError::Lost),
            Permission::Stopped => return shard.fail(ShardError::stopped()),
        }
        self.busy.begin();
        let held = Arc::clone(&shard.shard.held);
        let working = held.working();
        let started = guarded(|| Ok(self.embedder.start(&shard.shard.ready.items[range.clone()])));
        drop(working);
        match started {
            Ok(Ok(batch)) => {
                shard.in_flight += 1;
                Some(Running { batch, range })
            }
            Ok(Err(EmbedError::OutOfMemory { .. })) => {
                // What runs takes memory too: it ends first.
                if let Some(before) = running.take() {
                    self.end(open, before);
                }
                self.embed_now(open.back_mut()?, range);
                None
            }
            Ok(Err(error)) => {
                self.give_up(shard, &range, &error);
                None
            }
            Err(error) => shard.fail(error),
        }
    }

    /// Asks the lease of the newest shard. Where that must be waited for, what runs is taken in before, and
    /// shards that are through by it are passed on: their vectors must not wait for another shard's lease.
    fn permission(
        &self,
        open: &mut VecDeque<OpenShard>,
        running: &mut Option<Running>,
        range: &Range<usize>,
    ) -> Option<Permission> {
        let newest = open.back()?;
        let (held, items) = (Arc::clone(&newest.shard.held), newest.shard.ready.range_in_shard(range));
        if let Some(permission) = held.try_start(items, &self.halt) {
            return Some(permission);
        }
        if let Some(before) = running.take() {
            self.end(open, before);
        }
        // The newest shard's batch is taken out of those that wait: it must not pass for through.
        open.back_mut()?.in_flight += 1;
        let published = self.publish(open);
        open.back_mut()?.in_flight -= 1;
        published.then(|| held.start(items, &self.halt))
    }

    /// Takes in the vectors of a batch; it belongs to the oldest shard that has one in flight.
    fn end(&self, open: &mut VecDeque<OpenShard>, running: Running) {
        let Running { batch, range } = running;
        let Some(shard) = open.iter_mut().find(|shard| shard.in_flight > 0) else { return };
        shard.in_flight -= 1;
        let held = Arc::clone(&shard.shard.held);
        let working = held.working();
        let finished = guarded(|| Ok(batch.finish()));
        drop(working);
        match finished {
            Ok(Ok(batch)) => {
                self.busy.add(batch.busy);
                shard.take(&range, batch.rows);
            }
            Ok(Err(EmbedError::OutOfMemory { .. })) => self.embed_now(shard, range),
            Ok(Err(error)) => self.give_up(shard, &range, &error),
            Err(error) => {
                shard.fail(error);
            }
        }
    }

    /// Gives a shard up for an error that a smaller batch does not mend.
    fn give_up(&self, shard: &mut OpenShard, range: &Range<usize>, error: &EmbedError) {
        let held = Arc::clone(&shard.shard.held);
        let _working = held.working();
        let found: Result<ShardError, _> =
            guarded(|| Ok(blame(self.embedder.as_ref(), &shard.shard.ready, range, error)));
        shard.fail(found.unwrap_or_else(|panic| panic));
    }

    /// Embeds a batch at once, halved where the device has too little memory.
    fn embed_now(&self, shard: &mut OpenShard, range: Range<usize>) {
        let Ok(vectors) = &mut shard.vectors else { return };
        let ready = &shard.shard.ready;
        let held = Arc::clone(&shard.shard.held);
        let _working = held.working();
        match guarded(|| embed_range(self.embedder.as_ref(), ready, range.clone(), vectors)) {
            Ok(()) => shard.finish(&range),
            Err(error) => {
                shard.fail(error);
            }
        }
    }
}

/// A panic in one shard fails that shard alone.
fn guarded<T>(work: impl FnOnce() -> Result<T, ShardError>) -> Result<T, ShardError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(ShardError::panic(payload.as_ref())))
}

/// A batch on the device.
struct Running {
    batch: Box<dyn StartedBatch>,
    range: Range<usize>,
}

/// A shard that is not through the device yet.
struct OpenShard {
    shard: PreparedShard,
    waiting: VecDeque<Range<usize>>,
    in_flight: usize,
    vectors: Result<Vectors, ShardError>,
}

impl OpenShard {
    fn new(shard: PreparedShard, budget: BatchBudget) -> Self {
        let waiting = batches(&shard.ready.items, budget).into();
        let rows = Vec::with_capacity(shard.ready.items.len());
        let held = &shard.held;
        let batch_reduced = !held.lease().too_large.is_empty() || !held.left_out().is_empty();
        Self { shard, waiting, in_flight: 0, vectors: Ok(Vectors { rows, batch_reduced }) }
    }

    fn is_through(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    /// Takes in the rows of a batch; batches come in order.
    fn take(&mut self, range: &Range<usize>, rows: Vec<Vec<f32>>) {
        let Ok(vectors) = &mut self.vectors else { return };
        match vectors.take(range, rows) {
            Ok(()) => self.finish(range),
            Err(error) => {
                self.fail(error);
            }
        }
    }

    /// Says that a batch, and all before it, are embedded.
    fn finish(&self, range: &Range<usize>) {
        self.shard.held.finish_batch(range.end as u64, self.shard.ready.range_in_shard(range));
    }

    /// Gives the shard up; the first error counts.
    fn fail(&mut self, error: ShardError) -> Option<Running> {
        self.waiting.clear();
        if self.vectors.is_ok() {
            self.vectors = Err(error);
        }
        None
    }

    fn close(self) -> EmbeddedShard {
        let PreparedShard { held, settled, place, .. } = self.shard;
        held.rest();
        EmbeddedShard { held, settled, vectors: self.vectors, place }
    }
}
