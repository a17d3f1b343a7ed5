//! Items through the model alone: prepared beforehand, batches back to back.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result};

use super::weights::RandomWeights;
use super::work::operations;
use crate::batch::batches;
use crate::embedder::{BatchBudget, EmbedError, PreparedItem, StartedBatch};
use crate::kernels::linear::{After, linear};
use crate::qwen3_vl::{Config, Qwen3Vl};

/// A model of a shape with random weights.
pub fn random_model(config: &Config, dtype: DType, device: &Device) -> Result<Qwen3Vl> {
    Qwen3Vl::from_variables(config, RandomWeights::variables(dtype, device))
}

/// What a run of a bench gave.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Items a second.
    pub items_per_second: f64,
    /// Operations that the items need, a second, in units of 10^12.
    pub useful_teraflops: f64,
    /// The share of the time that the device worked.
    pub busy: f64,
}

/// Runs all items once through `start`, a batch being prepared while the one before runs.
pub fn run(
    items: &[PreparedItem],
    config: &Config,
    budget: BatchBudget,
    start: impl Fn(&[PreparedItem]) -> std::result::Result<Box<dyn StartedBatch>, EmbedError>,
) -> std::result::Result<Figures, EmbedError> {
    let started = Instant::now();
    let mut busy = Duration::ZERO;
    let mut running: Option<Box<dyn StartedBatch>> = None;
    for batch in batches(items, budget) {
        let next = start(&items[batch])?;
        if let Some(before) = running.replace(next) {
            busy += before.finish()?.busy;
        }
    }
    if let Some(last) = running {
        busy += last.finish()?.busy;
    }
    let seconds = started.elapsed().as_secs_f64();
    let needed: f64 = items.iter().map(|item| operations(item, config)).sum();
    Ok(Figures {
        items_per_second: items.len() as f64 / seconds,
        useful_teraflops: needed / seconds / 1e12,
        busy: busy.as_secs_f64() / seconds,
    })
}

/// The rate of a large product of bf16 (f32 on a CPU), in units of 10^12 operations a second.
pub fn product_peak(device: &Device) -> Result<f64> {
    let (size, dtype, warm, repeats) =
        if device.is_cpu() { (1024, DType::F32, 1, 3) } else { (8192, DType::BF16, 5, 30) };
    // Values without a pattern: a product of regular ones takes less power and looks faster.
    let random = |name: &str| {
        let variables = RandomWeights::variables(dtype, device);
        variables.get((size, size), name)
    };
    let (x, w) = (random("x")?, random("w")?);
    let multiply = || linear(&x, &w, After::Nothing);
    for _ in 0..warm {
        multiply()?;
    }
    device.synchronize()?;
    let started = Instant::now();
    for _ in 0..repeats {
        multiply()?;
    }
    device.synchronize()?;
    let seconds = started.elapsed().as_secs_f64() / f64::from(repeats);
    Ok(2.0 * (size as f64).powi(3) / seconds / 1e12)
}

/// The item sizes of the largest shard that the defaults allow: `--max-length` tokens each, the image as
/// large as `--max-pixels`.
pub fn worst_items(config: &Config) -> Vec<PreparedItem> {
    let size = super::mix::ItemSize { text_tokens: 8192 - 1800 - 2, image_grids: vec![[1, 60, 120]] };
    super::mix::items(&vec![size; 8], config)
}
