//! From a bundle to items ready for a device, on CPU threads; and what is done about a batch that a
//! device could not take.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use shared::bundle::{Bundle, BundleItem};
use shared::part::Reason;
use tokio::sync::OwnedSemaphorePermit;

use super::Worker;
use super::fetch::ShardError;
use super::lease::HeldLease;
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

/// A shard whose items are ready for the device.
pub struct PreparedShard {
    /// Its lease.
    pub held: Arc<HeldLease>,
    /// What becomes of each item, in order.
    pub settled: Vec<Settled>,
    /// The items that get a row, in order.
    pub items: Vec<PreparedItem>,
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
    /// Whether a batch had to be halved for memory.
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
        let embedder = worker.preparer();
        let decided: Vec<(Settled, Option<PreparedItem>)> =
            bundle.items().par_iter().map(|item| settle(embedder, item, bundle)).collect();
        let mut settled = Vec::with_capacity(decided.len());
        let mut items = Vec::with_capacity(decided.len());
        for (one, item) in decided {
            settled.push(one);
            items.extend(item);
        }
        Ok(Self { held, settled, items, place: None })
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

/// Embeds a batch; where the device has too little memory, its halves, down to one item.
pub fn embed_range(
    embedder: &dyn Embedder,
    items: &[PreparedItem],
    range: Range<usize>,
    vectors: &mut Vectors,
) -> Result<(), ShardError> {
    match embedder.embed(&items[range.clone()]) {
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
            embed_range(embedder, items, range.start..middle, vectors)?;
            embed_range(embedder, items, middle..range.end, vectors)
        }
        Err(EmbedError::NotFinite { position }) => {
            Err(blame_for_not_finite(embedder, &items[range.start + position], range.start + position))
        }
        Err(error) => Err(ShardError::Host(error.to_string())),
    }
}

/// A vector that is not finite is the item's fault only where the item fails again and an empty item
/// does not; anything else is the machine's.
fn blame_for_not_finite(embedder: &dyn Embedder, item: &PreparedItem, position: usize) -> ShardError {
    let fails = |item: &PreparedItem| embedder.embed(std::slice::from_ref(item)).is_err();
    let empty = embedder.prepare_item(None, Vec::new());
    let message = format!("item {position} of the shard has no finite vector");
    if fails(item) && empty.is_ok_and(|empty| !fails(&empty)) {
        ShardError::Shard(message)
    } else {
        ShardError::Host(message)
    }
}
