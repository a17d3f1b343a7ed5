//! What a worker and its child say to each other: a line of JSON each. The worker sends a [`Task`], then one
//! range after the other; the child answers with what it does. It begins each line with a line break, so that
//! what a library prints without one does not swallow it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::model::LocalModel;
use shared::plan::EmbeddingSettings;
use shared::queue::ItemRange;

/// The argument that makes a worker a child.
pub const ARGUMENT: &str = "probe";

/// What a child needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The model.
    pub model: ProbedModel,
    /// The plan's settings.
    pub settings: EmbeddingSettings,
    /// `--device`.
    pub device: String,
    /// `--gpu-memory`.
    pub gpu_memory: Option<u64>,
    /// Tokens and patches of a batch.
    pub budget: usize,
    /// The shard's bundle.
    pub bundle: PathBuf,
}

/// [`LocalModel`] on the wire.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbedModel {
    /// The hash embedder of a dimension.
    Hash(u32),
    /// A folder.
    Folder(PathBuf),
}

/// What a child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The model is loaded, and has embedded an empty item.
    Ready,
    /// It prepares or embeds these items now.
    Begins(ItemRange),
    /// It is through with the range, whatever the items' vectors are.
    Survived,
    /// Its device failed: it can tell nothing any more.
    Failed(String),
}

impl From<LocalModel> for ProbedModel {
    fn from(model: LocalModel) -> Self {
        match model {
            LocalModel::Hash(dim) => Self::Hash(dim),
            LocalModel::Folder(folder) => Self::Folder(folder),
        }
    }
}

impl From<ProbedModel> for LocalModel {
    fn from(model: ProbedModel) -> Self {
        match model {
            ProbedModel::Hash(dim) => Self::Hash(dim),
            ProbedModel::Folder(folder) => Self::Folder(folder),
        }
    }
}
