//! From a bundle to items ready for a device, on CPU threads; and what is done about a batch that a
//! device could not take.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use shared::bundle::{Bundle, BundleItem};
use shared::part::{Reason, ReasonKind};
use shared::queue::ItemRange;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::fetch::ShardError;
use super::lease::{HeldLease, Permission};
use crate::embedder::{EmbedError, Embedder, PreparedItem};
use crate::isolate::LeftOut;
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
    /// The items.
    pub items: Vec<PreparedItem>,
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
    /// Whether a batch had to be halved for memory, or an item left out.
    pub batch_reduced: bool,
}

impl Vectors {
    /// Takes in the rows of the next batch.
    pub fn take(&mut self, range: &Range<usize>, rows: Vec<Vec<f32>>) -> Result<(), ShardError> {
        if rows.len() != range.len() {
            let message = format!("the device gave {} vectors for {} items", rows.len(), range.len());
            return Err(ShardError::Host(message));
        }
        self.rows.extend(rows);
        Ok(())
    }
}

impl PreparedShard {
    /// Decodes, resizes and tokenises every item of a bundle, on all cores, if the lease allows.
    pub fn prepare(
        worker: &Worker,
        held: Arc<HeldLease>,
        bundle: &Bundle,
        halt: &CancellationToken,
    ) -> Result<Self, ShardError> {
        if bundle.items().len() as u64 != held.lease().items {
            return Err(ShardError::Shard(format!(
                "the bundle has {} items where the plan has {}",
                bundle.items().len(),
                held.lease().items
            )));
        }
        match held.start(held.all_items(), halt) {
            Permission::Go => {}
            Permission::Lost => return Err(ShardError::Lost),
            Permission::Stopped => return Err(ShardError::stopped()),
        }
        let decided = settle_all(worker.preparer(), &held, bundle);
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

/// What becomes of every item, on all cores.
fn settle_all(
    embedder: &dyn Embedder,
    held: &HeldLease,
    bundle: &Bundle,
) -> Vec<(Settled, Option<PreparedItem>)> {
    let _at_rest_after = AtRest(held);
    let working = held.working();
    let settle = |(position, item): (usize, &BundleItem)| {
        let settled = match left_out(held, position) {
            // Not even decoded: that may be what kills.
            Some(left_out) => (Settled::left_out(item, left_out), None),
            None => settle(embedder, item, bundle),
        };
        working.goes_on();
        settled
    };
    bundle.items().par_iter().enumerate().map(settle).collect()
}

/// Says that nothing is in flight any more when it is dropped, by a panic too.
struct AtRest<'a>(&'a HeldLease);

impl Drop for AtRest<'_> {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// What is known of an item that is not to be touched.
fn left_out(held: &HeldLease, position: usize) -> Option<&LeftOut> {
    held.left_out().iter().find(|left_out| left_out.item as usize == position)
}

impl Settled {
    /// It kills the process that touches it.
    fn left_out(item: &BundleItem, why: &LeftOut) -> Self {
        let (index, id) = (item.index, item.id.clone());
        let reason = Reason { index, id: id.clone(), kind: why.kind, reason: why.reason.clone() };
        Self { index, id, fate: Err(reason), dropped: Vec::new() }
    }

    /// No machine has memory for it.
    fn leave_out(&mut self) {
        let (kind, reason) = (ReasonKind::OutOfMemory, TOO_LARGE.to_owned());
        self.fate = Err(Reason { index: self.index, id: self.id.clone(), kind, reason });
    }
}

impl ReadyItems {
    /// Where a batch of them lies in the shard.
    pub fn range_in_shard(&self, batch: &Range<usize>) -> ItemRange {
        let positions = &self.positions[batch.clone()];
        let first = positions.first().copied().unwrap_or_default();
        ItemRange { first, end: positions.last().map_or(first, |last| last + 1) }
    }
}

/// What becomes of one item, and the item itself where it gets a row.
pub fn settle(
    embedder: &dyn Embedder,
    item: &BundleItem,
    bundle: &Bundle,
) -> (Settled, Option<PreparedItem>) {
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

/// Embeds a batch; where the device has too little memory, its halves, down to one item.
pub fn embed_range(
    embedder: &dyn Embedder,
    ready: &ReadyItems,
    range: Range<usize>,
    vectors: &mut Vectors,
) -> Result<(), ShardError> {
    match embedder.embed(&ready.items[range.clone()]) {
        Ok(rows) => vectors.take(&range, rows),
        Err(EmbedError::OutOfMemory { .. }) if range.len() > 1 => {
            vectors.batch_reduced = true;
            let middle = range.start + range.len() / 2;
            embed_range(embedder, ready, range.start..middle, vectors)?;
            embed_range(embedder, ready, middle..range.end, vectors)
        }
        Err(error) => Err(blame(embedder, ready, &range, &error)),
    }
}

/// Whose fault it is that a batch gave no vectors. One that ran out of memory is of one item.
pub fn blame(
    embedder: &dyn Embedder,
    ready: &ReadyItems,
    range: &Range<usize>,
    error: &EmbedError,
) -> ShardError {
    match error {
        EmbedError::OutOfMemory { .. } => blame_for_memory(embedder, ready.positions[range.start]),
        EmbedError::NotFinite { position } => blame_for_not_finite(embedder, ready, range.start + position),
        EmbedError::Device(_) => ShardError::Host(error.to_string()),
    }
}

/// An item is too large only for a device that has room for an empty one; a device that has none is in the
/// hands of something else.
fn blame_for_memory(embedder: &dyn Embedder, item: u32) -> ShardError {
    let empty = embedder.prepare_item(None, Vec::new());
    if empty.is_ok_and(|empty| embedder.embed(&[empty]).is_ok()) {
        return ShardError::OutOfMemory { item, memory: embedder.memory() };
    }
    ShardError::Host("the device has no memory left for an empty item: something else uses it".to_owned())
}

/// A vector that is not finite is the item's fault only where the item fails again and an empty item
/// does not; anything else is the machine's.
fn blame_for_not_finite(embedder: &dyn Embedder, ready: &ReadyItems, at: usize) -> ShardError {
    let (item, position) = (&ready.items[at], ready.positions[at]);
    let fails = |item: &PreparedItem| embedder.embed(std::slice::from_ref(item)).is_err();
    let empty = embedder.prepare_item(None, Vec::new());
    let message = format!("item {position} of the shard has no finite vector");
    if fails(item) && empty.is_ok_and(|empty| !fails(&empty)) {
        ShardError::Shard(message)
    } else {
        ShardError::Host(message)
    }
}
