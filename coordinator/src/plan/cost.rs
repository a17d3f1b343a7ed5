//! What an item will cost a GPU, predicted from its text and the headers of its images.
//!
//! Floating-point operations of Qwen3-VL-Embedding-8B, as `infra/PERFORMANCE.md` counts them: shards need not take
//! the predicted time, only all the same. The 2B has other figures and nearly the same proportions.

use shared::images::size::{FACTOR, MAX_RATIO, resized};
use shared::images::{ImageRoots, ImagesError, Match};
use shared::items::Item;
use shared::plan::EmbeddingSettings;

/// Tokens of the prompt around text and images, with the default instruction.
const FRAME_TOKENS: u64 = 22;
/// Hundredths of a token for a byte of text. Of the model's tokenizer and the Korean of exams: 29, with 7 % of
/// spread (root mean square over 240 items); English has 25.
const TOKENS_PER_100_BYTES: u64 = 29;
/// Tokens around an image.
const IMAGE_FRAME_TOKENS: u64 = 2;
/// Pixels of a visual token: four patches of 16 by 16.
const TOKEN_PIXELS: u64 = FACTOR as u64 * FACTOR as u64;
/// What an image is taken for whose header does not tell.
const USUAL_IMAGE: (u32, u32) = (480, 360);

/// Operations of a token: two for each weight of the decoder's layers.
const TOKEN: u128 = 13_900_000_000;
/// Operations of a pair of tokens: `2 h` in each of 36 layers, `h` = 4,096.
const TOKEN_PAIR: u128 = 2 * 4096 * 36;
/// Operations of a visual token's four patches: two for each of 0.57 thousand million weights.
const VISUAL_TOKEN: u128 = 4 * 1_150_000_000;
/// Operations of a pair of visual tokens of one image: sixteen pairs of patches, `4 h` in each of 27 layers, `h` =
/// 1,152.
const VISUAL_PAIR: u128 = 16 * 4 * 1152 * 27;
/// Costs are counted in this many operations.
const UNIT: u128 = 1_000_000_000;

/// The cost of an item, in thousand millions of operations; at least 1.
pub(super) fn cost(
    item: &Item,
    matches: &[Match],
    roots: &ImageRoots,
    settings: &EmbeddingSettings,
) -> Result<u32, ImagesError> {
    let mut images = Vec::new();
    for found in matches {
        if let Match::Found(image) = found {
            images.extend(visual_tokens(roots.dimensions(*image)?, settings));
        }
    }
    let text = item.text.as_deref().unwrap_or_default();
    Ok(operations(text.len() as u64, images.into_iter(), settings.max_length.into()))
}

/// The tokens of an image; `None` where it is dropped for its ratio.
fn visual_tokens(size: Option<(u32, u32)>, settings: &EmbeddingSettings) -> Option<u64> {
    let (width, height) = size.unwrap_or(USUAL_IMAGE);
    if u64::from(width.max(height)) > u64::from(MAX_RATIO) * u64::from(width.min(height)) {
        return None;
    }
    let (width, height) = resized(width, height, settings.min_pixels, settings.max_pixels);
    Some(u64::from(width) * u64::from(height) / TOKEN_PIXELS)
}

/// As a worker does it: images that do not fit are dropped from the last, and text is cut at the end.
fn operations(text_bytes: u64, images: impl Iterator<Item = u64>, max_length: u64) -> u32 {
    let (mut tokens, mut tower) = (FRAME_TOKENS, 0);
    for visual in images {
        if tokens + visual + IMAGE_FRAME_TOKENS > max_length {
            break;
        }
        tokens += visual + IMAGE_FRAME_TOKENS;
        let visual = u128::from(visual);
        tower += visual * VISUAL_TOKEN + visual * visual * VISUAL_PAIR;
    }
    tokens = (tokens + text_bytes.saturating_mul(TOKENS_PER_100_BYTES) / 100).min(max_length);
    let tokens = u128::from(tokens);
    let all = tokens * TOKEN + tokens * tokens * TOKEN_PAIR + tower;
    u32::try_from(all / UNIT).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use shared::plan::Dtype;
    use shared::settings::EmbeddingChoices;

    use super::*;

    #[test]
    fn the_mix_of_the_bench_costs_what_it_measured() {
        // 289 tokens, 24 % of items with a picture of about 220 tokens: 4.33 TFLOP.
        let text = (289 - FRAME_TOKENS - 54) * 100 / TOKENS_PER_100_BYTES;
        let [without, with] = [vec![], vec![220]].map(|images| operations(text, images.into_iter(), 8192));
        let mean = 0.76 * f64::from(without) + 0.24 * f64::from(with);
        assert!((mean / 4330.0 - 1.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn the_longest_item_costs_no_more_than_its_tokens() {
        let longest = operations(u64::MAX, std::iter::empty(), 8192);
        assert_eq!(longest, operations(1 << 30, std::iter::empty(), 8192));
        // The second image does not fit, and nothing after it is tried.
        let [one, two] = [1, 3].map(|count| operations(0, std::iter::repeat_n(5000, count), 8192));
        assert_eq!(one, two);
        let absurd = u64::from(u32::MAX);
        let image = std::iter::once(absurd - FRAME_TOKENS - IMAGE_FRAME_TOKENS);
        assert_eq!(operations(u64::MAX, image, absurd), u32::MAX);
    }

    #[test]
    fn an_image_costs_by_its_size_after_resizing() {
        let settings = EmbeddingChoices::default().resolve(Dtype::Bf16, 64).unwrap();
        assert_eq!(visual_tokens(Some((320, 160)), &settings), Some(50));
        assert_eq!(visual_tokens(Some((10_000, 10_000)), &settings), Some(1764));
        assert_eq!(visual_tokens(Some((1, 201)), &settings), None);
        assert!(visual_tokens(None, &settings).is_some());
    }
}
