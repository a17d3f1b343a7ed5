//! How a model is named, which files it has, and its digest.

use serde::{Deserialize, Serialize};

/// The model as `plan.json` records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// As the person named it: a folder, a hub id, a store URL, or `hash:DIM`. A label.
    pub name: String,
    /// The pinned commit of a hub model. A label.
    pub revision: Option<String>,
    /// sha256 over the sorted lines `name size sha256\n` of the model's files.
    pub digest: String,
    /// The folder in the store that holds the files, where they were pushed: `models/<digest16>`.
    pub stored: Option<String>,
    /// The files the digest is made of.
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
