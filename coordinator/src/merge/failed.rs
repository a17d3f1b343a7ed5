//! `failed.jsonl`: every failed, partial or text-only item with its reason, and every item of a
//! missing shard, in input order.

use std::io::{Seek as _, Write as _};

use serde::{Deserialize, Serialize};
use shared::ids::ShardId;
use shared::part::{Reason, ReasonKind, ValidPart};
use shared::store::{Store, layout};
use tempfile::NamedTempFile;

use super::error::MissingShard;
use super::{MergeError, Run};

/// Files up to this size are sent in one request.
const ONE_REQUEST: u64 = 8 << 20;

/// Lines that a report names itself.
const MOST_EXAMPLES: usize = 20;

/// What became of an item that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// It has no row.
    Failed,
    /// Some of its images were used.
    Partial,
    /// None of its images was used.
    TextOnly,
    /// Its shard has no valid part (`merge --partial`).
    Missing,
}

/// Why an image was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DroppedImage {
    /// What kind of reason.
    pub kind: ReasonKind,
    /// For a person.
    pub reason: String,
}

/// A line of `failed.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedLine {
    /// The item's position in the whole input; the first item's, in the one line of a missing shard.
    pub index: u64,
    /// The item's id; absent in the line of a missing shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The item's shard.
    pub shard: ShardId,
    /// What became of it.
    pub status: ItemStatus,
    /// The kind of reason of a failed item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ReasonKind>,
    /// For a person.
    pub reason: String,
    /// The images that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<DroppedImage>,
    /// How many items the line speaks of: absent for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
}

impl std::fmt::Display for FailedLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = match self.status {
            ItemStatus::Failed => "failed",
            ItemStatus::Partial => "partial",
            ItemStatus::TextOnly => "text only",
            ItemStatus::Missing => "missing",
        };
        match &self.id {
            Some(id) => write!(f, "{status}: item {id:?}: ")?,
            None => write!(f, "{status}: {} items from index {}: ", self.items.unwrap_or(1), self.index)?,
        }
        if self.images.is_empty() || self.status == ItemStatus::Failed {
            f.write_str(&self.reason)?;
        }
        for (number, image) in self.images.iter().enumerate() {
            let separator = if number == 0 && self.status != ItemStatus::Failed { "" } else { "; " };
            write!(f, "{separator}{}", image.reason)?;
        }
        Ok(())
    }
}

/// The lines, collected on this machine's disk and sent once the merged file is in place.
#[derive(Debug)]
pub(super) struct FailedList {
    file: NamedTempFile,
    /// The first lines, for the report.
    first: Vec<FailedLine>,
}

impl FailedList {
    pub(super) fn begin() -> Result<Self, MergeError> {
        let file = NamedTempFile::new().map_err(|error| MergeError::write(&std::env::temp_dir(), error))?;
        Ok(Self { file, first: Vec::new() })
    }

    /// Adds the items of a part, in input order.
    pub(super) fn add_part(&mut self, part: &ValidPart, first_index: u64) -> Result<(), MergeError> {
        let lines = lines_of(part, first_index);
        self.write(&lines)
    }

    /// Adds a shard that has no valid part: one line, since the ids of its items are in its bundle.
    pub(super) fn add_missing(&mut self, missing: &MissingShard) -> Result<(), MergeError> {
        let damaged = missing.damaged.join("; ");
        self.write(&[FailedLine {
            index: missing.first_index,
            id: None,
            shard: missing.shard,
            status: ItemStatus::Missing,
            kind: None,
            reason: if damaged.is_empty() { "no part of this shard was found".to_owned() } else { damaged },
            images: Vec::new(),
            items: Some(missing.items),
        }])
    }

    /// The first lines: as many as a person still reads.
    pub(super) fn take_first(&mut self) -> Vec<FailedLine> {
        std::mem::take(&mut self.first)
    }

    /// Replaces the run's list by this one.
    pub(super) async fn publish(self, store: &Store, run: &Run) -> Result<(), MergeError> {
        let key = layout::failed_key(&run.plan.run);
        let failed = |error| MergeError::write(self.file.path(), error);
        let size = self.file.as_file().metadata().map_err(failed)?.len();
        if size > ONE_REQUEST {
            store.replace_with_file(&key, self.file.path()).await?;
        } else {
            let bytes = std::fs::read(self.file.path()).map_err(failed)?;
            store.replace(&key, bytes.into()).await?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[FailedLine]) -> Result<(), MergeError> {
        let room = MOST_EXAMPLES.saturating_sub(self.first.len());
        self.first.extend(lines.iter().take(room).cloned());
        let mut text = Vec::new();
        for line in lines {
            // Strings and numbers: always JSON.
            serde_json::to_writer(&mut text, line).unwrap_or_default();
            text.push(b'\n');
        }
        let file = self.file.as_file_mut();
        let written = file.seek(std::io::SeekFrom::End(0)).and_then(|_| file.write_all(&text));
        written.map_err(|error| MergeError::write(self.file.path(), error))
    }
}

fn lines_of(part: &ValidPart, first_index: u64) -> Vec<FailedLine> {
    let line = |reason: &Reason, status, kind| FailedLine {
        index: reason.index,
        id: Some(reason.id.clone()),
        shard: part.name.shard,
        status,
        kind,
        reason: reason.reason.clone(),
        images: Vec::new(),
        items: None,
    };
    let failures = part.metadata.failures.as_deref().unwrap_or_default();
    let mut lines: Vec<FailedLine> =
        failures.iter().map(|reason| line(reason, ItemStatus::Failed, Some(reason.kind))).collect();
    let dropped = part.metadata.dropped_images.as_deref().unwrap_or_default();
    for images in dropped.chunk_by(|left, right| left.index == right.index) {
        let reasons =
            images.iter().map(|image| DroppedImage { kind: image.kind, reason: image.reason.clone() });
        let Some(row) = part.row_of(images[0].index, first_index) else {
            if let Ok(at) = failures.binary_search_by_key(&images[0].index, |reason| reason.index) {
                lines[at].images.extend(reasons);
            }
            continue;
        };
        let status = if part.image_count(row) > 0 { ItemStatus::Partial } else { ItemStatus::TextOnly };
        let count = images.len();
        let reason = format!("{count} {} left out", if count == 1 { "image was" } else { "images were" });
        lines.push(FailedLine { reason, images: reasons.collect(), ..line(&images[0], status, None) });
    }
    lines.sort_by_key(|line| line.index);
    lines
}
