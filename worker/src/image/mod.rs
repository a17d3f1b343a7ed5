//! From the bytes of a picture to the pixels and patches of the model.
//!
//! The steps follow Pillow and the reference processor bit for bit: decode to RGB ([`decode`]),
//! choose the size ([`smart_resize`]), resize with Pillow's bicubic filter ([`resize`]), cut into
//! patches ([`patches`]). Deliberately absent, as in the reference: EXIF rotation, ICC profiles,
//! and the colour a PNG's tRNS chunk names as transparent.
//!
//! No bytes make these functions panic: whatever a decoder does, the caller gets an [`ImageError`].

mod colour;
mod decode;
mod ending;
mod gif;
mod header;
mod jpeg;
mod patches;
mod png;
mod resize;
mod size;

use std::sync::{Arc, Mutex, PoisonError};

pub use decode::decode;
pub use ending::check_ending;
pub use header::{DECODE_LIMIT, Format, Header, read_header};
pub use patches::{PATCH_VALUES, patch_order, patches, patches_into};
pub use resize::resize;
pub use size::{DEFAULT_MAX_PIXELS, DEFAULT_MIN_PIXELS, FACTOR, MAX_RATIO, PixelLimits, smart_resize};

use crate::embedder::{ImageError, PreparedImage};

/// Pictures with more pixels than this take turns. A picture on its way takes up to 16 bytes a pixel, and
/// every CPU thread may have one: a bundle full of pictures of 100 megapixels would take terabytes.
const LARGE: u64 = 16_000_000;

/// Held by whoever decodes a picture over [`LARGE`].
static LARGE_PICTURE: Mutex<()> = Mutex::new(());

/// Pixels a side of a patch.
pub const PATCH: u32 = 16;

/// An 8-bit RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height * width * 3` bytes, row by row.
    pub pixels: Vec<u8>,
}

/// Decodes a picture and resizes it to the size the model sees.
///
/// A picture over [`DECODE_LIMIT`] or [`MAX_RATIO`] is refused by its header, before any pixel is
/// allocated. Large pictures take turns among all threads.
pub fn prepare(bytes: &[u8], limits: PixelLimits) -> Result<PreparedImage, ImageError> {
    let header = read_header(bytes)?;
    let (height, width) = smart_resize(header.height, header.width, limits)?;
    let is_large = u64::from(header.width) * u64::from(header.height) > LARGE;
    let turn = is_large.then(|| LARGE_PICTURE.lock().unwrap_or_else(PoisonError::into_inner));
    let resized = resize(decode(bytes)?, width, height);
    drop(turn);
    Ok(PreparedImage {
        grid_height: resized.height / PATCH,
        grid_width: resized.width / PATCH,
        pixels: Arc::from(resized.pixels),
    })
}
