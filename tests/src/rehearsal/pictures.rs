//! Small valid image files: a handful of drawings, each file of them with a comment of its own, so that no two
//! files have the same bytes.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{GrayImage, ImageFormat, Luma};
use shared::npz::Crc;

use super::hash;

/// Width and height of the drawings: what exams have, from a formula to a page.
const SIZES: [(u32, u32); 8] =
    [(416, 544), (320, 160), (544, 320), (512, 416), (220, 120), (800, 600), (96, 64), (1100, 1400)];
/// Bytes of a PNG up to the end of its first chunk.
const PNG_HEADER: usize = 33;
/// Bytes of a JPEG's first marker.
const JPEG_START: usize = 2;
const DRAWINGS: u64 = 31;

/// The drawings, encoded once.
pub struct Pictures {
    png: Vec<Vec<u8>>,
    jpeg: Vec<Vec<u8>>,
}

impl Pictures {
    /// Draws and encodes them.
    ///
    /// # Panics
    /// When an encoder fails, which it does not in memory.
    pub fn draw() -> Self {
        let drawings: Vec<GrayImage> = SIZES.iter().map(|size| drawing(*size)).collect();
        let png = drawings.iter().map(|drawing| {
            let mut bytes = Cursor::new(Vec::new());
            drawing.write_to(&mut bytes, ImageFormat::Png).unwrap();
            bytes.into_inner()
        });
        let jpeg = drawings.iter().map(|drawing| {
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, 40).encode_image(drawing).unwrap();
            bytes
        });
        Self { png: png.collect(), jpeg: jpeg.collect() }
    }

    /// The bytes of an image file.
    pub fn file(&self, number: u64, is_png: bool) -> Vec<u8> {
        let drawing = (hash(DRAWINGS, number) % SIZES.len() as u64) as usize;
        let comment = format!("Comment\0file {number}");
        let (bytes, at, stamp) = if is_png {
            (&self.png[drawing], PNG_HEADER, png_text(comment.as_bytes()))
        } else {
            (&self.jpeg[drawing], JPEG_START, jpeg_comment(comment.as_bytes()))
        };
        [&bytes[..at], &stamp, &bytes[at..]].concat()
    }
}

/// A `tEXt` chunk: length, type, data, CRC of type and data.
fn png_text(text: &[u8]) -> Vec<u8> {
    let body = [b"tEXt", text].concat();
    let length = (text.len() as u32).to_be_bytes();
    [&length[..], &body, &Crc::of(&body).to_be_bytes()].concat()
}

/// A comment segment: marker, length with itself, data.
fn jpeg_comment(text: &[u8]) -> Vec<u8> {
    let length = (text.len() as u16 + 2).to_be_bytes();
    [&[0xff, 0xfe][..], &length, text].concat()
}

/// Axes, a curve and a grid in grey.
fn drawing((width, height): (u32, u32)) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let curve = (f64::from(height) * (0.5 + 0.4 * (f64::from(x) * 9.0 / f64::from(width)).sin())) as u32;
        let is_axis = x == width / 10 || y == height - height / 10;
        let is_grid = x % 40 == 0 || y % 40 == 0;
        Luma([match () {
            () if y.abs_diff(curve) < 2 || is_axis => 0,
            () if is_grid => 200,
            () => 255,
        }])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_pictures_and_no_two_are_alike() {
        let pictures = Pictures::draw();
        for is_png in [true, false] {
            let mut seen = std::collections::BTreeSet::new();
            for number in 0..40 {
                let bytes = pictures.file(number, is_png);
                let header = worker::image::read_header(&bytes).unwrap();
                assert!(SIZES.contains(&(header.width, header.height)));
                let decoded = worker::image::decode(&bytes).unwrap();
                assert_eq!((decoded.width, decoded.height), (header.width, header.height));
                assert!(seen.insert(bytes));
            }
        }
    }
}
