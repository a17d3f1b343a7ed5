//! One file from front to back.

use std::io::{self, Read};

use shared::items::IdDigest;
use shared::npz::{self, Directory, MemberReader, NpzError, NpzReader, Tail, tail_size};
use shared::part::{Metadata, decode_null_embedding};
use tokio::runtime::Handle;

use super::duplicates::{Duplicates, Groups};
use super::plan::PlanCheck;
use super::report::{Check, Rows, VerifyReport};
use super::rows::RowChecks;
use super::source::Source;

/// Bytes of small rows that are read at a time.
const CHUNK: u64 = 1 << 18;

/// What was found so far, over all files.
pub(super) struct Checks<'a> {
    pub(super) plan: Option<PlanCheck<'a>>,
    pub(super) ids: Duplicates,
    /// Equal ids, once those of the last file are read.
    pub(super) equal_ids: Groups,
    pub(super) empty_ids: Rows,
    pub(super) vectors: RowChecks,
    pub(super) negative: Rows,
    /// Rows equal to the vector of an empty item that used images.
    pub(super) null_with_images: Rows,
    pub(super) rows: u64,
    pub(super) with_image: u64,
}

/// Why a file was not read to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// It cannot be read at all.
    Io(io::Error),
    /// Its bytes are wrong.
    Wrong(NpzError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<NpzError> for Stop {
    fn from(error: NpzError) -> Self {
        match error.kind {
            npz::NpzErrorKind::Io(source) => Self::Io(source),
            _ => Self::Wrong(error),
        }
    }
}

/// Directory and metadata text from the end of a file.
pub(super) fn read_end(source: &Source, runtime: &Handle, size: u64) -> Result<(Directory, String), Stop> {
    let mut length = tail_size(4096);
    loop {
        let bytes = source.tail(runtime, size, length)?;
        match npz::tail_metadata(&bytes, size)? {
            Tail::Complete(end) => return Ok(end),
            // Never more than the file, which the next read holds whole.
            Tail::NeedMore(wanted) => length = wanted,
        }
    }
}

impl Checks<'_> {
    /// Nothing read yet, and no plan.
    pub(super) fn new() -> Self {
        Self {
            plan: None,
            ids: Duplicates::new(),
            equal_ids: Groups::default(),
            empty_ids: Rows::default(),
            vectors: RowChecks::new(),
            negative: Rows::default(),
            null_with_images: Rows::default(),
            rows: 0,
            with_image: 0,
        }
    }

    /// Reads a whole file and adds what it shows.
    pub(super) fn read(
        &mut self,
        source: &Source,
        runtime: &Handle,
        directory: Directory,
        metadata: Option<&Metadata>,
        is_last: bool,
        report: &mut VerifyReport,
    ) -> Result<(), Stop> {
        let first_row = self.rows;
        let mut reader = NpzReader::new(directory, source.open(runtime)?);
        let mut counted = FileCounts::default();
        while let Some(member) = reader.next_member()? {
            match member.name() {
                npz::ITEM_IDS => {
                    counted.rows = member.header().rows;
                    self.read_ids(member, first_row)?;
                    if is_last {
                        // Before the vectors, so that the hashes of both are never held together.
                        self.equal_ids = std::mem::replace(&mut self.ids, Duplicates::new()).groups();
                    }
                }
                npz::EMBEDDINGS => {
                    check_rows(&member, counted.rows, report);
                    counted.dim = member.header().columns.unwrap_or(0);
                    let null = metadata.and_then(|metadata| decode_null_embedding(metadata).ok());
                    self.vectors.read(member, first_row, null.as_deref())?;
                }
                npz::IMAGE_COUNTS => {
                    check_rows(&member, counted.rows, report);
                    counted.with_image = self.read_image_counts(member, first_row)?;
                }
                _ => member.finish()?,
            }
        }
        self.rows += counted.rows;
        self.with_image += counted.with_image;
        if let Some(metadata) = metadata {
            counted.check(metadata, report);
        }
        Ok(())
    }

    fn read_ids<R: Read>(&mut self, mut member: MemberReader<'_, R>, first_row: u64) -> Result<(), Stop> {
        let mut row = first_row;
        read_rows(&mut member, |bytes, member| {
            let id =
                npz::decode_text(bytes).map_err(|what| member.wrong_value(format!("row {row}: {what}")))?;
            if id.is_empty() {
                self.empty_ids.push(row);
            }
            self.ids.add(hash_id(&id), row);
            if let Some(plan) = &mut self.plan {
                plan.id(&id)?;
            }
            row += 1;
            Ok(())
        })?;
        Ok(member.finish()?)
    }

    fn read_image_counts<R: Read>(
        &mut self,
        mut member: MemberReader<'_, R>,
        first_row: u64,
    ) -> Result<u64, Stop> {
        let (mut row, mut with_image) = (first_row, 0);
        let null = &self.vectors.null;
        let mut next_null = null.partition_point(|row| *row < first_row);
        let (negative, null_with_images) = (&mut self.negative, &mut self.null_with_images);
        read_rows(&mut member, |bytes, _| {
            let count = bytes.try_into().map_or(0, i32::from_le_bytes);
            if count < 0 {
                negative.push(row);
            }
            with_image += u64::from(count > 0);
            if null.get(next_null) == Some(&row) {
                next_null += 1;
                if count != 0 {
                    null_with_images.push(row);
                }
            }
            row += 1;
            Ok(())
        })?;
        member.finish()?;
        Ok(with_image)
    }
}

/// What a file holds, to be compared with its metadata.
#[derive(Debug, Default)]
struct FileCounts {
    rows: u64,
    dim: u64,
    with_image: u64,
}

impl FileCounts {
    fn check(&self, metadata: &Metadata, report: &mut VerifyReport) {
        let pairs = [
            ("count", metadata.count, self.rows),
            ("dim", u64::from(metadata.dim), self.dim),
            ("with_image", metadata.with_image, self.with_image),
        ];
        for (what, said, found) in pairs.into_iter().filter(|(_, said, found)| said != found) {
            report.wrong(
                Check::Metadata,
                format!("the metadata says {what} {said}, the arrays {found}"),
                Rows::default(),
            );
        }
        let incomplete = metadata.partial.saturating_add(metadata.text_only);
        if incomplete > metadata.count {
            let what = format!(
                "the metadata counts {incomplete} partial and text-only items among {} rows",
                metadata.count
            );
            report.wrong(Check::Metadata, what, Rows::default());
        }
        if let Err(what) = decode_null_embedding(metadata) {
            report.wrong(Check::Metadata, what, Rows::default());
        }
        // The metadata may be made up.
        report.failed = report.failed.saturating_add(metadata.failed);
        report.dim = self.dim;
    }
}

fn check_rows<R: Read>(member: &MemberReader<'_, R>, rows: u64, report: &mut VerifyReport) {
    let found = member.header().rows;
    if found != rows {
        let what = format!("{} has {found} rows, {} has {rows}", member.name(), npz::ITEM_IDS);
        report.wrong(Check::Readable, what, Rows::default());
    }
}

/// Calls `each` with every row.
fn read_rows<R: Read>(
    member: &mut MemberReader<'_, R>,
    mut each: impl FnMut(&[u8], &MemberReader<'_, R>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let row = member.header().row_bytes().max(1) as usize;
    let mut bytes = vec![0; (CHUNK as usize / row).max(1) * row];
    loop {
        let count = member.read_rows(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        for row in bytes[..count].chunks_exact(row) {
            each(row, member)?;
        }
    }
}

/// The first 128 bits of an id's SHA-256: two ids of one hash would be called duplicates, which is an
/// error, so that no one must be able to make them.
fn hash_id(id: &str) -> u128 {
    IdDigest::of(id).bits()
}
