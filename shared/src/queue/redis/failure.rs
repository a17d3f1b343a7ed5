//! What an error of the `redis` crate means to us.

use redis::{ErrorKind, RedisError};

use super::super::{QueueError, QueueErrorKind};

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

/// Sorts an error of the client library.
pub(super) fn kind_of(error: &RedisError) -> QueueErrorKind {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => return QueueErrorKind::Refused,
        ErrorKind::Io => return QueueErrorKind::Unreachable,
        _ => {}
    }
    let code = error.code().unwrap_or_default();
    if PASSING.contains(&code) {
        QueueErrorKind::Unreachable
    } else if RIGHTS.contains(&code) || says(error, WITHOUT_PASSWORD) {
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

/// The error to hand on. `queue` is the masked URL, `operation` what was tried.
pub(super) fn queue_error(queue: &str, operation: &str, error: RedisError) -> QueueError {
    let kind = kind_of(&error);
    let advice = match kind {
        QueueErrorKind::Unreachable => "the server may come back; the store has lost nothing",
        QueueErrorKind::FunctionsMissing => {
            "the server has lost its functions; `coordinator resume` loads them and rebuilds the run from the store"
        }
        QueueErrorKind::Refused => "check the user, the password and the rights (`coordinator queue-acl`)",
        QueueErrorKind::Protocol => "the server may be of another version than this program",
    };
    QueueError::new(kind, format!("queue {queue}: {operation}: {error}: {advice}")).with_source(error)
}
