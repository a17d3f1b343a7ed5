//! JPEG to RGB through libjpeg, as Pillow does it.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use mozjpeg::{ColorSpace, Decompress};

use super::RgbImage;
use super::colour::inverted_cmyk;
use super::decode::guarded;
use crate::embedder::ImageError;

/// The most scans of a picture: a progressive one has 10 or so. Each is a pass over all pixels however few
/// bytes it takes, so that a file of a megabyte could keep a thread busy for minutes.
const MOST_SCANS: usize = 100;

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

/// Scans up to the end marker. Segments are skipped by their length, as libjpeg does.
fn scans(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    loop {
        let skipped = match rest {
            [0xff, 0xff, ..] => 1,
            [0xff, 0x00 | 0x01 | 0xd0..=0xd8, ..] => 2,
            [0xff, 0xd9, ..] => return count,
            [0xff, marker, high, low, ..] => {
                count += usize::from(*marker == 0xda);
                usize::from(u16::from_be_bytes([*high, *low])) + 2
            }
            _ => match rest.iter().skip(1).position(|byte| *byte == 0xff) {
                Some(at) => at + 1,
                None => return count,
            },
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
}

/// Decodes the picture.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let count = scans(bytes);
    if count > MOST_SCANS {
        return Err(ImageError::Undecodable(format!("it has {count} scans, more than any picture needs")));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let picture = image::RgbImage::from_pixel(16, 16, image::Rgb([9, 99, 199]));
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn scans_are_counted_wherever_an_end_marker_is_faked() {
        let whole = picture();
        assert_eq!(scans(&whole), 1);
        let at = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        // A comment that holds an end marker and a start of scan, and then scans without data.
        let comment = [0xff, 0xfe, 0, 6, 0xff, 0xd9, 0xff, 0xda];
        let scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0];
        let bomb = [&whole[..at], &comment, &scan.repeat(MOST_SCANS), &whole[at..]].concat();
        assert_eq!(scans(&bomb), MOST_SCANS + 1);
        let ImageError::Undecodable(what) = decode(&bomb).unwrap_err() else { panic!("not a truncation") };
        assert!(what.contains("101 scans"), "{what}");
        // What follows the picture (a video, a second picture) is not its own.
        assert!(decode(&[whole, scan.repeat(200)].concat()).is_ok());
    }
}
