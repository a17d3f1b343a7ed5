//! A batch on its way: launched, waited for, normalised.

use std::time::{Duration, Instant};

use super::model::{ModelInput, Qwen3Vl};
use super::trace::NoTrace;
use crate::embedder::{EmbedError, EmbeddedBatch, PreparedItem, StartedBatch};
#[cfg(feature = "cuda")]
use crate::kernels::cuda::{Gpu, Work};

/// The smallest norm divided by, as in the reference.
const SMALLEST_NORM: f32 = 1e-12;

/// Starts a batch. A GPU goes on with it while the caller starts the next; a CPU has computed it when
/// this returns. Vectors have the first `dim` components of a hidden state.
pub fn start(
    model: &Qwen3Vl,
    batch: &[PreparedItem],
    dim: usize,
) -> Result<Box<dyn StartedBatch>, EmbedError> {
    let size = BatchSize { items: batch.len(), tokens: batch.iter().map(|item| item.token_ids.len()).sum() };
    let started = Instant::now();
    if batch.is_empty() {
        return Ok(Box::new(EmbeddedBatch { rows: Vec::new(), busy: Duration::ZERO }));
    }
    let inputs: Vec<ModelInput<'_>> =
        batch.iter().map(|item| ModelInput { token_ids: &item.token_ids, images: &item.images }).collect();
    let forward = || model.forward(&inputs, &mut NoTrace);
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of_device(model.device()).map_err(|error| size.failure(&error))? {
        let work = gpu.start_batch(forward).map_err(|error| size.failure(&error))?;
        return Ok(Box::new(OnGpu { work, size, dim }));
    }
    let rows = forward().and_then(|rows| rows.to_vec2()).map_err(|error| size.failure(&error))?;
    let busy = started.elapsed();
    Ok(Box::new(EmbeddedBatch { rows: normalise_all(&rows, dim)?, busy }))
}

/// How large a batch is, for messages.
#[derive(Debug, Clone, Copy)]
struct BatchSize {
    items: usize,
    tokens: usize,
}

impl BatchSize {
    fn failure(self, error: &candle_core::Error) -> EmbedError {
        let text = error.to_string();
        // The driver's words, and cuBLAS's.
        if ["OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED"].iter().any(|words| text.contains(words)) {
            return EmbedError::OutOfMemory { items: self.items, tokens: self.tokens };
        }
        EmbedError::Device(text)
    }
}

/// A batch that a GPU works on.
#[cfg(feature = "cuda")]
struct OnGpu {
    work: Work,
    size: BatchSize,
    dim: usize,
}

#[cfg(feature = "cuda")]
impl StartedBatch for OnGpu {
    fn is_finished(&self) -> bool {
        self.work.is_finished()
    }

    fn finish(self: Box<Self>) -> Result<EmbeddedBatch, EmbedError> {
        let (rows, busy) = self.work.finish().map_err(|error| self.size.failure(&error))?;
        Ok(EmbeddedBatch { rows: normalise_all(&rows, self.dim)?, busy })
    }
}

fn normalise_all(rows: &[Vec<f32>], dim: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
    rows.iter()
        .enumerate()
        .map(|(position, row)| normalise(row, dim).ok_or(EmbedError::NotFinite { position }))
        .collect()
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
