//! Items by size: `{"items": [{"text_tokens": 223, "image_grids": [[1, 26, 34]]}, ...]}`.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Deserialize;

use crate::embedder::{PreparedImage, PreparedItem};
use crate::qwen3_vl::Config;

/// The size of one item.
#[derive(Debug, Clone, Deserialize)]
pub struct ItemSize {
    /// Tokens without those of its images, the frame of the prompt included.
    pub text_tokens: usize,
    /// Patch grids: frames (1), height, width; even.
    pub image_grids: Vec<[u32; 3]>,
}

#[derive(Deserialize)]
struct MixFile {
    items: Vec<ItemSize>,
}

/// A mix cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MixError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not a mix.
    #[error("{path} is not a mix of items")]
    Parse {
        /// The file.
        path: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// There is nothing to measure.
    #[error("{path} has no items")]
    Empty {
        /// The file.
        path: String,
    },
    /// An item no model can see.
    #[error("{path}: item {item} {what}")]
    Item {
        /// The file.
        path: String,
        /// The item's number, from 0.
        item: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads a mix.
pub fn read(path: &Path) -> Result<Vec<ItemSize>, MixError> {
    let named = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| MixError::Read { path: named(), source })?;
    let mix: MixFile =
        serde_json::from_str(&text).map_err(|source| MixError::Parse { path: named(), source })?;
    if mix.items.is_empty() {
        return Err(MixError::Empty { path: named() });
    }
    for (item, size) in mix.items.iter().enumerate() {
        let wrong = |what| Err(MixError::Item { path: named(), item, what });
        if size.text_tokens == 0 {
            return wrong("has no text tokens");
        }
        // Files are drawn a little smaller, and a picture may be 200 times as long as wide.
        let usable = |[frames, height, width]: &[u32; 3]| {
            *frames == 1
                && height.max(width) / height.min(width).max(&1) <= 100
                && [height, width].iter().all(|side| (2..=400).contains(*side) && side.is_multiple_of(2))
        };
        if !size.image_grids.iter().all(usable) {
            return wrong(
                "has a grid that is not 1 x an even height x an even width of 2 to 400, one at most 100 times the other",
            );
        }
    }
    Ok(mix.items)
}

/// Tokens before the images: the prompt's own.
const BEFORE_IMAGES: usize = 14;

/// Items of the sizes asked for, of seeded random tokens and pixels.
pub fn items(sizes: &[ItemSize], config: &Config) -> Vec<PreparedItem> {
    let mut random = SmallRng::seed_from_u64(1);
    let vocabulary = config.text.vocab_size as u32;
    sizes
        .iter()
        .map(|size| {
            let mut text: Vec<u32> = (0..size.text_tokens)
                .map(|_| {
                    let id = random.random_range(0..vocabulary - 1);
                    // The placeholder of images stands for nothing else.
                    if id >= config.image_token_id { id + 1 } else { id }
                })
                .collect();
            let images: Vec<PreparedImage> = size
                .image_grids
                .iter()
                .map(|[_, height, width]| picture(*height, *width, &mut random))
                .collect();
            let rest = text.split_off(BEFORE_IMAGES.min(text.len() - 1));
            let mut token_ids = text;
            for image in &images {
                token_ids.push(rest[0]);
                token_ids.extend(std::iter::repeat_n(config.image_token_id, image.tokens()));
                token_ids.push(rest[0]);
            }
            token_ids.extend(rest);
            PreparedItem { token_ids, images }
        })
        .collect()
}

fn picture(grid_height: u32, grid_width: u32, random: &mut SmallRng) -> PreparedImage {
    let pixels: Arc<[u8]> = (0..grid_height * grid_width * 768).map(|_| random.random::<u8>()).collect();
    PreparedImage { grid_height, grid_width, pixels }
}
