//! Bad input: which file, where in it, which field, and what is wrong.

use std::fmt;
use std::path::PathBuf;

/// A place in an item file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The column in bytes, from 1.
    pub column: u64,
    /// The item's number in its file, from 1; 0 outside any item.
    pub item: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)?;
        if self.item > 0 { write!(f, " (item {})", self.item) } else { Ok(()) }
    }
}

/// Input that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not JSON, or ends early.
    #[error("{place}: {what}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// A field is missing or has another type.
    #[error("{place}: field {field:?} {what}")]
    Field {
        /// Where the item starts.
        place: Place,
        /// The field.
        field: String,
        /// What is wrong with it.
        what: String,
    },
    /// An id stands twice.
    #[error("{second}: the id {id:?} stands already at {first}; ids must be unique over all files")]
    DuplicateId {
        /// The id.
        id: String,
        /// Where it stands first.
        first: Place,
        /// Where it stands again.
        second: Place,
    },
    /// There is not one item.
    #[error("no items in {}", files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoItems {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A file is not the one that was read before.
    #[error("{} changed while it was read; run the command again", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
}
