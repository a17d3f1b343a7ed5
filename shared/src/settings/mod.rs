//! Settings that every command shares: the flag, then the environment, then `embed-fleet.toml` in the
//! working folder. Resolved once at the start; nothing reads the environment after that.

mod duration;
mod embedding;
mod log;
mod pem;
mod queue;

pub use duration::parse_duration;
pub use embedding::{
    DEFAULT_INSTRUCTION, DEFAULT_MAX_LENGTH, DEFAULT_MAX_PIXELS, EmbeddingChoices, InvalidSetting, MIN_DIM,
    MIN_PIXELS,
};
pub use log::log_filter;
pub use pem::{Certificates, ClientIdentity, PemError, PemSetting};
pub use queue::{QueueAddress, TlsFlags};

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ids::RunId;

/// The file read from the working folder.
pub const FILE_NAME: &str = "embed-fleet.toml";

/// Names of all environment variables the two programs read themselves. The store's backends read
/// their own (`AWS_*`, `GOOGLE_*`, `AZURE_*`), the hub `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT`.
pub mod environment {
    /// The queue's URL.
    pub const QUEUE: &str = "FLEET_QUEUE";
    /// The CA that the queue's certificate is checked against.
    pub const QUEUE_CA: &str = "FLEET_QUEUE_CA";
    /// The certificate shown to the queue.
    pub const QUEUE_CERT: &str = "FLEET_QUEUE_CERT";
    /// The private key of that certificate.
    pub const QUEUE_KEY: &str = "FLEET_QUEUE_KEY";
    /// The store's URL.
    pub const STORE: &str = "FLEET_STORE";
    /// The run id.
    pub const RUN: &str = "FLEET_RUN";
    /// The model.
    pub const MODEL: &str = "FLEET_MODEL";
    /// The label of the rented box that a worker runs on, told to the queue with its signs of life.
    pub const INSTANCE: &str = "FLEET_INSTANCE";
    /// What to log, as a filter of the `tracing` crate; see [`super::log_filter`].
    pub const LOG: &str = "FLEET_LOG";
}

/// A queue URL, which may hold a password: it prints with the password masked.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct QueueUrl(String);

impl QueueUrl {
    /// The URL with its password, for the client library alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the in-process queue.
    pub fn is_memory(&self) -> bool {
        self.0 == "memory:" || self.0 == "memory"
    }
}

impl From<String> for QueueUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl std::str::FromStr for QueueUrl {
    type Err = std::convert::Infallible;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self(url.to_owned()))
    }
}

impl fmt::Display for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.0))
    }
}

impl fmt::Debug for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueUrl({self})")
    }
}

/// The URL with the password replaced and options cut off. Text that is no URL but holds an `@` is
/// hidden whole: better an unhelpful message than a secret in a log.
pub fn mask_url(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.has_host() || !url.contains('@') => {
            if parsed.password().is_some() {
                // Fails only for URLs that cannot have a password.
                let _ = parsed.set_password(Some("***"));
            }
            parsed.set_query(None);
            parsed.to_string()
        }
        _ if url.contains('@') => "*** (not a URL)".to_owned(),
        _ => url.to_owned(),
    }
}

/// `embed-fleet.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileSettings {
    /// The queue's URL.
    pub queue: Option<QueueUrl>,
    /// The CA that the queue's certificate is checked against.
    pub queue_ca: Option<PemSetting>,
    /// The certificate shown to the queue.
    pub queue_cert: Option<PemSetting>,
    /// The private key of that certificate.
    pub queue_key: Option<PemSetting>,
    /// The store's URL.
    pub store: Option<String>,
    /// The run id.
    pub run: Option<RunId>,
    /// The model.
    pub model: Option<String>,
    /// The largest image in pixels.
    pub max_pixels: Option<u32>,
    /// The most tokens of an item.
    pub max_length: Option<u32>,
    /// The instruction.
    pub instruction: Option<String>,
    /// Components of a vector.
    pub dim: Option<u32>,
}

/// The settings file, or what a setting names, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A certificate or a key.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// TLS settings for a connection without TLS.
    #[error(
        "{setting} is set, but the queue {url} is spoken to without TLS: use a rediss:// URL, or leave the setting out"
    )]
    TlsWithoutTls {
        /// The setting.
        setting: String,
        /// The queue, masked.
        url: String,
    },
    /// Half of a client's identity.
    #[error("{present} is set without {missing}: a client certificate and its private key go together")]
    HalfAnIdentity {
        /// What is set.
        present: String,
        /// What is not.
        missing: String,
    },
    /// It exists and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not what is expected.
    #[error("{} is not a settings file: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and where.
        message: String,
    },
}

impl FileSettings {
    /// Reads `embed-fleet.toml` from a folder; without one, nothing is set.
    pub fn read(folder: &Path) -> Result<Self, SettingsError> {
        let path = folder.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        // The parser's own message quotes the line, and that line may hold a password.
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            SettingsError::Parse { path, message: format!("line {line}: {}", error.message()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (url, shown) in [
            ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
            ("rediss://user:hunter2@host", "rediss://user:***@host"),
            ("redis://host/0?password=hunter2", "redis://host/0"),
            ("memory:", "memory:"),
            ("us:hunter2@host", "*** (not a URL)"),
        ] {
            let url = QueueUrl::from(url.to_owned());
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn the_file_refuses_unknown_fields_by_line() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(FileSettings::read(folder.path()).unwrap(), FileSettings::default());
        std::fs::write(folder.path().join(FILE_NAME), "store = \"s\"\nmax-pixels = 10\n").unwrap();
        let settings = FileSettings::read(folder.path()).unwrap();
        assert_eq!((settings.store.as_deref(), settings.max_pixels), (Some("s"), Some(10)));
        std::fs::write(folder.path().join(FILE_NAME), "store = \"s\"\nstroe = 1\n").unwrap();
        let message = FileSettings::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("stroe"), "{message}");
    }
}
