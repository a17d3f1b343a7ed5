//! Every byte of a part against plan and shard.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use super::tail::{check_metadata, check_name};
use super::{Metadata, NORM_TOLERANCE, PartError, PartErrorKind, Reason};
use crate::digest::Hasher;
use crate::excerpt::excerpt;
use crate::ids::{ContentName, Sha16};
use crate::npz::{self, ArraySlice, Crc, Directory, Element};
use crate::plan::{Plan, ShardRecord};

/// What a part must be a part of.
#[derive(Debug, Clone, Copy)]
pub struct PartExpectation<'a> {
    /// The run's plan.
    pub plan: &'a Plan,
    /// The shard.
    pub shard: &'a ShardRecord,
    /// The index of the shard's first item: the items of all shards before it.
    pub first_index: u64,
}

/// A part of which every byte was checked.
#[derive(Debug, Clone)]
pub struct ValidPart {
    /// Its name.
    pub name: ContentName,
    /// Its metadata.
    pub metadata: Metadata,
    /// Characters of a row of its ids.
    pub id_width: u64,
    /// The checksum of its vectors.
    pub vectors_crc: Crc,
    bytes: Bytes,
    ids: Range<usize>,
    vectors: Range<usize>,
    image_counts: Range<usize>,
}

impl ValidPart {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.metadata.count as usize
    }

    /// Rows of `<U[id_width]`.
    pub fn ids(&self) -> &[u8] {
        &self.bytes[self.ids.clone()]
    }

    /// Rows of `<f4[dim]`.
    pub fn vectors(&self) -> &[u8] {
        &self.bytes[self.vectors.clone()]
    }

    /// `<i4`, one a row.
    pub fn image_counts(&self) -> &[u8] {
        &self.bytes[self.image_counts.clone()]
    }

    /// The id of a row.
    pub fn id(&self, row: usize) -> String {
        let width = self.id_width as usize * 4;
        // Decoded once by the validation, so that this cannot fail.
        self.ids()
            .get(row * width..(row + 1) * width)
            .and_then(|row| npz::decode_text(row).ok())
            .unwrap_or_default()
    }

    /// The vector of a row.
    pub fn vector(&self, row: usize) -> Vec<f32> {
        let size = self.metadata.dim as usize * 4;
        npz::decode_vector(&self.vectors()[row * size..(row + 1) * size])
    }

    /// Images used in a row.
    pub fn image_count(&self, row: usize) -> i32 {
        image_count(self.image_counts(), row)
    }

    /// The row of the item at `index` of the whole input, given the shard's first index; `None` where
    /// that item failed.
    pub fn row_of(&self, index: u64, first_index: u64) -> Option<usize> {
        let failures = self.metadata.failures.as_deref().unwrap_or_default();
        match failures.binary_search_by_key(&index, |reason| reason.index) {
            Ok(_) => None,
            Err(before) => (index.checked_sub(first_index)? as usize)
                .checked_sub(before)
                .filter(|row| *row < self.rows()),
        }
    }
}

/// Validates a whole part: digest against name, checksums, types and shapes, metadata against the
/// plan, ids against the shard, norms, image counts, and that every item is accounted for.
pub fn validate_part(
    name: &str,
    bytes: Bytes,
    expectation: PartExpectation<'_>,
) -> Result<ValidPart, PartError> {
    let content = check_name(name, expectation)?;
    let digest = Sha16::of(&bytes);
    if digest != content.sha {
        return Err(PartError::new(name, PartErrorKind::OtherDigest { found: digest.to_string() }));
    }
    let damaged = |error| PartError::damaged(name, error);
    let directory = Directory::from_tail(&bytes, bytes.len() as u64).map_err(damaged)?;
    let slice = |position| npz::slice_array(&bytes, &directory, position).map_err(damaged);
    let (ids, vectors, image_counts, last) = (slice(0)?, slice(1)?, slice(2)?, slice(3)?);
    let text = npz::metadata_text(last.header.element, &bytes[last.rows], directory.entry(3).offset)
        .map_err(damaged)?;
    let metadata = check_metadata(name, &text, expectation)?;
    check_shapes(name, &metadata, [&ids, &vectors, &image_counts])?;
    let Element::Text { width: id_width } = ids.header.element else {
        return Err(PartError::wrong(name, "its ids are not text"));
    };
    let part = ValidPart {
        name: content,
        metadata,
        id_width,
        vectors_crc: vectors.rows_crc,
        ids: ids.rows,
        vectors: vectors.rows,
        image_counts: image_counts.rows,
        bytes,
    };
    check_rows(name, &part)?;
    let row_ids = check_ids(name, &part, expectation)?;
    check_images(name, &part, &row_ids, expectation)?;
    Ok(part)
}

fn check_shapes(name: &str, metadata: &Metadata, arrays: [&ArraySlice; 3]) -> Result<(), PartError> {
    let wrong = |what: String| PartError::wrong(name, what);
    let [_, vectors, _] = arrays;
    if let Some(array) = arrays.iter().find(|array| array.header.rows != metadata.count) {
        return Err(wrong(format!(
            "an array is {}, its metadata counts {} rows",
            array.header, metadata.count
        )));
    }
    if vectors.header.element == Element::F32 && vectors.header.columns == Some(metadata.dim.into()) {
        Ok(())
    } else {
        Err(wrong(format!("its vectors are {}, not <f4 of {} components", vectors.header, metadata.dim)))
    }
}

fn check_rows(name: &str, part: &ValidPart) -> Result<(), PartError> {
    let size = part.metadata.dim as usize * 4;
    for (row, bytes) in part.vectors().chunks_exact(size).enumerate() {
        let norm = npz::norm(bytes);
        // A norm that is no number fails this comparison too.
        let unit = (norm - 1.0).abs() <= NORM_TOLERANCE;
        if !unit {
            return Err(PartError::wrong(name, format!("row {row} has the norm {norm}, not 1")));
        }
    }
    match (0..part.rows()).find(|row| part.image_count(*row) < 0) {
        Some(row) => Err(PartError::wrong(name, format!("row {row} has {} images", part.image_count(row)))),
        None => Ok(()),
    }
}

/// Rows and failures, interleaved by index, must be the shard's ids. Returns each row's index.
fn check_ids(
    name: &str,
    part: &ValidPart,
    expectation: PartExpectation<'_>,
) -> Result<Vec<(u64, String)>, PartError> {
    let wrong = |what: String| PartError::wrong(name, what);
    let width = part.id_width as usize * 4;
    let mut rows = part.ids().chunks_exact(width.max(1));
    let mut failures = part.metadata.failures.iter().flatten().peekable();
    let mut row_ids = Vec::with_capacity(part.rows());
    let mut hasher = Hasher::new();
    for index in expectation.first_index..expectation.first_index + expectation.shard.items {
        let failure = failures.next_if(|reason| reason.index == index);
        let id = match (failure, failure.is_none().then(|| rows.next()).flatten()) {
            (Some(reason), _) => reason.id.clone(),
            (None, Some(row)) => {
                let id =
                    npz::decode_text(row).map_err(|what| wrong(format!("row {}: {what}", row_ids.len())))?;
                row_ids.push((index, id.clone()));
                id
            }
            (None, None) => {
                return Err(wrong(format!("the item with index {index} has neither a row nor a reason")));
            }
        };
        hasher.update(id.as_bytes());
        hasher.update(b"\n");
    }
    if hasher.finish_hex() == expectation.shard.ids_sha256 {
        Ok(row_ids)
    } else {
        Err(wrong(format!("its ids are not those of shard {}, in this order", expectation.shard.id)))
    }
}

/// Dropped images belong to items of the shard, and the counts of the metadata follow from them.
fn check_images(
    name: &str,
    part: &ValidPart,
    row_ids: &[(u64, String)],
    expectation: PartExpectation<'_>,
) -> Result<(), PartError> {
    let wrong = |what: String| PartError::wrong(name, what);
    let metadata = &part.metadata;
    let dropped: &[Reason] = metadata.dropped_images.as_deref().unwrap_or_default();
    let failures: &[Reason] = metadata.failures.as_deref().unwrap_or_default();
    let (mut text_only, mut partial, mut seen) = (0, 0, BTreeSet::new());
    for reason in dropped {
        let row = part.row_of(reason.index, expectation.first_index);
        let id = match row {
            Some(row) => row_ids.get(row).map(|(_, id)| id),
            // In order, each once, as the metadata's check saw to.
            None => failures
                .binary_search_by_key(&reason.index, |failure| failure.index)
                .ok()
                .map(|at| &failures[at].id),
        };
        if id != Some(&reason.id) {
            let id = excerpt(&reason.id);
            return Err(wrong(format!("a dropped image names {id:?} as index {}", reason.index)));
        }
        if let (Some(row), true) = (row, seen.insert(reason.index)) {
            let used = part.image_count(row) > 0;
            partial += u64::from(used);
            text_only += u64::from(!used);
        }
    }
    let with_image = (0..part.rows()).filter(|row| part.image_count(*row) > 0).count() as u64;
    let counted = [
        ("with_image", with_image, metadata.with_image),
        ("partial", partial, metadata.partial),
        ("text_only", text_only, metadata.text_only),
    ];
    match counted.into_iter().find(|(_, found, said)| found != said) {
        Some((what, found, said)) => Err(wrong(format!("its metadata says {what} {said}, its rows {found}"))),
        None => Ok(()),
    }
}

fn image_count(bytes: &[u8], row: usize) -> i32 {
    bytes.get(row * 4..row * 4 + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_le_bytes)
}
