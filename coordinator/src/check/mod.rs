//! Reading and matching everything, writing nothing: the report a person wants before a run, and the
//! first pass of planning.
//!
//! Memory: 16 bytes an item for its id, a bit an image, and the paths of images that are missing.

pub mod report;

use std::path::PathBuf;

use shared::images::{ImageRoots, ImagesError, Match};
use shared::items::{FieldMapping, IdDigest, InputError, ReadItem, UniqueIds, order_files, read_items};

pub use report::CheckReport;
use report::Tally;

/// What a person's input is.
#[derive(Debug, Clone)]
pub struct Input {
    /// Item files, in order.
    pub files: Vec<PathBuf>,
    /// Which field is what.
    pub mapping: FieldMapping,
    /// Folders and zips, in order.
    pub images: Vec<PathBuf>,
}

impl Input {
    /// Files in the order of their names.
    pub fn new(files: Vec<PathBuf>, mapping: FieldMapping, images: Vec<PathBuf>) -> Self {
        Self { files: order_files(files), mapping, images }
    }
}

/// The input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The items.
    #[error(transparent)]
    Items(#[from] InputError),
    /// The images.
    #[error(transparent)]
    Images(#[from] ImagesError),
}

/// Reads every item once, on all cores, and shows them in order: each with what the rules say of its images,
/// and with what `prepare` made of both, on any thread. Fails where that does, where an id stands twice or there is
/// no item. Answers with the SHA-256 of each file.
pub fn scan<T: Send>(
    input: &Input,
    roots: &ImageRoots,
    prepare: impl Fn(&ReadItem, &[Match]) -> Result<T, ImagesError> + Sync,
    mut see: impl FnMut(&ReadItem, &[Match], T),
) -> Result<Vec<String>, CheckError> {
    let mut unique = UniqueIds::default();
    let mut count = 0_u64;
    let mut failed = None;
    let match_images = |read: ReadItem| {
        let matches: Vec<Match> = read.item.images.iter().map(|path| roots.find(path)).collect();
        let prepared = prepare(&read, &matches);
        (IdDigest::of(&read.item.id), read, matches, prepared)
    };
    let digests = read_items(&input.files, &input.mapping, match_images, |(id, read, matches, prepared)| {
        unique.note(id);
        count += 1;
        match prepared {
            Ok(prepared) => see(&read, &matches, prepared),
            Err(error) => failed = Some(error),
        }
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if count == 0 {
        return Err(InputError::NoItems { files: input.files.clone() }.into());
    }
    unique.check(&input.files, &input.mapping)?;
    Ok(digests)
}

/// The report on an input. `by` names fields to count by. `progress` is told how many items were read.
pub fn check(input: &Input, by: &[String], mut progress: impl FnMut(u64)) -> Result<CheckReport, CheckError> {
    let mut input = input.clone();
    input.mapping.keep.extend(by.iter().cloned());
    let roots = ImageRoots::open(&input.images)?;
    let mut tally = Tally::new(&roots, by);
    scan(
        &input,
        &roots,
        |_, _| Ok(()),
        |read, matches, ()| {
            tally.add(read, matches);
            if read.index % 1024 == 0 {
                progress(read.index);
            }
        },
    )?;
    Ok(tally.finish(input.files.len() as u64))
}
