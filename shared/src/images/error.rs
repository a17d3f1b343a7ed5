//! A root or an entry cannot be read.

use std::path::PathBuf;

/// What failed and where.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// A file or a folder.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A root is neither a folder nor a zip.
    #[error("{} is neither a folder nor a zip file", path.display())]
    NotARoot {
        /// Its path.
        path: PathBuf,
    },
    /// A zip is damaged.
    #[error("{} is not a zip file we can read: {what}", path.display())]
    Zip {
        /// The zip.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An entry of a zip is damaged or packed in a way we do not know.
    #[error("cannot read {entry:?} in {}: {what}", path.display())]
    Entry {
        /// The zip.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What is wrong.
        what: String,
    },
    /// A file has another size than when it was listed.
    #[error("{} changed while it was read; run the command again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}
