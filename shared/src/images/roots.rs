//! All roots, the matching rules in order, and reading an entry.

use std::path::{Path, PathBuf};

use super::error::ImagesError;
use super::folder::Folder;
use super::index::Index;
use super::path::{normalise, other_date};
use super::size::{FEW_BYTES, MANY_BYTES, dimensions};
use super::zip::Zip;

#[derive(Debug)]
enum Source {
    Folder(Folder),
    Zip(Zip),
}

#[derive(Debug)]
struct Root {
    source: Source,
    index: Index,
}

/// An image that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FoundImage {
    root: u32,
    entry: u32,
}

/// What the rules say of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// One entry.
    Found(FoundImage),
    /// Several entries that differ in case alone: not matched.
    Ambiguous(Vec<String>),
    /// No entry.
    Missing,
}

/// Folders and zips in the order given.
#[derive(Debug, Default)]
pub struct ImageRoots {
    roots: Vec<Root>,
}

impl ImageRoots {
    /// Lists every root.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ImagesError> {
        let roots = paths.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
        Ok(Self { roots })
    }

    /// The entry that a path names.
    ///
    /// The rules in order, and in each the roots in order; the first hit wins: (1) the path itself,
    /// (2) its leading date written the other way, (3) both again without the one top folder that all
    /// entries of a root share, (4) all of that with case folded, where several hits are ambiguous.
    pub fn find(&self, path: &str) -> Match {
        let path = normalise(path);
        let spellings: Vec<String> = std::iter::once(path.clone()).chain(other_date(&path)).collect();
        for below_top in [false, true] {
            for spelling in &spellings {
                for (number, root) in self.roots.iter().enumerate() {
                    let hit = candidate(root, spelling, below_top)
                        .and_then(|candidate| root.index.exact(&candidate));
                    if let Some(entry) = hit {
                        return Match::Found(FoundImage { root: number as u32, entry });
                    }
                }
            }
        }
        for below_top in [false, true] {
            for spelling in &spellings {
                for (number, root) in self.roots.iter().enumerate() {
                    let hits = candidate(root, spelling, below_top)
                        .map(|candidate| root.index.folded(&candidate))
                        .unwrap_or_default();
                    match hits.as_slice() {
                        [] => {}
                        [entry] => return Match::Found(FoundImage { root: number as u32, entry: *entry }),
                        several => {
                            let paths =
                                several.iter().map(|entry| root.index.path(*entry).to_owned()).collect();
                            return Match::Ambiguous(paths);
                        }
                    }
                }
            }
        }
        Match::Missing
    }

    /// The path of an image inside its root.
    pub fn path(&self, image: FoundImage) -> &str {
        self.root(image).index.path(image.entry)
    }

    /// Its bytes, as listed.
    pub fn size(&self, image: FoundImage) -> u64 {
        self.root(image).index.size(image.entry)
    }

    /// Reads it; from any thread.
    pub fn read(&self, image: FoundImage) -> Result<Vec<u8>, ImagesError> {
        let Root { source, index } = self.root(image);
        let (path, locator, size) =
            (index.path(image.entry), index.locator(image.entry), index.size(image.entry));
        match source {
            Source::Folder(folder) => folder.read(path, locator, size),
            Source::Zip(zip) => zip.read(path, locator, size),
        }
    }

    /// Width and height in pixels, as the first bytes say; `None` where they do not tell. From any thread.
    pub fn dimensions(&self, image: FoundImage) -> Result<Option<(u32, u32)>, ImagesError> {
        let Root { source, index } = self.root(image);
        let (path, locator) = (index.path(image.entry), index.locator(image.entry));
        let start = |most| match source {
            Source::Folder(folder) => folder.read_start(path, locator, most),
            Source::Zip(zip) => zip.read_start(path, locator, most),
        };
        let few = start(FEW_BYTES)?;
        // Fewer bytes than asked for are all there are.
        match dimensions(&few) {
            None if few.len() == FEW_BYTES => Ok(dimensions(&start(MANY_BYTES)?)),
            told => Ok(told),
        }
    }

    /// Entries of all roots.
    pub fn count(&self) -> u64 {
        self.roots.iter().map(|root| root.index.len() as u64).sum()
    }

    /// A number below [`ImageRoots::count`] that is this image's alone.
    pub fn number(&self, image: FoundImage) -> u64 {
        let before: u64 = self.roots[..image.root as usize].iter().map(|root| root.index.len() as u64).sum();
        before + u64::from(image.entry)
    }

    fn root(&self, image: FoundImage) -> &Root {
        &self.roots[image.root as usize]
    }
}

fn open(path: &Path) -> Result<Root, ImagesError> {
    let meta =
        std::fs::metadata(path).map_err(|source| ImagesError::Read { path: path.to_owned(), source })?;
    if meta.is_dir() {
        let (folder, index) = Folder::open(path)?;
        return Ok(Root { source: Source::Folder(folder), index });
    }
    if !meta.is_file() {
        return Err(ImagesError::NotARoot { path: path.to_owned() });
    }
    let (zip, index) = Zip::open(path)?;
    Ok(Root { source: Source::Zip(zip), index })
}

fn candidate(root: &Root, spelling: &str, below_top: bool) -> Option<String> {
    if !below_top {
        return Some(spelling.to_owned());
    }
    root.index.common_top().map(|top| format!("{top}{spelling}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_cannot_be_read_is_no_image_of_unknown_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        std::fs::write(&path, b"GIF89a\x2c\x01\xc8\0").unwrap();
        std::fs::write(folder.path().join("b.gif"), b"text").unwrap();
        let roots = ImageRoots::open(&[folder.path().to_owned()]).unwrap();
        let size = |name| match roots.find(name) {
            Match::Found(image) => roots.dimensions(image),
            other => panic!("{other:?}"),
        };
        assert_eq!(size("a.gif").unwrap(), Some((300, 200)));
        assert_eq!(size("b.gif").unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        assert!(size("a.gif").unwrap_err().to_string().contains("a.gif"));
    }
}
