//! JPEG to RGB through libjpeg, as Pillow does it.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use mozjpeg::{ColorSpace, Decompress};

use super::RgbImage;
use super::colour::inverted_cmyk;
use super::decode::guarded;
use crate::embedder::ImageError;

/// A reader that remembers whether libjpeg asked for more than there is. libjpeg itself invents an
/// end marker and goes on with grey.
struct Source<'a> {
    rest: &'a [u8],
    overrun: &'a Cell<bool>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.overrun.set(true);
        }
        Ok(self.rest)
    }

    fn consume(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}

/// Runs `work` on an opened file. Data that end early are an error whatever libjpeg made of them;
/// data that are merely corrupt are not, as in Pillow.
fn with_source<T>(
    bytes: &[u8],
    work: impl FnOnce(Decompress<Source<'_>>) -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    let overrun = Cell::new(false);
    let result = guarded(|| {
        let source = Source { rest: bytes, overrun: &overrun };
        work(Decompress::builder().from_reader(source).map_err(|error| jpeg_error(&error))?)
    });
    if overrun.get() { Err(ImageError::Truncated("its data end early".into())) } else { result }
}

fn jpeg_error(error: &io::Error) -> ImageError {
    ImageError::Undecodable(error.to_string())
}

/// Width and height, from the frame header.
pub fn dimensions(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    with_source(bytes, |file| Ok((file.width() as u32, file.height() as u32)))
}

/// Whether an end marker follows the first scan's header. Inside a scan 0xff is always followed by 0,
/// a restart marker or a real marker, so the bytes of an end marker cannot be data there.
pub fn has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    // Segments up to the first scan; skipping them by length skips the thumbnail inside EXIF too.
    loop {
        match rest {
            [0xff, 0xff, ..] => rest = &rest[1..],
            [0xff, 0x01 | 0xd0..=0xd8, after @ ..] => rest = after,
            [0xff, 0xda, ..] => return rest.windows(2).any(|pair| pair == [0xff, 0xd9]),
            [0xff, 0xd9, ..] => return true,
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low])) + 2;
                rest = rest.get(length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

/// Decodes the picture.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    with_source(bytes, |file| {
        let (width, height) = (file.width(), file.height());
        let colours = match file.components().len() {
            1 => ColorSpace::JCS_GRAYSCALE,
            3 => ColorSpace::JCS_RGB,
            4 => ColorSpace::JCS_CMYK,
            count => return Err(ImageError::Undecodable(format!("it has {count} colour channels"))),
        };
        let mut file = file.to_colorspace(colours).map_err(|error| jpeg_error(&error))?;
        let values = file.read_scanlines::<u8>().map_err(|error| jpeg_error(&error))?;
        let pixels = match colours {
            ColorSpace::JCS_GRAYSCALE => values.into_iter().flat_map(|level| [level; 3]).collect(),
            ColorSpace::JCS_CMYK => {
                values.as_chunks::<4>().0.iter().flat_map(|ink| inverted_cmyk(*ink)).collect()
            }
            _ => values,
        };
        Ok(RgbImage { width: width as u32, height: height as u32, pixels })
    })
}
