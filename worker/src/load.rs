//! The embedder that a plan asks for, on a device.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use shared::exit::ExitCode;
use shared::model::LocalModel;
use shared::plan::{Dtype, EmbeddingSettings};

use crate::device;
use crate::embedder::hash::HashEmbedder;
use crate::embedder::{EmbedError, Embedder, ItemError};
use crate::image::PixelLimits;
use crate::kernels::check::{Finding, check};
use crate::qwen3_vl::checkpoint::Checkpoint;
use crate::qwen3_vl::{Config, LoadError, QwenEmbedder};

/// An embedder cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EmbedderError {
    /// The model's files.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The device's kernels cannot be checked.
    #[error("the kernels of this device cannot be checked")]
    Check(#[source] candle_core::Error),
    /// The device computes something else than the CPU.
    #[error(
        "this device computes {} wrongly: {:.1e} from the CPU's answer, where {:.1e} is allowed; it claims nothing. \
         Use another machine",
        .0.name, .0.distance, .0.allowed
    )]
    Wrong(Finding),
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

impl EmbedderError {
    /// How a program ends that cannot go on for it: a model that cannot be used is bad input, a device that
    /// computes wrongly is nothing anybody asked for.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Check(_) | Self::Wrong(_) => ExitCode::Unexpected,
            _ => ExitCode::Input,
        }
    }
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

/// Checks a GPU before it is trusted with a shard: every kernel against its twin, in the precision of the
/// plan. On a CPU the twins are what computes.
pub fn trust(device: &Device, dtype: Dtype) -> Result<(), EmbedderError> {
    if device.is_cpu() {
        return Ok(());
    }
    let findings = check(device::dtype(dtype), device).map_err(EmbedderError::Check)?;
    refuse_wrong(&findings)
}

/// An error that names the first kernel that computes wrongly.
pub fn refuse_wrong(findings: &[Finding]) -> Result<(), EmbedderError> {
    match findings.iter().find(|finding| !finding.passed()) {
        None => Ok(()),
        Some(wrong) => Err(EmbedderError::Wrong(wrong.clone())),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_kernel_is_exit_1_by_its_name() {
        let finding = |name: &str, distance| Finding { name: name.to_owned(), distance, allowed: 1e-3 };
        assert!(refuse_wrong(&[finding("a", 1e-4), finding("b", 0.0)]).is_ok());
        let error = refuse_wrong(&[finding("a", 1e-4), finding("b", 2e-3)]).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Unexpected);
        assert!(error.to_string().contains("computes b wrongly"), "{error}");
        assert!(refuse_wrong(&[finding("a", f64::NAN)]).is_err());
    }

    #[test]
    fn a_cpu_is_its_own_measure() {
        assert!(trust(&Device::Cpu, Dtype::F32).is_ok());
    }
}
