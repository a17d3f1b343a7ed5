//! Where a model comes from: how it is named, which files it has, its digest, and how a worker gets
//! a verified copy.
//!
//! | step | who | function |
//! |---|---|---|
//! | read `--model` | both | [`ModelRef`] |
//! | name its files and digest, without downloading weights from a hub | coordinator | [`resolve`] |
//! | put a folder's files into the store (`--push-model`) | coordinator | [`push`] |
//! | get a folder whose files have the recorded SHA-256 | worker | [`local_copy`] |
//!
//! The digest ([`digest_of`]) depends on the files alone ([`crate::laws::Law::OneFingerprint`]): the same
//! files from a folder, a hub or a store are the same model. Tokens go into request headers and
//! nowhere else ([`crate::laws::Law::LeastRights`]).

mod download;
mod error;
mod files;
mod hub;
mod hub_settings;
mod local;
mod lock;
mod reference;
mod resolve;
mod stored;
mod verified;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use error::{HubProblem, ModelError};
pub use files::{CHAT_TEMPLATES, CONFIG, INDEX, PREPROCESSOR, SINGLE_WEIGHTS, TOKENIZER};
pub use hub_settings::HubSettings;
pub use local::{LocalModel, local_copy};
pub use reference::{HubId, ModelRef};
pub use resolve::{Resolved, resolve};
pub use stored::push;

/// The version of the hash embedder's numbers; part of its digest.
pub const HASH_EMBEDDER_VERSION: u32 = 1;

/// The smallest and the largest dimension of the hash embedder.
pub const HASH_DIMENSIONS: std::ops::RangeInclusive<u32> = 64..=65_536;

/// The model as `plan.json` records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// As the person named it: a folder (made absolute), a hub id without its revision, a store URL, or
    /// `hash:DIM`. A label.
    pub name: String,
    /// The pinned commit of a hub model; `None` for everything else. A label.
    pub revision: Option<String>,
    /// sha256 over the sorted lines `name size sha256\n` of the model's files.
    pub digest: String,
    /// The folder in the store that holds the files, where they were pushed: `models/<digest16>`.
    pub stored: Option<String>,
    /// The files the digest is made of, sorted by name. A loader reads these and no others.
    pub files: Vec<ModelFile>,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Its name inside the model's folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// What kind of source a record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKind {
    /// The hash embedder of that dimension: no files.
    Hash(u32),
    /// A hub model at a pinned commit.
    Hub(HubId),
    /// A folder of a store, by URL.
    Store(String),
    /// A folder of the machine that planned.
    Folder(PathBuf),
}

impl ModelRecord {
    /// What the record names. Only the record decides, never what lies on this machine's disk.
    pub fn kind(&self) -> RecordKind {
        if let Some(dimension) = reference::parse_hash(&self.name).filter(|_| self.files.is_empty()) {
            return RecordKind::Hash(dimension);
        }
        if let Some(revision) = &self.revision {
            return RecordKind::Hub(HubId {
                repository: self.name.clone(),
                revision: Some(revision.clone()),
            });
        }
        if reference::is_store_url(&self.name) {
            return RecordKind::Store(self.name.clone());
        }
        RecordKind::Folder(PathBuf::from(&self.name))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The record of the hash embedder.
    pub fn hash(dimension: u32) -> Self {
        Self {
            name: format!("hash:{dimension}"),
            revision: None,
            digest: hash_digest(dimension),
            stored: None,
            files: Vec::new(),
        }
    }
}

/// The digest of a model: sha256 over the sorted lines `name size sha256`, each ended by `\n`.
pub fn digest_of(files: &[ModelFile]) -> String {
    let mut lines: Vec<String> =
        files.iter().map(|file| format!("{} {} {}\n", file.name, file.size, file.sha256)).collect();
    lines.sort_unstable();
    crate::digest::sha256_hex(lines.concat().as_bytes())
}

/// The digest of the hash embedder, which has no files: sha256 of the one line
/// `hash DIM VERSION\n` with [`HASH_EMBEDDER_VERSION`].
pub fn hash_digest(dimension: u32) -> String {
    crate::digest::sha256_hex(format!("hash {dimension} {HASH_EMBEDDER_VERSION}\n").as_bytes())
}

/// How far a download or an upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The file that moved.
    pub file: String,
    /// Bytes of that file that are there.
    pub done: u64,
    /// Bytes of that file.
    pub size: u64,
}

/// Where a model may come from besides a folder.
#[derive(Clone, Default)]
pub struct Places {
    /// The hub, and the cache folder.
    pub hub: HubSettings,
    /// The run's store, which holds pushed models.
    pub store: Option<crate::store::Store>,
    /// Told about every chunk of a download; may be called from several threads.
    pub progress: Option<OnProgress>,
}

/// Told how far a download or an upload is.
pub type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

impl Places {
    /// The hub as the environment says, the run's store where there is one, and nobody told of progress.
    pub fn from_environment(store: Option<crate::store::Store>) -> Self {
        Self { hub: HubSettings::from_environment(), store, progress: None }
    }

    fn report(&self, file: &ModelFile, done: u64) {
        if let Some(progress) = &self.progress {
            progress(&Progress { file: file.name.clone(), done, size: file.size });
        }
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("hub", &self.hub).field("store", &self.store).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> ModelFile {
        ModelFile { name: name.into(), size, sha256: "ab".repeat(32) }
    }

    #[test]
    fn the_digest_is_over_sorted_lines() {
        let forward = [file("a", 1), file("b", 2)];
        let backward = [file("b", 2), file("a", 1)];
        let text = format!("a 1 {0}\nb 2 {0}\n", "ab".repeat(32));
        assert_eq!(digest_of(&forward), crate::digest::sha256_hex(text.as_bytes()));
        assert_eq!(digest_of(&forward), digest_of(&backward));
        assert_ne!(digest_of(&forward), digest_of(&[file("a", 1), file("b", 3)]));
    }

    #[test]
    fn the_hash_embedder_has_a_digest_per_dimension() {
        assert_eq!(hash_digest(64), crate::digest::sha256_hex(b"hash 64 1\n"));
        assert_ne!(hash_digest(64), hash_digest(128));
        assert_eq!(ModelRecord::hash(64).kind(), RecordKind::Hash(64));
    }

    #[test]
    fn records_say_what_they_name() {
        let record = |name: &str, revision: Option<&str>| ModelRecord {
            name: name.into(),
            revision: revision.map(Into::into),
            digest: String::new(),
            stored: None,
            files: vec![file("config.json", 1)],
        };
        let hub = HubId { repository: "a/b".into(), revision: Some("c0ffee".into()) };
        assert_eq!(record("a/b", Some("c0ffee")).kind(), RecordKind::Hub(hub));
        assert_eq!(record("s3://bucket/m", None).kind(), RecordKind::Store("s3://bucket/m".into()));
        assert_eq!(record("/models/m", None).kind(), RecordKind::Folder("/models/m".into()));
    }
}
