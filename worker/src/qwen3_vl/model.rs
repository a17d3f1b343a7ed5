//! Both towers, and the batch that goes through them.

use std::path::PathBuf;

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::VarBuilder;

use super::config::Config;
use super::text::{TextTower, VisualInput};
use super::trace::Trace;
use super::vision::{Grid, VisionTower};
use crate::embedder::PreparedImage;
use crate::kernels::rows::patch_rows;
use crate::prompt::positions;

/// One item as the model sees it.
#[derive(Debug, Clone, Copy)]
pub struct ModelInput<'a> {
    /// Token ids; the last one is pooled.
    pub token_ids: &'a [u32],
    /// Its images, in order.
    pub images: &'a [PreparedImage],
}

fn grid(image: &PreparedImage) -> Grid {
    (image.grid_height, image.grid_width)
}

/// Qwen3-VL without its language head.
#[derive(Debug, Clone)]
pub struct Qwen3Vl {
    config: Config,
    vision: VisionTower,
    text: TextTower,
    device: Device,
    dtype: DType,
}

impl Qwen3Vl {
    /// Loads the tensors of safetensors files to a device, in the type computed in.
    ///
    /// The files must not change while the model lives; a checkpoint's headers are checked by
    /// [`super::checkpoint::Checkpoint`] before.
    pub fn load(
        config: &Config,
        files: &[PathBuf],
        prefix: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        // SAFETY: a mapped file that another process changes would be undefined behaviour; model files
        // are content addressed or the user's own and nothing here writes them.
        #[allow(unsafe_code)]
        let vb = unsafe { VarBuilder::from_mmaped_safetensors(files, dtype, device)? };
        Self::from_variables(config, if prefix.is_empty() { vb } else { vb.pp(prefix) })
    }

    /// From tensors by name, without prefix.
    pub fn from_variables(config: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            vision: VisionTower::load(&config.vision, &vb.pp("visual"))?,
            text: TextTower::load(&config.text, &vb.pp("language_model"))?,
            config: config.clone(),
            device: vb.device().clone(),
            dtype: vb.dtype(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device it lies on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The hidden state of the last token of each item, `[items, hidden]` in f32, not normalised. On a
    /// GPU the work is launched, and not waited for.
    pub fn forward(&self, batch: &[ModelInput<'_>], trace: &mut dyn Trace) -> Result<Tensor> {
        let lengths: Vec<usize> = batch.iter().map(|item| item.token_ids.len()).collect();
        let token_ids: Vec<u32> = batch.iter().flat_map(|item| item.token_ids).copied().collect();
        let positions = self.positions(batch)?;
        let visual = self.see(batch, &token_ids, trace)?;
        let pooled = self.text.forward(&token_ids, &positions, &lengths, visual.as_ref(), trace)?;
        pooled.to_dtype(DType::F32)
    }

    /// The three counters of all tokens of the batch.
    fn positions(&self, batch: &[ModelInput<'_>]) -> Result<[Vec<u32>; 3]> {
        let mut all: [Vec<u32>; 3] = Default::default();
        for item in batch {
            let grids: Vec<Grid> = item.images.iter().map(grid).collect();
            let one = positions(item.token_ids, &grids, self.config.image_token_id).map_err(Error::wrap)?;
            for (all, one) in all.iter_mut().zip(one) {
                all.extend(one);
            }
        }
        Ok(all)
    }

    /// All images of the batch through the vision tower at once.
    fn see(
        &self,
        batch: &[ModelInput<'_>],
        token_ids: &[u32],
        trace: &mut dyn Trace,
    ) -> Result<Option<VisualInput>> {
        let images: Vec<&PreparedImage> = batch.iter().flat_map(|item| item.images).collect();
        if images.is_empty() {
            return Ok(None);
        }
        let grids: Vec<Grid> = images.iter().map(|image| grid(image)).collect();
        let pixel_values = patch_rows(&images, self.dtype, &self.device)?;
        let seen = self.vision.forward(&pixel_values, &grids, trace)?;
        let image = self.config.image_token_id;
        let places: Vec<u32> =
            (0..token_ids.len() as u32).filter(|place| token_ids[*place as usize] == image).collect();
        if seen.tokens.dim(0)? != places.len() {
            return Err(Error::Msg(format!(
                "{} placeholder tokens for {} visual tokens",
                places.len(),
                seen.tokens.dim(0)?
            )));
        }
        Ok(Some(VisualInput { tokens: seen.tokens, deep: seen.deep, places }))
    }
}
