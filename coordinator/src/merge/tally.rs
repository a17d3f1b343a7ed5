//! What the rows of a file add up to.

use std::collections::BTreeSet;
use std::ops::Range;

use shared::part::{Metadata, Reason, ValidPart};

/// Sums over the items of one file. Of several files, a failed item is counted with the row that
/// follows it in its shard, or with its shard's last row.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    count: u64,
    with_image: u64,
    text_only: u64,
    partial: u64,
    failed: u64,
    devices: BTreeSet<String>,
    batch_tokens: BTreeSet<u64>,
    batch_reduced: bool,
}

impl Tally {
    /// Adds `rows` of a part whose shard begins at `first_index`.
    pub(super) fn add(&mut self, part: &ValidPart, rows: &Range<usize>, first_index: u64) {
        self.count += rows.len() as u64;
        self.with_image += rows.clone().filter(|row| part.image_count(*row) > 0).count() as u64;
        let last = rows.end == part.rows();
        let failures = part.metadata.failures.as_deref().unwrap_or_default();
        let before = |(position, reason): (usize, &Reason)| {
            let row = (reason.index - first_index) as usize - position;
            row >= rows.start && (row < rows.end || last)
        };
        self.failed += failures.iter().enumerate().filter(|failure| before(*failure)).count() as u64;
        let dropped: BTreeSet<u64> =
            part.metadata.dropped_images.iter().flatten().map(|reason| reason.index).collect();
        for row in dropped.into_iter().filter_map(|index| part.row_of(index, first_index)) {
            let here = u64::from(rows.contains(&row));
            if part.image_count(row) > 0 {
                self.partial += here;
            } else {
                self.text_only += here;
            }
        }
        self.devices.extend(part.metadata.devices.iter().cloned());
        self.batch_tokens.extend(&part.metadata.batch_tokens);
        self.batch_reduced |= part.metadata.batch_reduced;
    }

    /// The metadata of the file, given that of the run.
    pub(super) fn metadata(self, run: &Metadata) -> Metadata {
        Metadata {
            count: self.count,
            with_image: self.with_image,
            text_only: self.text_only,
            partial: self.partial,
            failed: self.failed,
            devices: self.devices.into_iter().collect(),
            batch_tokens: self.batch_tokens.into_iter().collect(),
            batch_reduced: self.batch_reduced,
            ..run.clone()
        }
    }
}
