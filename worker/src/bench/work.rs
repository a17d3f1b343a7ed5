//! The floating-point operations that an item needs: products and attention, nothing computed twice,
//! nothing padded.

use crate::embedder::PreparedItem;
use crate::qwen3_vl::Config;

/// Operations of an item: two for each weight of the decoder layers and token, two for each weight of the
/// vision tower and patch, and attention (`2 L² h` a layer with a causal mask, `4 P² h` without).
///
/// The merger's weights are counted for each patch, as peers count them, though it sees a quarter as many
/// rows.
pub fn operations(item: &PreparedItem, config: &Config) -> f64 {
    let (text, vision) = (&config.text, &config.vision);
    let tokens = item.token_ids.len() as f64;
    let decoder = (text_weights(config) as f64) * tokens * 2.0
        + 2.0 * tokens * tokens * (text.heads * text.head_dim * text.layers) as f64;
    let attended: f64 = item.images.iter().map(|image| (image.patches() as f64).powi(2)).sum();
    let tower = (vision_weights(config) as f64) * item.patches() as f64 * 2.0
        + 4.0 * attended * (vision.hidden_size * vision.depth) as f64;
    decoder + tower
}

fn weights(config: &Config, prefix: &str) -> usize {
    crate::qwen3_vl::checkpoint::expected_tensors(config)
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

fn text_weights(config: &Config) -> usize {
    weights(config, "language_model.layers.")
}

fn vision_weights(config: &Config) -> usize {
    weights(config, "visual.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shape::Shape;

    #[test]
    fn a_text_token_of_the_8b_needs_13_9_gflop() {
        let item = PreparedItem { token_ids: vec![0; 1], images: Vec::new() };
        let operations = operations(&item, &Shape::Large.config());
        assert!((operations / 1e9 - 13.9).abs() < 0.1, "{operations}");
    }
}
