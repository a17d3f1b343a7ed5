//! The model as an embedder: a folder's files, a run's settings, a device.

use std::path::Path;

use candle_core::Device;
use shared::plan::EmbeddingSettings;

use super::budget::budget;
use super::checkpoint::{Checkpoint, CheckpointError};
use super::config::{Config, ConfigError};
use super::model::Qwen3Vl;
use super::started::start;
use crate::device;
use crate::embedder::{
    BatchBudget, EmbedError, Embedder, ImageError, ItemError, PreparedImage, PreparedItem, StartedBatch,
};
use crate::image::{self, PixelLimits};
use crate::prompt::{Prompt, PromptError};

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
    budget: BatchBudget,
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
        let dtype = device::dtype(settings.dtype);
        let model = Qwen3Vl::load(&config, checkpoint.files(), checkpoint.prefix(), dtype, device)
            .map_err(LoadError::Weights)?;
        Self::new(model, prompt, settings)
    }

    /// From a model and a prompt at hand.
    pub fn new(model: Qwen3Vl, prompt: Prompt, settings: &EmbeddingSettings) -> Result<Self, LoadError> {
        let budget = budget(model.config(), device::dtype(settings.dtype), model.device());
        Ok(Self {
            device: device::kind(model.device()).map_err(LoadError::Weights)?,
            budget: budget.map_err(LoadError::Weights)?,
            model,
            prompt,
            limits: PixelLimits { min_pixels: settings.min_pixels, max_pixels: settings.max_pixels },
            dim: settings.dim as usize,
        })
    }

    /// The model itself.
    pub fn model(&self) -> &Qwen3Vl {
        &self.model
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
        self.start(batch)?.finish().map(|batch| batch.rows)
    }

    fn start(&self, batch: &[PreparedItem]) -> Result<Box<dyn StartedBatch>, EmbedError> {
        start(&self.model, batch, self.dim)
    }

    fn memory(&self) -> u64 {
        device::memory(self.model.device()).unwrap_or_default()
    }

    fn default_budget(&self) -> BatchBudget {
        self.budget
    }
}
