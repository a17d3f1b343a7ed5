//! Why a model cannot be used.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::exit::ExitCode;
use crate::store::StoreError;

/// A model that cannot be named, read, fetched or trusted. Messages name URLs without credentials.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// `--model` is none of the forms it may have.
    #[error("{value:?} is not a model: {rule}")]
    BadName {
        /// As given, without secrets.
        value: String,
        /// The rule it breaks and what to do.
        rule: String,
    },
    /// A file that every model has is missing.
    #[error(
        "{place} has no {name}; a model's folder holds config.json, tokenizer.json, chat_template.jinja, preprocessor_config.json and its safetensors files"
    )]
    MissingFile {
        /// The folder or the URL.
        place: String,
        /// The missing file.
        name: String,
    },
    /// A file of the model cannot be understood.
    #[error("{name} of {place} cannot be used: {reason}")]
    BadFile {
        /// The folder or the URL.
        place: String,
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    LocalFile {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder holds another model than the plan's.
    #[error(
        "{} holds another model: its digest is {found}, the plan's is {expected}; name a folder with the plan's files or leave --model out",
        folder.display()
    )]
    OtherModel {
        /// The folder.
        folder: PathBuf,
        /// The plan's digest.
        expected: String,
        /// The folder's digest.
        found: String,
    },
    /// A fetched file has other bytes than the record says, twice.
    #[error(
        "{url} has sha256 {found}, the record says {expected}; the file changed or was damaged on the way: plan again, or fetch it by hand and pass --model"
    )]
    WrongBytes {
        /// Where it came from.
        url: String,
        /// The record's.
        expected: String,
        /// The file's.
        found: String,
    },
    /// The plan names a folder of another machine.
    #[error(
        "the plan's model is the folder {}, which this machine does not have: pass --model, or plan with --push-model",
        folder.display()
    )]
    NotVisible {
        /// The folder as the plan names it.
        folder: PathBuf,
    },
    /// The hub refused or did not answer.
    #[error("{url}: {problem}")]
    Hub {
        /// What was asked for, without credentials.
        url: String,
        /// Why it failed.
        problem: HubProblem,
    },
    /// The store refused or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that no coordinator of this version writes.
    #[error("the plan's model record is damaged: {0}; plan again")]
    BadRecord(String),
}

/// What a hub answered. Each says what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubProblem {
    /// 401 or 403 on a repository whose conditions have to be accepted.
    Gated,
    /// 401: no token, a wrong one, or (the hub does not tell) no such repository.
    Unauthorized {
        /// Whether a token was sent.
        with_token: bool,
    },
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// Any other status that trying again did not cure.
    Status(u16),
    /// No connection, or one that broke again and again.
    Unreachable(String),
    /// An answer that is not what the hub's interface promises.
    Malformed(String),
    /// `HF_ENDPOINT` cannot be used.
    BadEndpoint(String),
}

impl fmt::Display for HubProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gated => f.write_str(
                "the model is gated; accept its conditions on its page at the hub and set HF_TOKEN to a token of that account",
            ),
            Self::Unauthorized { with_token: true } => f.write_str(
                "the hub does not accept the token (401): it is wrong or expired, or the model does not exist; check HF_TOKEN and the name",
            ),
            Self::Unauthorized { with_token: false } => f.write_str(
                "the hub asks for a token (401): the model is private or does not exist; check the name, or set HF_TOKEN",
            ),
            Self::Forbidden => {
                f.write_str("the hub refuses access (403); check that the token in HF_TOKEN may read this model")
            }
            Self::NotFound => f.write_str(
                "the hub has no such model, revision or file (404); check the name and the revision (or the path, if a folder was meant)",
            ),
            Self::Status(status) => write!(f, "the hub answered {status}; try again later"),
            Self::Unreachable(why) => write!(
                f,
                "cannot reach the hub ({why}); check the network and HF_ENDPOINT, or pass --model with a folder that holds the files"
            ),
            Self::Malformed(what) => write!(f, "the hub's answer cannot be understood: {what}; check HF_ENDPOINT"),
            Self::BadEndpoint(why) => write!(f, "HF_ENDPOINT cannot be used: {why}"),
        }
    }
}

impl ModelError {
    pub(super) fn local(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::LocalFile { what, path: path.to_owned(), source }
    }

    pub(super) fn missing(place: impl Into<String>, name: impl Into<String>) -> Self {
        Self::MissingFile { place: place.into(), name: name.into() }
    }

    pub(super) fn bad_file(place: impl Into<String>, name: &str, reason: impl Into<String>) -> Self {
        Self::BadFile { place: place.into(), name: name.to_owned(), reason: reason.into() }
    }

    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Hub { problem, .. } => matches!(
                problem,
                HubProblem::Unreachable(_) | HubProblem::Status(408 | 425 | 429 | 500 | 502 | 503 | 504)
            ),
            Self::Store(error) => error.is_transient(),
            _ => false,
        }
    }

    /// The exit code of a command that ends with this error: 2 for a wrong name and for a folder that
    /// this machine does not see, 6 for a store that cannot be reached, 3 for everything else.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::BadName { .. } | Self::NotVisible { .. } => ExitCode::Usage,
            Self::Store(error) if error.is_transient() => ExitCode::Unreachable,
            _ => ExitCode::Input,
        }
    }
}
