//! How much a batch may hold on a device: a function of the configuration and the device's memory, never
//! of what happens to be free ([`shared::laws::Law::SameBytesAgain`]).

use candle_core::{DType, Device, Result};

use super::checkpoint::expected_tensors;
use super::config::Config;
use crate::device;
use crate::embedder::BatchBudget;

/// Batches gain nothing beyond this.
const MOST: u64 = 32 << 10;
/// Budgets are multiples of this, so that cards of one size agree.
const STEP: u64 = 1 << 10;
/// What a context, its libraries, kernels and their workspace take.
const OVERHEAD: u64 = 3 << 29;

/// The budget of a device; at least one step, however little memory there is.
pub fn budget(config: &Config, dtype: DType, device: &Device) -> Result<BatchBudget> {
    match device::memory(device)? {
        0 => Ok(BatchBudget::CPU),
        bytes => Ok(of_memory(config, dtype, bytes)),
    }
}

/// The budget of a GPU with so many bytes.
pub fn of_memory(config: &Config, dtype: DType, bytes: u64) -> BatchBudget {
    let width = dtype.size_in_bytes() as u64;
    let weights: u64 = expected_tensors(config)
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>() as u64 * width)
        .sum();
    let free = bytes.saturating_sub(weights + OVERHEAD);
    // An eighth stays free for fragments.
    let fits = free / 8 * 7 / bytes_of_unit(config, width);
    BatchBudget(((fits / STEP).clamp(1, MOST / STEP) * STEP) as usize)
}

/// Bytes that a text token, or a patch, takes at most: in a decoder layer the residual, the normed row,
/// gates, ups and their product; the deep features of a visual token count for its four patches.
fn bytes_of_unit(config: &Config, width: u64) -> u64 {
    let (text, vision) = (&config.text, &config.vision);
    let (hidden, wide) = (text.hidden_size as u64, text.intermediate_size as u64);
    let token = 2 * hidden + 3 * wide;
    let features = (vision.deepstack.len() as u64 + 1) * hidden / 4;
    let patch = features + 6 * vision.hidden_size as u64 + vision.intermediate_size as u64;
    width * token.max(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shape::Shape;

    #[test]
    fn the_8b_fits_a_card_of_24_gb_and_a_larger_card_gets_no_less() {
        let config = Shape::Large.config();
        let of = |gib: u64| of_memory(&config, DType::BF16, gib << 30).0;
        assert!(of(22) >= 8192, "{}", of(22));
        assert!(of(16) >= 1024);
        assert!(of(24) >= of(22) && of(80) >= of(24));
        assert_eq!(of(80), 32_768);
        assert_eq!(of(22) % 1024, 0);
    }
}
