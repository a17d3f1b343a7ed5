//! Where a merged file goes, and how it appears there whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use shared::store::Store;
use tempfile::NamedTempFile;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::MergeError;
use super::file_writer::FileWriter;
use super::target::{ObjectWriter, Target};

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

    /// Its path where it lies on this machine's disk, in a store's folder too.
    fn path(&self) -> Option<PathBuf> {
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
            std::fs::create_dir_all(&folder).map_err(|error| MergeError::write(&folder, error))?;
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

    /// Where about `size` bytes can be written, in any order, that then become this destination. An upload that
    /// is given up is ended by a task of `given_up`. Blocks.
    pub(super) fn begin(&self, size: u64, given_up: &TaskTracker) -> Result<Target, MergeError> {
        match self {
            Self::Object { store, key } if self.path().is_none() => {
                let runtime = Handle::current();
                let upload = runtime.block_on(store.begin_parts(key))?;
                let writer = ObjectWriter::new(upload, runtime, size, given_up.clone());
                Ok(Target::Object(Box::new(writer)))
            }
            _ => Ok(Target::File(FileWriter::new(self.temporary()?))),
        }
    }

    /// Makes what was written appear under its final name. Returns its size.
    pub(super) async fn publish(&self, written: Target) -> Result<u64, MergeError> {
        match (written, self.path()) {
            (Target::Object(object), _) => object.finish().await,
            (Target::File(file), Some(path)) => super::load::blocking(move || rename(file, &path)).await?,
            (Target::File(file), None) => {
                Err(MergeError::Thread(format!("{} is no part of an upload", file.path().display())))
            }
        }
    }
}

fn rename(file: FileWriter, path: &Path) -> Result<u64, MergeError> {
    let failed = |error| MergeError::write(path, error);
    let file = file.into_file().map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let size = file.as_file().metadata().map_err(failed)?.len();
    file.persist(path).map_err(|error| failed(error.error))?;
    // The rename itself lasts once the folder is on disk; not every system can do that.
    if let Ok(folder) = File::open(parent(path)) {
        let _ = folder.sync_all();
    }
    Ok(size)
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
