//! The files of a folder and of all folders below it.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::LARGEST_IMAGE;
use super::error::ImagesError;
use super::index::{Index, NewEntry};
use super::path::normalise;
use super::walk::walk;

/// A folder read in place.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Paths on disk that are written in another way than the index writes them.
    spelled: HashMap<u64, PathBuf>,
}

impl Folder {
    /// Lists a folder. A symbolic link is followed to a file that lies below the root, and never out.
    pub fn open(root: &Path) -> Result<(Self, Index), ImagesError> {
        let resolved = fs::canonicalize(root).map_err(|source| read_error(root, source))?;
        let mut folder = Self { root: root.to_owned(), spelled: HashMap::new() };
        let listed = walk(root, |entry, kind| {
            Ok(file_size(entry, kind, &resolved)?.filter(|size| *size <= LARGEST_IMAGE))
        })?;
        let mut index = Index::default();
        let mut number = 0;
        for listing in listed {
            for (name, size) in listing.sorted() {
                folder.add(&mut index, number, size, listing.below.join(name));
                number += 1;
            }
        }
        index.finish();
        Ok((folder, index))
    }

    fn add(&mut self, index: &mut Index, number: u64, size: u64, relative: PathBuf) {
        let written = relative.to_string_lossy();
        let path = normalise(&written);
        let spelled_alike = relative.to_str() == Some(path.as_str());
        index.add(&path, NewEntry { size, locator: number });
        if !spelled_alike {
            self.spelled.insert(number, relative);
        }
    }

    /// The bytes of an entry, which must have the size it had when it was listed.
    pub fn read(&self, path: &str, locator: u64, size: u64) -> Result<Vec<u8>, ImagesError> {
        let path = self.place(path, locator);
        let file = fs::File::open(&path).map_err(|source| read_error(&path, source))?;
        let mut bytes = Vec::with_capacity(size as usize);
        // One byte more than expected tells a file that has grown.
        file.take(size + 1).read_to_end(&mut bytes).map_err(|source| read_error(&path, source))?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(ImagesError::Changed { path }) }
    }

    /// The first `most` bytes of a file.
    pub fn read_start(&self, path: &str, locator: u64, most: usize) -> Result<Vec<u8>, ImagesError> {
        let path = self.place(path, locator);
        let file = fs::File::open(&path).map_err(|source| read_error(&path, source))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes).map_err(|source| read_error(&path, source))?;
        Ok(bytes)
    }

    fn place(&self, path: &str, locator: u64) -> PathBuf {
        self.root.join(self.spelled.get(&locator).map_or(Path::new(path), PathBuf::as_path))
    }
}

/// The size of a regular file, or of one below the root that a link points to.
fn file_size(entry: &fs::DirEntry, kind: fs::FileType, root: &Path) -> Result<Option<u64>, ImagesError> {
    let path = entry.path();
    if kind.is_file() {
        return entry.metadata().map(|meta| Some(meta.len())).map_err(|source| read_error(&path, source));
    }
    if !kind.is_symlink() {
        return Ok(None);
    }
    // A dangling link is no image; neither is one that leads out of the root.
    let Ok(target) = fs::canonicalize(&path) else { return Ok(None) };
    let meta = fs::metadata(&target).map_err(|source| read_error(&path, source))?;
    Ok((target.starts_with(root) && meta.is_file()).then_some(meta.len()))
}

fn read_error(path: &Path, source: std::io::Error) -> ImagesError {
    ImagesError::Read { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_terabytes_of_nothing_is_no_image() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.png"), b"a").unwrap();
        fs::File::create(root.path().join("bomb.png")).unwrap().set_len(LARGEST_IMAGE + 1).unwrap();
        let (folder, index) = Folder::open(root.path()).unwrap();
        assert_eq!((index.len(), index.exact("bomb.png")), (1, None));
        assert_eq!(folder.read("a.png", 0, 1).unwrap(), b"a");
    }
}
