//! All files below a folder, listed by several threads: most of the time goes into waiting for the disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::ImagesError;
use crate::cores::cores;

/// The files of one folder: names in one text, so that a million of them take little beside it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The folder, below the root.
    pub(super) below: PathBuf,
    names: Vec<u8>,
    /// Where each name ends, and the file's size.
    files: Vec<(usize, u64)>,
}

impl Listing {
    /// The files in the order of their names.
    pub(super) fn sorted(&self) -> Vec<(&OsStr, u64)> {
        let mut start = 0;
        let mut files: Vec<(&OsStr, u64)> = self
            .files
            .iter()
            .map(|(end, size)| {
                (OsStr::from_bytes(&self.names[std::mem::replace(&mut start, *end)..*end]), *size)
            })
            .collect();
        files.sort_unstable();
        files
    }

    fn add(&mut self, name: &OsStr, size: u64) {
        self.names.extend_from_slice(name.as_bytes());
        self.files.push((self.names.len(), size));
    }
}

/// Folders that wait, and threads that may yet find more.
#[derive(Default)]
struct Work {
    waiting: Vec<PathBuf>,
    busy: usize,
    listed: Vec<Listing>,
    error: Option<ImagesError>,
}

/// Lists every folder below `root`, in the order of their paths. `size_of` says how large a file is, or that it
/// is none that counts.
pub(super) fn walk(
    root: &Path,
    size_of: impl Fn(&fs::DirEntry, fs::FileType) -> Result<Option<u64>, ImagesError> + Sync,
) -> Result<Vec<Listing>, ImagesError> {
    let work = Mutex::new(Work { waiting: vec![PathBuf::new()], ..Work::default() });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                while let Some(below) = next_folder(&work, &changed) {
                    let listed = list(root, &below, &size_of);
                    finish_folder(&mut lock(&work), listed);
                    changed.notify_all();
                }
            });
        }
    });
    let mut work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = work.error {
        return Err(error);
    }
    work.listed.sort_unstable_by(|left, right| left.below.cmp(&right.below));
    Ok(work.listed)
}

fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder to list; `None` once there are none and nobody can find more.
fn next_folder(work: &Mutex<Work>, changed: &Condvar) -> Option<PathBuf> {
    let mut work = lock(work);
    loop {
        if let Some(below) = work.waiting.pop() {
            work.busy += 1;
            return Some(below);
        }
        if work.busy == 0 {
            return None;
        }
        work = changed.wait(work).unwrap_or_else(PoisonError::into_inner);
    }
}

fn finish_folder(work: &mut Work, listed: Result<(Listing, Vec<PathBuf>), ImagesError>) {
    work.busy -= 1;
    match listed {
        Ok((listing, folders)) => {
            work.waiting.extend(folders);
            if !listing.files.is_empty() {
                work.listed.push(listing);
            }
        }
        Err(error) => {
            work.error.get_or_insert(error);
        }
    }
    // Another thread may have failed before these folders were found.
    if work.error.is_some() {
        work.waiting.clear();
    }
}

/// The files of a folder, and the folders in it.
fn list(
    root: &Path,
    below: &Path,
    size_of: &impl Fn(&fs::DirEntry, fs::FileType) -> Result<Option<u64>, ImagesError>,
) -> Result<(Listing, Vec<PathBuf>), ImagesError> {
    let path = root.join(below);
    let failed = |source| ImagesError::Read { path: path.clone(), source };
    let mut listing = Listing { below: below.to_owned(), ..Listing::default() };
    let mut folders = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(|source| ImagesError::Read { path: entry.path(), source })?;
        if kind.is_dir() {
            folders.push(below.join(entry.file_name()));
        } else if let Some(size) = size_of(&entry, kind)? {
            listing.add(&entry.file_name(), size);
        }
    }
    Ok((listing, folders))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_once_and_in_order() {
        let root = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for number in 0..200_u64 {
            let folder = format!("{}/{}", number % 7, number % 3);
            fs::create_dir_all(root.path().join(&folder)).unwrap();
            fs::write(root.path().join(&folder).join(number.to_string()), vec![0; number as usize]).unwrap();
            expected.push((PathBuf::from(folder).join(number.to_string()), number));
        }
        expected.sort();
        let listed = walk(root.path(), |entry, _| Ok(Some(entry.metadata().unwrap().len()))).unwrap();
        let found: Vec<(PathBuf, u64)> = listed
            .iter()
            .flat_map(|listing| {
                listing.sorted().into_iter().map(|(name, size)| (listing.below.join(name), size))
            })
            .collect();
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        assert!(listed.is_sorted_by(|left, right| left.below < right.below));
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk_by_name() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), b"a").unwrap();
        let error =
            walk(root.path(), |entry, _| Err(ImagesError::Changed { path: entry.path() })).unwrap_err();
        assert!(error.to_string().contains("/a changed"), "{error}");
        assert!(walk(&root.path().join("missing"), |_, _| Ok(None)).is_err());
    }
}
