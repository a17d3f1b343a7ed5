//! Where a merged file goes, and how it appears there whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use shared::store::Store;
use tempfile::NamedTempFile;
use tokio::runtime::Handle;

use super::MergeError;
use super::ending::Ending;
use super::file_writer::{FileWriter, SealedFile};
use super::object_writer::ObjectWriter;
use super::target::{Sealed, Target};
use super::volume::Shape;

/// Where a merged file goes.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A file on this machine. It is written beside its final name and renamed.
    File(PathBuf),
    /// An object. It is sent in parts while it is written; in a folder, written as a file is.
    Object {
        /// The store.
        store: Store,
        /// The key.
        key: String,
    },
}

impl Destination {
    /// The name of file `number` of several: `F.npz` becomes `F-00000.npz`.
    #[must_use]
    pub fn volume(&self, number: u64) -> Self {
        match self {
            Self::File(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Self::File(path.with_file_name(volume_name(&name, number)))
            }
            Self::Object { store, key } => {
                let (folder, name) =
                    key.rsplit_once('/').map_or(("", key.as_str()), |(folder, name)| (folder, name));
                let name = volume_name(name, number);
                let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                Self::Object { store: store.clone(), key }
            }
        }
    }

    /// As a person knows it.
    pub fn describe(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Object { store, key } => store.url_of(key),
        }
    }

    /// Whether it is sent to a store elsewhere, which needs memory for its parts.
    pub(super) fn is_sent(&self) -> bool {
        self.path().is_none()
    }

    /// Whether a file lies there.
    pub(super) async fn exists(&self) -> Result<bool, MergeError> {
        match self {
            Self::Object { store, key } if self.is_sent() => Ok(store.size(key).await?.is_some()),
            _ => Ok(self.path().is_some_and(|path| path.is_file())),
        }
    }

    /// Its path where it lies on this machine's disk, in a store's folder too.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Object { store, key } => store.local_path(key),
        }
    }

    /// A fresh file on this machine: one that can become this destination where it lies here, and otherwise
    /// for bytes that go there later. It goes when it is dropped.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, MergeError> {
        let path = self.path();
        let folder = path.as_deref().map_or_else(std::env::temp_dir, parent);
        if matches!(self, Self::Object { .. }) {
            // Folders are nothing by themselves in a store.
            create_folder(&folder).map_err(|error| MergeError::write(&folder, error))?;
        }
        let name = path.as_deref().and_then(Path::file_name).unwrap_or("embed-fleet-merge".as_ref());
        let prefix = format!(".{}.", name.to_string_lossy());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        // A temporary file is the owner's alone unless told otherwise; a merged file is like any other.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&folder).map_err(|error| MergeError::write(&folder, error))
    }

    /// Where about `size` bytes can be written, in any order, that then become this destination. Blocks.
    pub(super) fn begin(&self, size: u64, shape: &Shape) -> Result<Target, MergeError> {
        match self {
            Self::Object { store, key } if self.is_sent() => {
                let runtime = Handle::current();
                let upload = runtime.block_on(store.begin_parts(key))?;
                let writer = ObjectWriter::new(upload, runtime, size, shape);
                Ok(Target::Object(Box::new(writer)))
            }
            _ => Ok(Target::File(FileWriter::new(self.temporary()?))),
        }
    }

    /// Makes what was written appear under its final name. Returns its size.
    pub(super) async fn publish(&self, written: Sealed, ending: &Ending) -> Result<u64, MergeError> {
        match (written, self.path()) {
            (Sealed::Object(object), _) => object.finish().await,
            (Sealed::File(file), Some(path)) => ending.blocking(move || rename(file, &path)).await?,
            (Sealed::File(file), None) => {
                Err(MergeError::Thread(format!("{} is no part of an upload", file.path.display())))
            }
        }
    }
}

fn rename(file: SealedFile, path: &Path) -> Result<u64, MergeError> {
    file.path.persist(path).map_err(|error| MergeError::write(path, error.error))?;
    sync_folder(&parent(path));
    Ok(file.size)
}

/// Makes a folder and those above it, so that they last.
fn create_folder(folder: &Path) -> std::io::Result<()> {
    let made = folder.ancestors().take_while(|folder| !folder.exists()).count();
    std::fs::create_dir_all(folder)?;
    // A folder lasts once the one that holds it is on disk.
    folder.ancestors().skip(1).take(made).for_each(sync_folder);
    Ok(())
}

/// Not every system can do that, and what lies in the folder is whole all the same.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn volume_name(name: &str, number: u64) -> String {
    let stem = name.strip_suffix(".npz").unwrap_or(name);
    format!("{stem}-{number:05}.npz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_numbered_before_the_ending() {
        let Destination::File(path) = Destination::File("a/F.npz".into()).volume(12) else {
            panic!("a file")
        };
        assert_eq!(path, Path::new("a/F-00012.npz"));
        for (key, expected) in [("x/F.npz", "x/F-00000.npz"), ("F", "F-00000.npz")] {
            let object = Destination::Object { store: Store::memory(), key: key.to_owned() };
            let Destination::Object { key, .. } = object.volume(0) else { panic!("an object") };
            assert_eq!(key, expected);
        }
    }
}
