//! Why bytes are not an npz of this project.

use std::fmt;
use std::io;

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum NpzErrorKind {
    /// The bytes could not be read or written.
    #[error("cannot be read or written")]
    Io(#[source] io::Error),
    /// The file ends before its data does.
    #[error("the file ends here, in the middle of its data; fetch or compute it again")]
    Truncated,
    /// The zip structure is broken or uses what an npz does not.
    #[error("not the zip of an npz: {0}")]
    Zip(String),
    /// Members are missing, foreign, twice there, or in another order.
    #[error("wrong members: {0}")]
    Members(String),
    /// The npy header is broken, or has another type or shape than this member must have.
    #[error("wrong array: {0}")]
    Array(String),
    /// The bytes are not those that were written.
    #[error("checksum is {found:08x} where {expected:08x} was recorded: the bytes were changed or damaged")]
    Checksum {
        /// The CRC-32 that the zip records.
        expected: u32,
        /// The CRC-32 of the bytes.
        found: u32,
    },
    /// A row holds what its type cannot mean.
    #[error("wrong value: {0}")]
    Value(String),
}

/// Bytes that are not an npz of this project: the member, the byte in the file (of the member's data
/// where it is compressed), and what is wrong.
#[derive(Debug)]
pub struct NpzError {
    /// The member, or `None` for the zip's own structures.
    pub member: Option<String>,
    /// The position of what is wrong, from the start of the file.
    pub byte: u64,
    /// What is wrong.
    pub kind: NpzErrorKind,
}

impl NpzError {
    pub(crate) fn new(member: Option<&str>, byte: u64, kind: NpzErrorKind) -> Self {
        Self { member: member.map(str::to_owned), byte, kind }
    }

    pub(crate) fn zip(byte: u64, what: impl Into<String>) -> Self {
        Self::new(None, byte, NpzErrorKind::Zip(what.into()))
    }

    pub(crate) fn array(member: &str, byte: u64, what: impl Into<String>) -> Self {
        Self::new(Some(member), byte, NpzErrorKind::Array(what.into()))
    }

    pub(crate) fn io(member: Option<&str>, byte: u64, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::UnexpectedEof => NpzErrorKind::Truncated,
            _ => NpzErrorKind::Io(source),
        };
        Self::new(member, byte, kind)
    }

    /// Whether the bytes could not be had at all, as opposed to being wrong.
    pub fn is_io(&self) -> bool {
        matches!(self.kind, NpzErrorKind::Io(_))
    }
}

impl fmt::Display for NpzError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "{member}, byte {}: {}", self.byte, self.kind),
            None => write!(f, "byte {}: {}", self.byte, self.kind),
        }
    }
}

impl std::error::Error for NpzError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            NpzErrorKind::Io(source) => Some(source),
            _ => None,
        }
    }
}
