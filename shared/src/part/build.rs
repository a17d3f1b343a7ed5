//! Rows and failures of one shard to the bytes of a part.

use std::collections::BTreeSet;

use super::{Metadata, NORM_TOLERANCE, PartError, Reason, ReasonKind, encode_vector};
use crate::ids::{ContentName, Sha16, ShardId};
use crate::npz::{self, ArrayHeader, Element};
use crate::plan::Plan;

/// What computed the rows: everything that may move their last bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The kind of device: GPU name and capability, or CPU instruction set. Never a host.
    pub device: String,
    /// The token budget of the batches.
    pub batch_tokens: u64,
    /// A batch had to be halved, or an item left out, for memory.
    pub batch_reduced: bool,
    /// The vector of an item with nothing in it, computed on this device.
    pub null_embedding: Vec<f32>,
}

/// A part as it goes to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenPart {
    /// Its name: shard and digest of the bytes.
    pub name: ContentName,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its metadata.
    pub metadata: Metadata,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Pending,
    Row { image_count: u32 },
    Failed,
}

/// Collects the rows of one shard, in any order, and makes the part once every item is accounted for.
///
/// Whether an item is `partial` or `text_only` follows from its dropped images and is not told: an
/// item with dropped images is text only when it used none, and partial when it used some.
#[derive(Debug)]
pub struct PartBuilder<'a> {
    plan: &'a Plan,
    shard: ShardId,
    first_index: u64,
    ids: Vec<String>,
    slots: Vec<Slot>,
    vectors: Vec<f32>,
    failures: Vec<Reason>,
    dropped: Vec<Reason>,
}

impl<'a> PartBuilder<'a> {
    /// A part of `shard`, whose items have these ids and the indexes from `first_index` on.
    pub fn new(plan: &'a Plan, shard: ShardId, first_index: u64, ids: Vec<String>) -> Self {
        let count = ids.len();
        let dim = plan.embedding.dim as usize;
        Self {
            plan,
            shard,
            first_index,
            slots: vec![Slot::Pending; count],
            vectors: vec![0.0; count * dim],
            ids,
            failures: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// The vector of the item at `index`, and how many images went into it.
    pub fn row(&mut self, index: u64, vector: &[f32], image_count: u32) -> Result<(), PartError> {
        let at = self.settle(index, Slot::Row { image_count })?;
        let dim = self.plan.embedding.dim as usize;
        if vector.len() != dim {
            return Err(self.wrong(index, &format!("has {} components, not {dim}", vector.len())));
        }
        let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        // A norm that is no number fails this comparison too.
        let unit = (norm - 1.0).abs() <= NORM_TOLERANCE;
        if !unit {
            return Err(self.wrong(index, &format!("has a vector of norm {norm}, not 1")));
        }
        self.vectors[at * dim..(at + 1) * dim].copy_from_slice(vector);
        Ok(())
    }

    /// The item at `index` has no row, for a reason that lies in the item itself. What a machine
    /// caused must not come here ([`crate::laws::Law::EveryItemIsAccountedFor`]); memory is the item's
    /// reason only once the queue says that no machine has enough
    /// ([`crate::queue::transition::Shortages`]).
    pub fn fail(&mut self, index: u64, kind: ReasonKind, reason: impl Into<String>) -> Result<(), PartError> {
        let at = self.settle(index, Slot::Failed)?;
        self.failures.push(Reason { index, id: self.ids[at].clone(), kind, reason: reason.into() });
        Ok(())
    }

    /// An image of the item at `index` was left out, the item's images in order.
    pub fn drop_image(
        &mut self,
        index: u64,
        kind: ReasonKind,
        reason: impl Into<String>,
    ) -> Result<(), PartError> {
        let at = self.position(index)?;
        self.dropped.push(Reason { index, id: self.ids[at].clone(), kind, reason: reason.into() });
        Ok(())
    }

    /// The part. An error names the items that were neither embedded nor failed.
    pub fn finish(mut self, origin: Origin) -> Result<WrittenPart, PartError> {
        let pending: Vec<&str> = self
            .slots
            .iter()
            .zip(&self.ids)
            .filter(|(slot, _)| **slot == Slot::Pending)
            .map(|(_, id)| id.as_str())
            .collect();
        if let Some(first) = pending.first() {
            let what =
                format!("{} items have neither a row nor a reason, the first {first:?}", pending.len());
            return Err(PartError::wrong(&self.name(), what));
        }
        if let Some(id) = self.ids.iter().find(|id| id.is_empty() || id.contains('\0')) {
            return Err(PartError::wrong(&self.name(), format!("the id {id:?} is empty or holds a NUL")));
        }
        self.failures.sort_by_key(|reason| reason.index);
        self.dropped.sort_by_key(|reason| reason.index);
        let rows = Rows::collect(&self);
        let metadata = self.metadata(&rows, origin);
        let bytes = write(&metadata, &rows)?;
        let name = ContentName { shard: self.shard, sha: Sha16::of(&bytes) };
        Ok(WrittenPart { name, bytes, metadata })
    }

    fn metadata(&self, rows: &Rows, origin: Origin) -> Metadata {
        let incomplete: BTreeSet<u64> = self.dropped.iter().map(|reason| reason.index).collect();
        let used = |index: &&u64| match self.slots[(**index - self.first_index) as usize] {
            Slot::Row { image_count } => Some(image_count),
            _ => None,
        };
        Metadata {
            count: rows.count,
            with_image: rows.with_image,
            text_only: incomplete.iter().filter(|index| used(index) == Some(0)).count() as u64,
            partial: incomplete.iter().filter(|index| used(index).is_some_and(|count| count > 0)).count()
                as u64,
            failed: self.failures.len() as u64,
            devices: vec![origin.device],
            batch_tokens: vec![origin.batch_tokens],
            null_embedding: encode_vector(&origin.null_embedding),
            batch_reduced: origin.batch_reduced,
            shard: Some(self.shard),
            failures: Some(self.failures.clone()),
            dropped_images: Some(self.dropped.clone()),
            ..Metadata::of_plan(self.plan)
        }
    }

    fn settle(&mut self, index: u64, slot: Slot) -> Result<usize, PartError> {
        let at = self.position(index)?;
        if self.slots[at] != Slot::Pending {
            return Err(self.wrong(index, "was settled twice"));
        }
        self.slots[at] = slot;
        Ok(at)
    }

    fn position(&self, index: u64) -> Result<usize, PartError> {
        let at = index.checked_sub(self.first_index).map(|at| at as usize).filter(|at| *at < self.ids.len());
        at.ok_or_else(|| self.wrong(index, "is not in this shard"))
    }

    fn wrong(&self, index: u64, what: &str) -> PartError {
        PartError::wrong(&self.name(), format!("the item with index {index} {what}"))
    }

    fn name(&self) -> String {
        format!("of shard {}", self.shard)
    }
}

/// The three arrays of rows, as bytes.
struct Rows {
    count: u64,
    with_image: u64,
    dim: u64,
    width: u64,
    ids: Vec<u8>,
    vectors: Vec<u8>,
    image_counts: Vec<u8>,
}

impl Rows {
    fn collect(builder: &PartBuilder<'_>) -> Self {
        let dim = builder.plan.embedding.dim as usize;
        let embedded = || {
            builder.slots.iter().enumerate().filter_map(|(at, slot)| match slot {
                Slot::Row { image_count } => Some((at, *image_count)),
                _ => None,
            })
        };
        let width = embedded().map(|(at, _)| npz::text_width(&builder.ids[at])).max().unwrap_or(1).max(1);
        let mut rows = Self {
            count: 0,
            with_image: 0,
            dim: dim as u64,
            width,
            ids: Vec::new(),
            vectors: Vec::with_capacity(builder.vectors.len() * 4),
            image_counts: Vec::new(),
        };
        for (at, image_count) in embedded() {
            rows.count += 1;
            rows.with_image += u64::from(image_count > 0);
            npz::encode_text(&builder.ids[at], width, &mut rows.ids);
            rows.vectors.extend(
                builder.vectors[at * dim..(at + 1) * dim].iter().flat_map(|value| value.to_le_bytes()),
            );
            // An item has as many images as fit its tokens: far below the largest i32.
            rows.image_counts
                .extend_from_slice(&i32::try_from(image_count).unwrap_or(i32::MAX).to_le_bytes());
        }
        rows
    }
}

fn write(metadata: &Metadata, rows: &Rows) -> Result<Vec<u8>, PartError> {
    let unwritable = |error: serde_json::Error| PartError::wrong("metadata", error.to_string());
    let text = serde_json::to_string(metadata).map_err(unwritable)?;
    let width = npz::text_width(&text);
    let mut encoded = Vec::with_capacity(width as usize * 4);
    npz::encode_text(&text, width, &mut encoded);
    let ids = ArrayHeader::vector(Element::Text { width: rows.width }, rows.count).to_bytes();
    let embeddings = ArrayHeader::matrix(Element::F32, rows.count, rows.dim).to_bytes();
    let image_counts = ArrayHeader::vector(Element::I32, rows.count).to_bytes();
    let last = ArrayHeader::vector(Element::Text { width }, 1).to_bytes();
    Ok(npz::write_stored(&[
        (npz::ITEM_IDS, &[&ids, &rows.ids]),
        (npz::EMBEDDINGS, &[&embeddings, &rows.vectors]),
        (npz::IMAGE_COUNTS, &[&image_counts, &rows.image_counts]),
        (npz::METADATA, &[&last, &encoded]),
    ]))
}
