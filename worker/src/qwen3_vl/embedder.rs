//! The model as an embedder: preprocessing, batches, pooling, normalisation.

use std::path::Path;

use candle_core::{DType, Device};
use shared::plan::{Dtype, EmbeddingSettings};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::config::{Config, ConfigError};
use super::model::{ModelInput, Qwen3Vl};
use super::trace::NoTrace;
use crate::device::cpu_kind;
use crate::embedder::{EmbedError, Embedder, ImageError, ItemError, PreparedImage, PreparedItem};
use crate::image::{self, PixelLimits};
use crate::prompt::{Prompt, PromptError};

/// The smallest norm divided by, as in the reference.
const SMALLEST_NORM: f32 = 1e-12;

/// A model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The safetensors files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// `tokenizer.json`.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The tokenizer and the configuration disagree.
    #[error("the image token is {tokenizer} in tokenizer.json and {config} in config.json")]
    ImageToken {
        /// The tokenizer's id.
        tokenizer: u32,
        /// The configuration's id.
        config: u32,
    },
    /// More components are asked for than there are.
    #[error("{asked} dimensions are asked for, the model has {has}")]
    Dim {
        /// Asked for.
        asked: u32,
        /// There are.
        has: usize,
    },
    /// The weights cannot be brought to the device.
    #[error("the weights cannot be loaded")]
    Weights(#[source] candle_core::Error),
}

/// Qwen3-VL-Embedding with the settings of a run.
pub struct QwenEmbedder {
    model: Qwen3Vl,
    prompt: Prompt,
    limits: PixelLimits,
    dim: usize,
    device: String,
}

impl QwenEmbedder {
    /// Loads a model folder.
    pub fn load(folder: &Path, settings: &EmbeddingSettings, device: &Device) -> Result<Self, LoadError> {
        let config = Config::read(&folder.join("config.json"))?;
        let checkpoint = Checkpoint::open(folder)?;
        checkpoint.check(&config)?;
        let hidden = config.text.hidden_size;
        if settings.dim as usize > hidden {
            return Err(LoadError::Dim { asked: settings.dim, has: hidden });
        }
        let prompt = Prompt::from_file(
            &folder.join("tokenizer.json"),
            &settings.instruction,
            settings.max_length as usize,
        )?;
        let image_pad = prompt.special_tokens().image_pad;
        if image_pad != config.image_token_id {
            return Err(LoadError::ImageToken { tokenizer: image_pad, config: config.image_token_id });
        }
        let dtype = match settings.dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
        };
        let model = Qwen3Vl::load(&config, checkpoint.files(), checkpoint.prefix(), dtype, device)
            .map_err(LoadError::Weights)?;
        Ok(Self {
            model,
            prompt,
            limits: PixelLimits { min_pixels: settings.min_pixels, max_pixels: settings.max_pixels },
            dim: settings.dim as usize,
            device: device_kind(device),
        })
    }

    /// The model itself.
    pub fn model(&self) -> &Qwen3Vl {
        &self.model
    }

    fn forward(&self, batch: &[PreparedItem]) -> candle_core::Result<Vec<Vec<f32>>> {
        let grids: Vec<Vec<(u32, u32)>> = batch
            .iter()
            .map(|item| item.images.iter().map(|image| (image.grid_height, image.grid_width)).collect())
            .collect();
        let pixels: Vec<Vec<f32>> =
            batch.iter().map(|item| item.images.iter().flat_map(image::patches).collect()).collect();
        let inputs: Vec<ModelInput<'_>> = batch
            .iter()
            .zip(&grids)
            .zip(&pixels)
            .map(|((item, grids), pixels)| ModelInput {
                token_ids: &item.token_ids,
                grids,
                pixel_values: pixels,
            })
            .collect();
        self.model.forward(&inputs, &mut NoTrace)?.to_vec2()
    }
}

impl Embedder for QwenEmbedder {
    fn dim(&self) -> usize {
        self.dim
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn prepare_image(&self, bytes: &[u8]) -> Result<PreparedImage, ImageError> {
        image::prepare(bytes, self.limits)
    }

    fn prepare_item(
        &self,
        text: Option<&str>,
        images: Vec<PreparedImage>,
    ) -> Result<PreparedItem, ItemError> {
        self.prompt.build(text, images)
    }

    fn embed(&self, batch: &[PreparedItem]) -> Result<Vec<Vec<f32>>, EmbedError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.forward(batch).map_err(|error| failure(&error, batch))?;
        rows.into_iter()
            .enumerate()
            .map(|(position, row)| normalise(&row, self.dim).ok_or(EmbedError::NotFinite { position }))
            .collect()
    }
}

/// The first `dim` components with norm 1 (`x / max(|x|, 1e-12)`, in f32); `None` where that gives no
/// unit vector.
///
/// Normalising the shortened vector alone equals normalising twice: the first division scales all
/// components alike.
pub fn normalise(row: &[f32], dim: usize) -> Option<Vec<f32>> {
    let row = &row[..dim.min(row.len())];
    let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
    let unit: Vec<f32> = row.iter().map(|value| value / norm.max(SMALLEST_NORM)).collect();
    (norm.is_finite() && norm > SMALLEST_NORM).then_some(unit)
}

fn failure(error: &candle_core::Error, batch: &[PreparedItem]) -> EmbedError {
    let text = error.to_string();
    if text.contains("OUT_OF_MEMORY") || text.contains("out of memory") {
        let tokens = batch.iter().map(|item| item.token_ids.len()).sum();
        return EmbedError::OutOfMemory { items: batch.len(), tokens };
    }
    EmbedError::Device(text)
}

fn device_kind(device: &Device) -> String {
    match device {
        Device::Cpu => cpu_kind().to_owned(),
        other => format!("{:?}", other.location()),
    }
}
