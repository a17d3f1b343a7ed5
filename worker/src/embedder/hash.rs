//! The hash embedder, `hash:DIM`: no model, no device, no decoding.
//!
//! For tests and rehearsals of a run: it is as fast as reading the data, deterministic on every
//! machine, and distinct items get distinct vectors. Its vectors say nothing about similarity.
//!
//! What it puts into a [`PreparedItem`]: one token for whether there is a text ([`NO_TEXT`] or
//! [`TEXT`]), [`PLACEHOLDER`] once for each token an image would have, then the text's bytes, one a
//! token; the text is never cut, so that long texts stay distinct. An image's `pixels` are the 32
//! bytes of its file's SHA-256, its grid is the one that a Qwen3-VL embedder would give it.

use std::num::NonZeroUsize;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::{EmbedError, Embedder, ImageError, ItemError, PreparedImage, PreparedItem};
use crate::image::{PATCH, PixelLimits, check_ending, read_header, smart_resize};
use crate::prompt::DEFAULT_MAX_LENGTH;

/// The first token of an item without text.
pub const NO_TEXT: u32 = 256;
/// The first token of an item with text, an empty one too.
pub const TEXT: u32 = 257;
/// Stands for one token of an image.
pub const PLACEHOLDER: u32 = 258;

/// Tokens of the default prompt before the images, and the pooled one: the room that images have
/// under a maximum length is that of a Qwen3-VL embedder with the default instruction.
const FRAME: usize = 14 + 1;

/// The hash embedder.
#[derive(Debug, Clone)]
pub struct HashEmbedder {
    dim: NonZeroUsize,
    limits: PixelLimits,
    max_length: usize,
}

/// A name that is not `hash:DIM` with a dimension of at least 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no hash embedder; write hash:DIM, as in hash:4096")]
pub struct NotAHash(pub String);

impl FromStr for HashEmbedder {
    type Err = NotAHash;

    /// Reads `hash:DIM`; the limits are the reference's.
    fn from_str(name: &str) -> Result<Self, NotAHash> {
        name.strip_prefix("hash:")
            .and_then(|dim| dim.parse().ok())
            .map(|dim| Self::new(dim, PixelLimits::default(), DEFAULT_MAX_LENGTH))
            .ok_or_else(|| NotAHash(name.to_owned()))
    }
}

impl HashEmbedder {
    /// An embedder of `dim` components. Images are accepted, sized and dropped under these limits.
    pub fn new(dim: NonZeroUsize, limits: PixelLimits, max_length: usize) -> Self {
        Self { dim, limits, max_length }
    }

    fn vector(&self, item: &PreparedItem) -> Vec<f32> {
        let mut hasher = Sha256::new();
        hasher.update((item.token_ids.len() as u64).to_le_bytes());
        for id in &item.token_ids {
            hasher.update(id.to_le_bytes());
        }
        for image in &item.images {
            hasher.update(&image.pixels);
        }
        unit_vector(hasher.finalize().into(), self.dim.get())
    }
}

impl Embedder for HashEmbedder {
    fn dim(&self) -> usize {
        self.dim.get()
    }

    fn device(&self) -> String {
        "hash".to_owned()
    }

    /// Reads the header only. A JPEG or PNG without its end counts as truncated, other damage passes.
    fn prepare_image(&self, bytes: &[u8]) -> Result<PreparedImage, ImageError> {
        let header = read_header(bytes)?;
        let (height, width) = smart_resize(header.height, header.width, self.limits)?;
        check_ending(bytes, header.format)?;
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        Ok(PreparedImage { grid_height: height / PATCH, grid_width: width / PATCH, pixels: digest.into() })
    }

    fn prepare_item(
        &self,
        text: Option<&str>,
        images: Vec<PreparedImage>,
    ) -> Result<PreparedItem, ItemError> {
        let placeholders: usize = images.iter().map(PreparedImage::tokens).sum();
        // An image's two surrounding tokens, the last of which may be cut off.
        let needed = (FRAME + placeholders + 2 * images.len()).saturating_sub(1);
        if !images.is_empty() && needed > self.max_length {
            return Err(ItemError::ImagesDoNotFit { needed, max_length: self.max_length });
        }
        let mut token_ids = vec![if text.is_some() { TEXT } else { NO_TEXT }];
        token_ids.extend(std::iter::repeat_n(PLACEHOLDER, placeholders));
        token_ids.extend(text.unwrap_or_default().bytes().map(u32::from));
        Ok(PreparedItem { token_ids, images })
    }

    fn embed(&self, batch: &[PreparedItem]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(batch.iter().map(|item| self.vector(item)).collect())
    }
}

/// A vector of norm 1 drawn from the digest.
fn unit_vector(digest: [u8; 32], dim: usize) -> Vec<f32> {
    let mut random = Random::new(digest);
    let values: Vec<f64> = (0..dim).map(|_| random.next_signed()).collect();
    let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    values.into_iter().map(|value| (value / norm) as f32).collect()
}

/// The xoshiro256** generator of Blackman and Vigna, its state the digest.
struct Random([u64; 4]);

impl Random {
    fn new(digest: [u8; 32]) -> Self {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(digest.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(state)
    }

    fn next(&mut self) -> u64 {
        let state = &mut self.0;
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// Uniform in (-1, 1), never 0: odd multiples of 2^-53.
    fn next_signed(&mut self) -> f64 {
        let odd = (self.next() >> 10) as i64 | 1;
        (odd - (1 << 53)) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedder() -> HashEmbedder {
        "hash:64".parse().unwrap()
    }

    fn image(seed: u8) -> PreparedImage {
        PreparedImage { grid_height: 4, grid_width: 4, pixels: [seed; 32].into() }
    }

    fn vector(text: Option<&str>, images: Vec<PreparedImage>) -> Vec<f32> {
        let item = embedder().prepare_item(text, images).unwrap();
        embedder().embed(&[item]).unwrap().remove(0)
    }

    #[test]
    fn distinct_items_have_distinct_unit_vectors() {
        let vectors = [
            vector(None, vec![]),
            vector(Some(""), vec![]),
            vector(Some("NULL"), vec![]),
            vector(Some("a"), vec![]),
            vector(Some("a"), vec![image(1)]),
            vector(Some("a"), vec![image(2)]),
            vector(Some("a"), vec![image(1), image(2)]),
            vector(Some("a"), vec![image(2), image(1)]),
            vector(None, vec![image(1)]),
            vector(Some(""), vec![image(1)]),
        ];
        for (position, vector) in vectors.iter().enumerate() {
            let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            assert!((norm - 1.0).abs() < 1e-6, "norm {norm}");
            assert!(!vectors[..position].contains(vector), "vector {position} came before");
        }
    }

    #[test]
    fn the_same_item_has_the_same_vector_on_every_machine() {
        assert_eq!(vector(Some("정답"), vec![image(3)]), vector(Some("정답"), vec![image(3)]));
        let recorded = vector(None, vec![]);
        assert_eq!(recorded[..2], RECORDED);
    }

    /// The first components of the empty item's vector. A change breaks parts already written.
    const RECORDED: [f32; 2] = [-0.105_238_87, -0.117_308_654];

    #[test]
    fn images_fit_as_in_the_model() {
        let tight = HashEmbedder::new(NonZeroUsize::MIN, PixelLimits::default(), 20);
        // 14 tokens of the frame, the start of the image, 4 placeholders, the pooled token.
        assert!(tight.prepare_item(Some("a long text is no matter"), vec![image(1)]).is_ok());
        let error = tight.prepare_item(None, vec![image(1), image(2)]).unwrap_err();
        assert_eq!(error, ItemError::ImagesDoNotFit { needed: 26, max_length: 20 });
    }

    #[test]
    fn names_are_checked() {
        assert_eq!("hash:4096".parse::<HashEmbedder>().unwrap().dim(), 4096);
        for name in ["hash:0", "hash:", "hash:-1", "hash", "4096", "hash:4096@main"] {
            assert_eq!(name.parse::<HashEmbedder>().unwrap_err(), NotAHash(name.to_owned()));
        }
    }

    #[test]
    fn bytes_that_are_no_picture_are_refused() {
        assert!(matches!(embedder().prepare_image(b"text"), Err(ImageError::Undecodable(_))));
        assert!(matches!(embedder().prepare_image(b""), Err(ImageError::Undecodable(_))));
    }
}
