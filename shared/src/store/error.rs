//! Why a store operation failed, and whether to try it again.

use std::fmt;
use std::path::Path;

use super::signed::refusal_in;
use crate::exit::ExitCode;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such object, bucket or folder.
    NotFound,
    /// The store refuses our credentials.
    Denied,
    /// An immutable object exists with other content.
    Conflict,
    /// The URL or one of its options is wrong.
    BadUrl,
    /// A file on this machine failed (disk full, no rights).
    LocalFile,
    /// Everything else: a network that is down, a server that is overloaded. May pass.
    Unreachable,
}

/// A failed store operation. The message names the URL and never a credential.
#[derive(Debug)]
pub struct StoreError {
    /// What kind of failure it is.
    pub kind: StoreErrorKind,
    /// What failed and what to do next.
    pub message: String,
    /// The cause, where there is one.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    pub(super) fn bad_url(message: String) -> Self {
        Self { kind: StoreErrorKind::BadUrl, message, source: None }
    }

    pub(super) fn local_file(file: &Path, source: std::io::Error) -> Self {
        let message = format!("cannot use {}", file.display());
        Self { kind: StoreErrorKind::LocalFile, message, source: Some(Box::new(source)) }
    }

    pub(super) fn backend(what: &str, url: String, source: object_store::Error) -> Self {
        let kind = match &source {
            object_store::Error::NotFound { .. } => StoreErrorKind::NotFound,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreErrorKind::Denied
            }
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                StoreErrorKind::Conflict
            }
            _ => StoreErrorKind::Unreachable,
        };
        let message = match kind {
            StoreErrorKind::NotFound => format!("{url} does not exist"),
            // Signed rights say themselves what they lack.
            StoreErrorKind::Denied if refusal_in(&source).is_some() => format!("cannot {what} {url}"),
            StoreErrorKind::Denied => {
                format!("cannot {what} {url}: access denied; check the store's credentials")
            }
            _ => format!("cannot {what} {url}"),
        };
        // A local folder that lacks a file says the same again, at length.
        let source = (!is_missing_file(&source)).then(|| source.into());
        Self { kind, message, source }
    }

    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self.kind {
            StoreErrorKind::NotFound | StoreErrorKind::BadUrl => ExitCode::Usage,
            StoreErrorKind::Conflict => ExitCode::Input,
            StoreErrorKind::LocalFile => ExitCode::Unexpected,
            StoreErrorKind::Denied | StoreErrorKind::Unreachable => ExitCode::Unreachable,
        }
    }

    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        self.kind == StoreErrorKind::Unreachable
    }
}

/// Whether the cause of all is a file that is not there.
fn is_missing_file(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::NotFound)
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
