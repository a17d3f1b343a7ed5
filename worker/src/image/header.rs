//! What a picture is and how large, from its first bytes, with no pixel decoded.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};

use super::{decode::guarded, gif, jpeg, png};
use crate::embedder::ImageError;

/// The most pixels a picture may have before it is decoded: 100 megapixels.
pub const DECODE_LIMIT: u64 = 100_000_000;

/// The kinds of picture that are decoded, told apart by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PNG; of an animated one the default image.
    Png,
    /// JPEG, also CMYK and progressive.
    Jpeg,
    /// GIF; the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// WebP; of an animated one the first frame.
    WebP,
    /// TIFF; the first page.
    Tiff,
}

/// The kind and size of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its kind.
    pub format: Format,
    /// Pixels a row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

impl Format {
    /// The kind of picture `bytes` begin like.
    pub fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        match bytes {
            [] => Err(ImageError::Undecodable("the file is empty".into())),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Self::Gif),
            [b'B', b'M', ..] => Ok(Self::Bmp),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Ok(Self::Tiff),
            _ => Err(ImageError::Undecodable("it is not a PNG, JPEG, GIF, BMP, WebP or TIFF picture".into())),
        }
    }

    /// The format in the `image` crate.
    pub(super) fn in_image_crate(self) -> ImageFormat {
        match self {
            Self::Png => ImageFormat::Png,
            Self::Jpeg => ImageFormat::Jpeg,
            Self::Gif => ImageFormat::Gif,
            Self::Bmp => ImageFormat::Bmp,
            Self::WebP => ImageFormat::WebP,
            Self::Tiff => ImageFormat::Tiff,
        }
    }
}

/// Reads the kind and size of a picture and refuses one over [`DECODE_LIMIT`].
pub fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let format = Format::of(bytes)?;
    let (width, height) = guarded(|| match format {
        Format::Png => png::dimensions(bytes),
        Format::Jpeg => jpeg::dimensions(bytes),
        Format::Gif => gif::dimensions(bytes),
        Format::Bmp | Format::WebP | Format::Tiff => {
            ImageReader::with_format(Cursor::new(bytes), format.in_image_crate())
                .into_dimensions()
                .map_err(super::decode::image_crate_error)
        }
    })?;
    check_size(width, height)?;
    Ok(Header { format, width, height })
}

/// Refuses a picture without pixels or with more than [`DECODE_LIMIT`].
pub(super) fn check_size(width: u32, height: u32) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Undecodable(format!("its size is {width}x{height}, it has no pixels")));
    }
    if u64::from(width) * u64::from(height) > DECODE_LIMIT {
        return Err(ImageError::TooLarge { width, height, limit: DECODE_LIMIT });
    }
    Ok(())
}
