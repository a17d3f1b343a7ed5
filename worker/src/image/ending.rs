//! Whether a file is all there, without decoding it.

use super::header::Format;
use super::{jpeg, png};
use crate::embedder::ImageError;

/// Refuses a PNG without its IEND chunk and a JPEG without its end marker. Other formats pass.
///
/// Stricter than [`super::decode`] in one case: a file that lost only bytes after its last pixel.
pub fn check_ending(bytes: &[u8], format: Format) -> Result<(), ImageError> {
    let (whole, marker) = match format {
        Format::Png => (png::has_end(bytes), "IEND chunk"),
        Format::Jpeg => (jpeg::has_end(bytes), "end marker"),
        Format::Gif | Format::Bmp | Format::WebP | Format::Tiff => return Ok(()),
    };
    if whole { Ok(()) } else { Err(ImageError::Truncated(format!("it ends before its {marker}"))) }
}
