//! Remembers which files were hashed, so that sixteen gigabytes are read once and not at every start.
//!
//! A note holds a file's SHA-256 and its stamp (size, times of change, inode). A file with another
//! stamp is hashed again. Notes that cannot be read or written only cost time.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{ModelError, ModelFile, files};
use crate::ids::Sha16;

/// File systems keep times in steps of up to ten milliseconds; a file that changed more recently than
/// this may change once more without a new stamp, and is not noted.
const SETTLED: Duration = Duration::from_millis(50);

/// The folder of notes.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    folder: PathBuf,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    path: PathBuf,
    stamp: String,
    size: u64,
    sha256: String,
}

impl Verified {
    /// Notes below the cache folder of the hub.
    pub(super) fn new(cache: &Path) -> Self {
        Self { folder: cache.join("embed-fleet").join("verified") }
    }

    /// Size and SHA-256 of a folder's files, in the order of `names`: from notes where they hold, hashed
    /// in parallel where not. Blocks.
    pub(super) fn hash_files(&self, folder: &Path, names: &[String]) -> Result<Vec<ModelFile>, ModelError> {
        let known: Vec<Option<ModelFile>> =
            names.iter().map(|name| self.known(&folder.join(name), name)).collect();
        let unknown: Vec<String> = names
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let stamps: Vec<Option<Stamped>> =
            unknown.iter().map(|name| Stamped::of(&folder.join(name))).collect();
        let hashed = files::hash_files(folder, &unknown)?;
        for (file, before) in hashed.iter().zip(stamps) {
            if let Some(before) = before {
                self.note(&folder.join(&file.name), file, before);
            }
        }
        let mut hashed = hashed.into_iter();
        Ok(known.into_iter().filter_map(|known| known.or_else(|| hashed.next())).collect())
    }

    /// Size and SHA-256 of one file. Blocks.
    pub(super) fn hash_file(&self, path: &Path, name: &str) -> Result<ModelFile, ModelError> {
        if let Some(known) = self.known(path, name) {
            return Ok(known);
        }
        let before = Stamped::of(path);
        let file = files::hash_file(path, name)?;
        if let Some(before) = before {
            self.note(path, &file, before);
        }
        Ok(file)
    }

    fn known(&self, path: &Path, name: &str) -> Option<ModelFile> {
        let stamped = Stamped::of(path)?;
        let note: Note = serde_json::from_slice(&std::fs::read(self.note_path(&stamped.path)).ok()?).ok()?;
        let holds = note.path == stamped.path && note.stamp == stamped.stamp && note.size == stamped.size;
        holds.then(|| ModelFile { name: name.to_owned(), size: note.size, sha256: note.sha256 })
    }

    fn note(&self, path: &Path, file: &ModelFile, before: Stamped) {
        let unchanged = Stamped::of(path).is_some_and(|after| after == before) && before.size == file.size;
        if !unchanged || !before.settled {
            return;
        }
        let target = self.note_path(&before.path);
        let note =
            Note { path: before.path, stamp: before.stamp, size: before.size, sha256: file.sha256.clone() };
        if let Err(error) = write_note(&target, &note) {
            tracing::debug!("cannot note that {} was verified: {error}", path.display());
        }
    }

    fn note_path(&self, path: &Path) -> PathBuf {
        self.folder.join(format!("{}.json", Sha16::of(path.as_os_str().as_encoded_bytes()).as_str()))
    }
}

fn write_note(target: &Path, note: &Note) -> std::io::Result<()> {
    let Some(folder) = target.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, note)?;
    file.persist(target)?;
    Ok(())
}

/// A file's real path and what changes when its content does.
#[derive(Debug, PartialEq, Eq)]
struct Stamped {
    path: PathBuf,
    stamp: String,
    size: u64,
    settled: bool,
}

impl Stamped {
    fn of(path: &Path) -> Option<Self> {
        let path = std::fs::canonicalize(path).ok()?;
        let metadata = std::fs::metadata(&path).ok()?;
        let (stamp, changed) = stamp(&metadata)?;
        let settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED);
        Some(Self { path, stamp, size: metadata.len(), settled })
    }
}

/// The stamp and the last change of content, name or owner, which no tool can set back.
#[cfg(unix)]
fn stamp(metadata: &Metadata) -> Option<(String, SystemTime)> {
    use std::os::unix::fs::MetadataExt as _;
    let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    let changed = SystemTime::UNIX_EPOCH
        + Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
    let stamp = format!(
        "{}.{:09} {seconds}.{nanoseconds:09} {} {}",
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.dev(),
        metadata.ino()
    );
    Some((stamp, changed))
}

/// Without a time that no tool can set back, nothing is noted.
#[cfg(not(unix))]
fn stamp(_: &Metadata) -> Option<(String, SystemTime)> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Waits until the file's last change is old enough to be noted.
    fn settle(path: &Path) {
        while !Stamped::of(path).expect("the file is there").settled {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_note_holds_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let verified = Verified::new(&folder.path().join("cache"));
        let path = folder.path().join("weights");
        std::fs::write(&path, b"one").unwrap();
        settle(&path);
        let first = verified.hash_file(&path, "weights").unwrap();
        assert_eq!(first.sha256, crate::digest::sha256_hex(b"one"));
        assert_eq!(verified.known(&path, "weights"), Some(first.clone()));
        assert_eq!(verified.hash_files(folder.path(), &["weights".into()]).unwrap(), [first]);

        std::fs::write(&path, b"two").unwrap();
        assert_eq!(verified.known(&path, "weights"), None);
        let second = verified.hash_file(&path, "weights").unwrap();
        assert_eq!(second.sha256, crate::digest::sha256_hex(b"two"));
    }

    #[test]
    fn a_cache_that_cannot_be_written_only_costs_time() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cache"), b"not a folder").unwrap();
        let verified = Verified::new(&folder.path().join("cache"));
        std::fs::write(folder.path().join("weights"), b"one").unwrap();
        settle(&folder.path().join("weights"));
        assert!(verified.hash_file(&folder.path().join("weights"), "weights").is_ok());
    }
}
