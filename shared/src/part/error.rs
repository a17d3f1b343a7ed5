//! Why a part is refused.

use crate::npz::NpzError;

/// What is wrong with a part.
#[derive(Debug, thiserror::Error)]
pub enum PartErrorKind {
    /// The file's name is not that of a part, or names another shard.
    #[error("is no part of this run: {0}; move it away")]
    Foreign(String),
    /// Computed for another run or with other settings, model or items.
    #[error(
        "has the {what} {found:?} where this run has {expected:?}: it belongs to another plan; move it away"
    )]
    OtherRun {
        /// "fingerprint" or "run".
        what: &'static str,
        /// What the part says.
        found: String,
        /// What the plan says.
        expected: String,
    },
    /// The bytes are not those that were written.
    #[error("is damaged: {0}; remove it and resume the run")]
    Damaged(#[source] Box<NpzError>),
    /// The bytes do not have the digest in the name.
    #[error(
        "is damaged: its bytes have the digest {found}, not the one in its name; remove it and resume the run"
    )]
    OtherDigest {
        /// The first 16 hex digits of the digest of its bytes.
        found: String,
    },
    /// The bytes are as written, and what they say cannot be.
    #[error("is wrong: {0}; remove it, resume the run, and look at the worker that wrote it")]
    Wrong(String),
}

/// A part that is refused, by name.
#[derive(Debug, thiserror::Error)]
#[error("part {name} {kind}")]
pub struct PartError {
    /// The file's name.
    pub name: String,
    /// What is wrong.
    #[source]
    pub kind: PartErrorKind,
}

impl PartError {
    pub(super) fn new(name: &str, kind: PartErrorKind) -> Self {
        Self { name: name.to_owned(), kind }
    }

    pub(super) fn wrong(name: &str, what: impl Into<String>) -> Self {
        Self::new(name, PartErrorKind::Wrong(what.into()))
    }

    pub(super) fn damaged(name: &str, source: NpzError) -> Self {
        Self::new(name, PartErrorKind::Damaged(Box::new(source)))
    }

    /// Whether the bytes are not those that were written (a transfer that broke off): as good as no
    /// part at all, and computing the shard again mends it.
    pub fn is_damage(&self) -> bool {
        matches!(self.kind, PartErrorKind::Damaged(_) | PartErrorKind::OtherDigest { .. })
    }
}
