//! Where a merged file goes, and how it appears there whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use shared::store::Store;
use tempfile::NamedTempFile;

use super::MergeError;

/// Where a merged file goes.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A file on this machine. It is written beside its final name and renamed.
    File(PathBuf),
    /// An object. It is written to this machine's temporary folder and then sent.
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

    /// A fresh file that can become this one. It goes when it is dropped.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, MergeError> {
        let folder = self.temporary_folder();
        let mut builder = tempfile::Builder::new();
        let prefix = match self {
            Self::File(path) => format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy()),
            Self::Object { .. } => "embed-fleet-merge.".to_owned(),
        };
        builder.prefix(&prefix).suffix(".partial");
        // A temporary file is the owner's alone unless told otherwise; a merged file is like any other.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&folder).map_err(|error| MergeError::write(&folder, error))
    }

    /// Makes the written file appear under its final name. Returns its size.
    pub(super) async fn publish(&self, file: NamedTempFile) -> Result<u64, MergeError> {
        let written = file.path().to_owned();
        let failed = |error| MergeError::write(&written, error);
        match self {
            Self::Object { store, key } => {
                let size = file.as_file().metadata().map_err(failed)?.len();
                store.replace_with_file(key, file.path()).await?;
                Ok(size)
            }
            Self::File(path) => {
                let path = path.clone();
                super::load::blocking(move || rename(file, &path)).await?
            }
        }
    }

    fn temporary_folder(&self) -> PathBuf {
        match self {
            Self::File(path) => parent(path),
            Self::Object { .. } => std::env::temp_dir(),
        }
    }
}

fn rename(file: NamedTempFile, path: &Path) -> Result<u64, MergeError> {
    let failed = |error| MergeError::write(path, error);
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
