//! Bytes to RGB, by content.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, ImageReader, Limits};

use super::colour::{clip_grey, push_over_white};
use super::header::{Format, Header, read_header};
use super::{RgbImage, gif, jpeg, png};
use crate::embedder::ImageError;

/// Memory a decoder of the `image` crate may ask for: [`super::DECODE_LIMIT`] pixels of 16 bytes.
const DECODER_MEMORY: u64 = super::DECODE_LIMIT * 16;

/// Decodes a picture to RGB as Pillow does, the first frame of several.
///
/// RGBA and 16-bit grey with alpha are laid over white; the alpha of 8-bit grey, a transparent colour and
/// an EXIF orientation are ignored; 16-bit grey is clipped at 255; other 16-bit channels keep their high
/// byte.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let Header { format, .. } = read_header(bytes)?;
    guarded(|| match format {
        Format::Png => png::decode(bytes),
        Format::Jpeg => jpeg::decode(bytes),
        Format::Gif => gif::decode(bytes),
        Format::WebP if is_cut_webp(bytes) => {
            Err(ImageError::Truncated("it is shorter than its header says".into()))
        }
        Format::Bmp | Format::WebP | Format::Tiff => decode_with_image_crate(bytes, format),
    })
}

/// Runs a decoder and turns its panic into an error. libjpeg reports every fatal error by unwinding.
pub(super) fn guarded<T>(decoder: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(decoder)).unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("the decoder failed");
        Err(ImageError::Undecodable(message.to_owned()))
    })
}

/// The error of a decoder in the `image` crate; an early end of the data is told apart.
pub(super) fn image_crate_error(error: image::ImageError) -> ImageError {
    match error {
        image::ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated("its data end early".into())
        }
        other => ImageError::Undecodable(other.to_string()),
    }
}

/// Whether a RIFF file is shorter than the size in its header. The decoder would read what there is.
fn is_cut_webp(bytes: &[u8]) -> bool {
    let size = bytes.get(4..).and_then(<[u8]>::first_chunk::<4>);
    size.is_some_and(|size| bytes.len() < (u32::from_le_bytes(*size) as usize).saturating_add(8))
}

fn decode_with_image_crate(bytes: &[u8], format: Format) -> Result<RgbImage, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format.in_image_crate());
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_MEMORY);
    reader.limits(limits);
    let picture = reader.decode().map_err(image_crate_error)?;
    let (width, height) = (picture.width(), picture.height());
    Ok(RgbImage { width, height, pixels: to_rgb(picture) })
}

/// Pillow's `convert("RGB")`, and white under RGBA.
fn to_rgb(picture: DynamicImage) -> Vec<u8> {
    let mut out = Vec::with_capacity(picture.width() as usize * picture.height() as usize * 3);
    match picture {
        DynamicImage::ImageRgb8(picture) => return picture.into_raw(),
        DynamicImage::ImageRgba8(picture) => {
            picture.pixels().for_each(|pixel| push_over_white(&mut out, pixel.0));
        }
        DynamicImage::ImageRgba16(picture) => {
            picture
                .pixels()
                .for_each(|pixel| push_over_white(&mut out, pixel.0.map(|value| (value >> 8) as u8)));
        }
        DynamicImage::ImageRgb16(picture) => {
            out.extend(picture.as_raw().iter().map(|value| (value >> 8) as u8));
        }
        DynamicImage::ImageLuma16(picture) => {
            picture.as_raw().iter().for_each(|level| out.extend([clip_grey(*level); 3]));
        }
        DynamicImage::ImageLumaA16(picture) => {
            picture.pixels().for_each(|pixel| out.extend([(pixel.0[0] >> 8) as u8; 3]));
        }
        DynamicImage::ImageLumaA8(picture) => {
            picture.pixels().for_each(|pixel| out.extend([pixel.0[0]; 3]));
        }
        other => return other.into_rgb8().into_raw(),
    }
    out
}
