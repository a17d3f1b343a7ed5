//! Why a queue operation failed, and whether to try it again.

use std::fmt;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueErrorKind {
    /// No connection, a timeout, a server that is loading: the same call may succeed later.
    Unreachable,
    /// The server has lost the run's functions (a restart without persistence): `coordinator resume`
    /// loads them again, and until then workers wait.
    FunctionsMissing,
    /// The server is set up in a way that would lose shards, or refuses our rights: a person must act.
    Refused,
    /// An answer we do not understand: another version, or a bug.
    Protocol,
}

/// A failed queue operation. The message never holds a password.
#[derive(Debug)]
pub struct QueueError {
    /// What kind of failure it is.
    pub kind: QueueErrorKind,
    /// What failed and what to do next.
    pub message: String,
    /// The cause, where there is one.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl QueueError {
    /// A failure without a cause.
    pub fn new(kind: QueueErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            QueueErrorKind::Unreachable | QueueErrorKind::FunctionsMissing
        )
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
