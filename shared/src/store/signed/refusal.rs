//! What signed rights do not allow, in words for a person.

use std::error::Error;

use object_store::path::Path;

use super::document::DocumentError;

/// Why signed rights gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// They are over.
    #[error(
        "the signed URLs expired; run `coordinator plan --signed-urls 7d` again and give workers the new file"
    )]
    Expired,
    /// They never went so far.
    #[error("these rights do not allow {0}: they read one run's plan, bundles and model, and add its parts")]
    NotAllowed(&'static str),
    /// They are another run's, or were signed before this object was there.
    #[error("these rights are those of run {run}, and do not reach {key}")]
    OutOfReach {
        /// The run they are for.
        run: String,
        /// What was asked.
        key: String,
    },
    /// The upload is larger than the policy lets through.
    #[error("a part of {bytes} bytes is larger than the {most} that these rights let through")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most.
        most: u64,
    },
    /// The server knows no uploads by POST.
    #[error(
        "the store answers {status} to an upload by POST policy, which not every S3-compatible store knows: give workers \
         credentials instead (README, Rights)"
    )]
    NoPostPolicy {
        /// The status.
        status: u16,
    },
    /// The server refuses.
    #[error("the store answers {status} {code}: {message}")]
    Server {
        /// The status.
        status: u16,
        /// S3's code.
        code: String,
        /// S3's message.
        message: String,
    },
    /// The document is not what its name says.
    #[error("{0} is damaged: its sha256 is not the one in its name")]
    Damaged(String),
    /// A document that cannot be read.
    #[error("{place} cannot be used")]
    Document {
        /// Which one.
        place: String,
        /// The cause.
        source: DocumentError,
    },
    /// The answer is not what was asked for.
    #[error("{0} bytes came where the rights say {1}")]
    OtherSize(u64, u64),
    /// The connection fails, after all repetitions.
    #[error("no answer from {host}")]
    Connection {
        /// The server.
        host: String,
        /// The cause, without the URL.
        source: reqwest::Error,
    },
}

impl Refusal {
    /// As the store interface has it.
    pub(super) fn at(self, location: &Path) -> object_store::Error {
        let (path, source) = (location.to_string(), Box::new(self));
        match source.as_ref() {
            Self::Server { status: 404, .. } => object_store::Error::NotFound { path, source },
            Self::Connection { .. } => object_store::Error::Generic { store: STORE, source },
            Self::Server { status, .. } if *status == 429 || *status >= 500 => {
                object_store::Error::Generic { store: STORE, source }
            }
            _ => object_store::Error::PermissionDenied { path, source },
        }
    }
}

/// How the store names itself in errors.
pub(super) const STORE: &str = "signed URLs";

/// The refusal inside an error of the store interface, where there is one.
pub fn refusal_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Refusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        next = error.source();
    }
    None
}
