//! What an error of the `redis` crate means to us.

use redis::{ErrorKind, RedisError};

use super::super::{QueueError, QueueErrorKind};
use super::options::mask_url;
use super::tls;
use crate::settings::QueueAddress;

/// What messages say of the server and of how it is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The URL, masked.
    pub(super) shown: String,
    /// Whether it is spoken to with TLS.
    pub(super) over_tls: bool,
    /// Whether a CA was named.
    pub(super) has_authority: bool,
    /// Whether we have a certificate to show.
    pub(super) has_identity: bool,
}

impl Peer {
    pub(super) fn of(address: &QueueAddress) -> Self {
        let url = address.url().expose();
        Self {
            shown: mask_url(url),
            over_tls: url.starts_with("rediss://"),
            has_authority: address.authority().is_some(),
            has_identity: address.identity().is_some(),
        }
    }
}

/// Codes of answers that a later try may not get: the server is loading, failing over, busy, or short
/// of memory or disk.
const PASSING: [&str; 10] = [
    "LOADING",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "READONLY",
    "BUSY",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "UNBLOCKED",
];

/// Codes of answers that only a person can change.
const RIGHTS: [&str; 4] = ["NOPERM", "NOAUTH", "WRONGPASS", "DENIED"];

/// How a server refuses a command of more than ten words from somebody who gave no password.
const WITHOUT_PASSWORD: &str = "unauthenticated";

/// How a server refuses a command inside a function to a user who may not run it.
const WITHIN_FUNCTION: &str = "The user executing the script can't";

/// Sorts an error of the client library.
pub(super) fn kind_of(error: &RedisError) -> QueueErrorKind {
    if tls::is_refusal(error) {
        return QueueErrorKind::Refused;
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => return QueueErrorKind::Refused,
        ErrorKind::Io => return QueueErrorKind::Unreachable,
        _ => {}
    }
    let code = error.code().unwrap_or_default();
    if PASSING.contains(&code) {
        QueueErrorKind::Unreachable
    } else if RIGHTS.contains(&code) || says(error, WITHOUT_PASSWORD) || says(error, WITHIN_FUNCTION) {
        QueueErrorKind::Refused
    } else if says(error, "Function not found") {
        QueueErrorKind::FunctionsMissing
    } else if error.is_unrecoverable_error() {
        QueueErrorKind::Unreachable
    } else {
        QueueErrorKind::Protocol
    }
}

fn says(error: &RedisError, words: &str) -> bool {
    error.detail().is_some_and(|detail| detail.contains(words))
}

/// The error to hand on. `operation` is what was tried.
pub(super) fn queue_error(peer: &Peer, operation: &str, error: RedisError) -> QueueError {
    let kind = kind_of(&error);
    let general = match kind {
        QueueErrorKind::Unreachable => "the server may come back; the store has lost nothing",
        QueueErrorKind::FunctionsMissing => {
            "the server has lost its functions; `coordinator resume` loads them and rebuilds the run from the store"
        }
        QueueErrorKind::Refused => "check the user, the password and the rights (`coordinator queue-acl`)",
        QueueErrorKind::Protocol => "the server may be of another version than this program",
    };
    let advice = tls::advice(peer, &error).unwrap_or(general);
    let queue = &peer.shown;
    QueueError::new(kind, format!("queue {queue}: {operation}: {error}: {advice}")).with_source(error)
}
