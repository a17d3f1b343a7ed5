//! Rows in order into one file or several.

use shared::part::{Metadata, ValidPart, Volume};

use super::destination::Destination;
use super::tally::Tally;
use super::target::Sealed;
use super::volume::{Shape, VolumeWriter};
use super::{MergeError, Run};

/// Takes parts in shard order and cuts their rows into files.
#[derive(Debug)]
pub(super) struct Sink {
    destination: Destination,
    shape: Shape,
    rows: u64,
    rows_per_file: Option<u64>,
    /// The metadata of all files, but for the sums.
    common: Metadata,
    current: VolumeWriter,
    first_row: u64,
    done: Vec<(Destination, Sealed)>,
    whole: Tally,
}

impl Sink {
    /// Begins files for `rows` rows, at most `rows_per_file` in each. Blocks.
    pub(super) fn begin(
        destination: Destination,
        shape: Shape,
        rows: u64,
        rows_per_file: Option<u64>,
        common: Metadata,
    ) -> Result<Self, MergeError> {
        let first = rows_per_file.map_or(rows, |most| most.min(rows));
        let own = volume(&destination, rows_per_file, 0);
        let current = VolumeWriter::begin(&own, &shape, first)?;
        let whole = Tally::default();
        Ok(Self {
            destination,
            shape,
            rows,
            rows_per_file,
            common,
            current,
            first_row: 0,
            done: Vec::new(),
            whole,
        })
    }

    /// Appends a part, the next in shard order. Blocks.
    pub(super) fn append(&mut self, run: &Run, position: usize, part: &ValidPart) -> Result<(), MergeError> {
        let first_index = run.first_index(position);
        self.whole.add(part, &(0..part.rows()), first_index);
        let mut row = 0;
        loop {
            let taken = (part.rows() - row).min(self.current.room() as usize);
            let rows = row..row + taken;
            self.current.write(part, &rows)?;
            if taken > 0 || part.rows() == 0 {
                self.current.tally.add(part, &rows, first_index);
            }
            row += taken;
            if row == part.rows() {
                return Ok(());
            }
            self.next_volume()?;
        }
    }

    /// The vector of the empty item, for the metadata.
    pub(super) fn set_null_embedding(&mut self, encoded: &str) {
        encoded.clone_into(&mut self.common.null_embedding);
    }

    /// The files, and the metadata of them all together. Blocks.
    pub(super) fn finish(mut self) -> Result<(Vec<(Destination, Sealed)>, Metadata), MergeError> {
        let whole = std::mem::take(&mut self.whole).metadata(&self.common);
        let metadata = self.current_metadata();
        let destination = self.current_destination();
        let sealed = self.current.seal(&metadata, &destination)?;
        self.done.push((destination, sealed));
        Ok((self.done, whole))
    }

    fn next_volume(&mut self) -> Result<(), MergeError> {
        let size = self.rows_per_file.unwrap_or(self.rows);
        let (metadata, destination) = (self.current_metadata(), self.current_destination());
        self.first_row += size;
        let rows = size.min(self.rows - self.first_row);
        let own = volume(&self.destination, self.rows_per_file, self.done.len() as u64 + 1);
        let next = VolumeWriter::begin(&own, &self.shape, rows)?;
        let full = std::mem::replace(&mut self.current, next);
        let sealed = full.seal(&metadata, &destination)?;
        self.done.push((destination, sealed));
        Ok(())
    }

    fn current_metadata(&mut self) -> Metadata {
        let mut metadata = std::mem::take(&mut self.current.tally).metadata(&self.common);
        metadata.volume = self.rows_per_file.map(|size| Volume {
            number: self.done.len() as u64,
            of: self.rows.div_ceil(size).max(1),
            first_row: self.first_row,
        });
        metadata
    }

    fn current_destination(&self) -> Destination {
        volume(&self.destination, self.rows_per_file, self.done.len() as u64)
    }
}

/// Where file `number` goes: one alone has the name that was asked for.
fn volume(destination: &Destination, rows_per_file: Option<u64>, number: u64) -> Destination {
    match rows_per_file {
        Some(_) => destination.volume(number),
        None => destination.clone(),
    }
}
