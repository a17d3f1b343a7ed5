//! From a bundle to vectors: prepared on CPU threads, embedded on the one thread that owns the device.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rayon::prelude::*;
use shared::bundle::{Bundle, BundleItem};
use shared::part::{Reason, ReasonKind};
use shared::queue::ItemRange;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::fetch::ShardError;
use super::lease::{HeldLease, Permission};
use super::{Worker, WorkerError};
use crate::batch::batches;
use crate::embedder::{EmbedError, Embedder, PreparedItem};
use crate::policy::{FoundImage, Outcome, SourceItem, prepare};

/// An item on its way to a part: everything of it but pixels and tokens.
pub struct Settled {
    /// Its position in the whole input.
    pub index: u64,
    /// Its id.
    pub id: String,
    /// Images in its row, or why it has none.
    pub fate: Result<u32, Reason>,
    /// Images left out.
    pub dropped: Vec<Reason>,
}

/// The reason of an item that the lease says no machine has memory for.
const TOO_LARGE: &str = "ran out of memory on two machines of the largest memory seen";

/// The items of a shard that get a row, ready for the device, in order.
#[derive(Default)]
pub struct ReadyItems {
    items: Vec<PreparedItem>,
    /// The position of each in the shard, where the items that failed count too.
    positions: Vec<u32>,
}

/// A shard whose items are ready for the device.
pub struct PreparedShard {
    /// Its lease.
    pub held: Arc<HeldLease>,
    /// What becomes of each item, in order.
    pub settled: Vec<Settled>,
    /// The items that get a row.
    pub ready: ReadyItems,
    /// The place it takes in the worker's memory until it is published.
    pub place: Option<OwnedSemaphorePermit>,
}

/// A shard on its way to the publisher.
pub struct EmbeddedShard {
    /// Its lease.
    pub held: Arc<HeldLease>,
    /// What becomes of each item, in order.
    pub settled: Vec<Settled>,
    /// A vector for each item that gets a row, in order.
    pub vectors: Result<Vectors, ShardError>,
    /// The place it takes in the worker's memory.
    pub place: Option<OwnedSemaphorePermit>,
}

/// The vectors of one shard.
pub struct Vectors {
    /// One each, in order.
    pub rows: Vec<Vec<f32>>,
    /// Whether a batch had to be halved, or an item left out, for memory.
    pub batch_reduced: bool,
}

impl PreparedShard {
    /// Decodes, resizes and tokenises every item of a bundle, on all cores.
    pub fn prepare(worker: &Worker, held: Arc<HeldLease>, bundle: &Bundle) -> Result<Self, ShardError> {
        if bundle.items().len() as u64 != held.lease().items {
            return Err(ShardError::Shard(format!(
                "the bundle has {} items where the plan has {}",
                bundle.items().len(),
                held.lease().items
            )));
        }
        let decided: Vec<(Settled, Option<PreparedItem>)> =
            bundle.items().par_iter().map(|item| settle(worker.embedder.as_ref(), item, bundle)).collect();
        let mut settled = Vec::with_capacity(decided.len());
        let mut ready = ReadyItems::default();
        for (position, (mut one, item)) in (0..).zip(decided) {
            if let Some(item) = item {
                if held.lease().too_large.binary_search(&position).is_ok() {
                    one.leave_out();
                } else {
                    ready.items.push(item);
                    ready.positions.push(position);
                }
            }
            settled.push(one);
        }
        Ok(Self { held, settled, ready, place: None })
    }
}

impl Settled {
    /// No machine has memory for it.
    fn leave_out(&mut self) {
        let (kind, reason) = (ReasonKind::OutOfMemory, TOO_LARGE.to_owned());
        self.fate = Err(Reason { index: self.index, id: self.id.clone(), kind, reason });
    }
}

impl ReadyItems {
    /// Where a batch of them lies in the shard.
    fn range_in_shard(&self, batch: &Range<usize>) -> ItemRange {
        let positions = &self.positions[batch.clone()];
        let first = positions.first().copied().unwrap_or_default();
        ItemRange { first, end: positions.last().map_or(first, |last| last + 1) }
    }
}

/// What becomes of one item, and the item itself where it gets a row.
fn settle(embedder: &dyn Embedder, item: &BundleItem, bundle: &Bundle) -> (Settled, Option<PreparedItem>) {
    let images: Vec<FoundImage<'_>> = item
        .images
        .iter()
        // The bundle was checked: every entry that an item names is there.
        .filter_map(|image| Some(FoundImage { path: &image.path, bytes: bundle.image(&image.entry)? }))
        .collect();
    let source = SourceItem {
        index: item.index,
        id: &item.id,
        text: item.text.as_deref(),
        images: &images,
        missing: &item.missing,
    };
    let (fate, dropped, prepared) = match prepare(embedder, source) {
        Outcome::Prepared { item, images_used, dropped, .. } => (Ok(images_used as u32), dropped, Some(item)),
        Outcome::Failed { reason, dropped } => (Err(reason), dropped, None),
    };
    (Settled { index: item.index, id: item.id.clone(), fate, dropped }, prepared)
}

/// Starts the thread that owns the device. It ends when no more shards come; `halt` lets it give back
/// what it has not finished.
pub fn start_device_thread(
    worker: Arc<Worker>,
    halt: CancellationToken,
    mut shards: mpsc::Receiver<PreparedShard>,
    to_publisher: mpsc::Sender<EmbeddedShard>,
) -> Result<JoinHandle<()>, WorkerError> {
    let body = move || {
        while let Some(shard) = shards.blocking_recv() {
            let PreparedShard { held, settled, ready, place } = shard;
            // A panic in one shard fails that shard alone.
            let vectors = catch_unwind(AssertUnwindSafe(|| embed_shard(&worker, &halt, &held, &ready)))
                .unwrap_or_else(|payload| Err(ShardError::panic(payload.as_ref())));
            if to_publisher.blocking_send(EmbeddedShard { held, settled, vectors, place }).is_err() {
                return;
            }
        }
    };
    start_thread(body).map_err(WorkerError::Thread)
}

fn start_thread(body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("device".to_owned()).spawn(body)
}

fn embed_shard(
    worker: &Worker,
    halt: &CancellationToken,
    held: &HeldLease,
    ready: &ReadyItems,
) -> Result<Vectors, ShardError> {
    let left_out = !held.lease().too_large.is_empty();
    let mut vectors = Vectors { rows: Vec::with_capacity(ready.items.len()), batch_reduced: left_out };
    for batch in batches(&ready.items, worker.settings.budget) {
        match held.start_batch(ready.range_in_shard(&batch), halt) {
            Permission::Go => {}
            Permission::Lost => return Err(ShardError::Lost),
            Permission::Stopped => return Err(ShardError::stopped()),
        }
        let end = batch.end as u64;
        embed_range(worker, ready, batch, &mut vectors)?;
        held.finish_batch(end);
    }
    Ok(vectors)
}

/// Embeds a batch; where the device has too little memory, its halves, down to one item.
fn embed_range(
    worker: &Worker,
    ready: &ReadyItems,
    range: Range<usize>,
    vectors: &mut Vectors,
) -> Result<(), ShardError> {
    let embedder = worker.embedder.as_ref();
    match embedder.embed(&ready.items[range.clone()]) {
        Ok(rows) if rows.len() == range.len() => {
            vectors.rows.extend(rows);
            Ok(())
        }
        Ok(rows) => {
            Err(ShardError::Host(format!("the device gave {} vectors for {} items", rows.len(), range.len())))
        }
        Err(EmbedError::OutOfMemory { .. }) if range.len() > 1 => {
            vectors.batch_reduced = true;
            let middle = range.start + range.len() / 2;
            embed_range(worker, ready, range.start..middle, vectors)?;
            embed_range(worker, ready, middle..range.end, vectors)
        }
        // The memory that the claim has told, so that the queue compares like with like.
        Err(EmbedError::OutOfMemory { .. }) => {
            Err(ShardError::OutOfMemory { item: ready.positions[range.start], memory: worker.info.memory })
        }
        Err(EmbedError::NotFinite { position }) => {
            let at = range.start + position;
            Err(blame_for_not_finite(embedder, &ready.items[at], ready.positions[at]))
        }
        Err(error) => Err(ShardError::Host(error.to_string())),
    }
}

/// A vector that is not finite is the item's fault only where the item fails again and an empty item
/// does not; anything else is the machine's.
fn blame_for_not_finite(embedder: &dyn Embedder, item: &PreparedItem, position: u32) -> ShardError {
    let fails = |item: &PreparedItem| embedder.embed(std::slice::from_ref(item)).is_err();
    let empty = embedder.prepare_item(None, Vec::new());
    let message = format!("item {position} of the shard has no finite vector");
    if fails(item) && empty.is_ok_and(|empty| !fails(&empty)) {
        ShardError::Shard(message)
    } else {
        ShardError::Host(message)
    }
}
