//! The embedder that a plan asks for, on a device.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use shared::model::LocalModel;
use shared::plan::{Dtype, EmbeddingSettings};

use crate::embedder::hash::HashEmbedder;
use crate::embedder::{EmbedError, Embedder, ItemError};
use crate::image::PixelLimits;
use crate::qwen3_vl::checkpoint::Checkpoint;
use crate::qwen3_vl::{Config, LoadError, QwenEmbedder};

/// An embedder cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EmbedderError {
    /// The model's files.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The vector asked for is larger than the model's.
    #[error("the plan asks for {asked} dimensions, the model has {has}")]
    Dim {
        /// Components asked for.
        asked: u32,
        /// Components the model has.
        has: usize,
    },
    /// The vector of an empty item cannot be computed.
    #[error("the empty item cannot be prepared")]
    NullItem(#[source] ItemError),
    /// The vector of an empty item cannot be computed.
    #[error("the empty item cannot be embedded")]
    NullVector(#[source] EmbedError),
}

/// The hash embedder of a dimension.
fn hash(dim: u32, settings: &EmbeddingSettings) -> Arc<dyn Embedder> {
    let dim = NonZeroUsize::new(dim as usize).unwrap_or(NonZeroUsize::MIN);
    let limits = PixelLimits { min_pixels: settings.min_pixels, max_pixels: settings.max_pixels };
    Arc::new(HashEmbedder::new(dim, limits, settings.max_length as usize))
}

/// Checks a model folder by its configuration and the headers of its files, in no time.
pub fn check_folder(folder: &Path) -> Result<(), EmbedderError> {
    let config = Config::read(&folder.join("config.json")).map_err(LoadError::from)?;
    Checkpoint::open(folder).and_then(|checkpoint| checkpoint.check(&config)).map_err(LoadError::from)?;
    Ok(())
}

/// The embedder of a model that lies on this machine.
pub fn embedder(
    model: &LocalModel,
    settings: &EmbeddingSettings,
    device: &Device,
) -> Result<Arc<dyn Embedder>, EmbedderError> {
    match model {
        LocalModel::Hash(_) => Ok(hash(settings.dim, settings)),
        LocalModel::Folder(folder) => qwen(folder, settings, device),
    }
}

/// Qwen3-VL-Embedding from a folder.
fn qwen(
    folder: &Path,
    settings: &EmbeddingSettings,
    device: &Device,
) -> Result<Arc<dyn Embedder>, EmbedderError> {
    Ok(Arc::new(QwenEmbedder::load(folder, settings, device)?))
}

/// The vector of an item with nothing in it.
pub fn null_vector(embedder: &dyn Embedder) -> Result<Arc<[f32]>, EmbedderError> {
    let item = embedder.prepare_item(None, Vec::new()).map_err(EmbedderError::NullItem)?;
    let mut rows = embedder.embed(&[item]).map_err(EmbedderError::NullVector)?;
    Ok(rows.pop().unwrap_or_default().into())
}

/// The precision a device computes in unless another is asked for.
pub fn default_dtype(device: &Device) -> Dtype {
    if device.is_cpu() { Dtype::F32 } else { Dtype::Bf16 }
}
