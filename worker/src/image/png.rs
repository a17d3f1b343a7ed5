//! PNG to RGB.
//!
//! As in Pillow, damage that leaves the pixels readable is no error: checksums of the pixel data are
//! not compared, and nothing after the last row is read. A chunk before the pixel data must be whole.

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Reader, Transformations};

use super::RgbImage;
use super::colour::{clip_grey, push_over_white};
use crate::embedder::ImageError;

const SIGNATURE_LENGTH: usize = 8;
/// Memory for a row and for chunks other than pixels.
const DECODER_MEMORY: usize = 1 << 30;

/// A chunk of the file.
struct Chunk<'a> {
    name: [u8; 4],
    data: &'a [u8],
    checksum: u32,
}

/// Splits the first chunk off `rest`; `None` if it is not there whole.
fn next_chunk<'a>(rest: &mut &'a [u8]) -> Option<Chunk<'a>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (name, after) = after.split_first_chunk::<4>()?;
    let (data, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (checksum, after) = after.split_first_chunk::<4>()?;
    *rest = after;
    Some(Chunk {
        name: *name,
        data,
        checksum: u32::from_be_bytes(*checksum),
    })
}

fn chunks(bytes: &[u8]) -> &[u8] {
    bytes.get(SIGNATURE_LENGTH..).unwrap_or_default()
}

/// Width and height, from the IHDR chunk.
pub fn dimensions(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    let mut rest = chunks(bytes);
    let header =
        next_chunk(&mut rest).ok_or_else(|| ImageError::Truncated("it ends in its first chunk".into()))?;
    match (&header.name, header.data) {
        (b"IHDR", &[w0, w1, w2, w3, h0, h1, h2, h3, ..]) => Ok((
            u32::from_be_bytes([w0, w1, w2, w3]),
            u32::from_be_bytes([h0, h1, h2, h3]),
        )),
        _ => Err(ImageError::Undecodable("its first chunk is no IHDR".into())),
    }
}

/// Whether the file goes on to its IEND chunk.
pub fn has_end(bytes: &[u8]) -> bool {
    let mut rest = chunks(bytes);
    while let Some(chunk) = next_chunk(&mut rest) {
        if &chunk.name == b"IEND" {
            return true;
        }
    }
    false
}

/// Compares the checksums of the chunks before the pixel data, as Pillow does.
fn check_chunks_before_pixels(bytes: &[u8]) -> Result<(), ImageError> {
    let mut rest = chunks(bytes);
    loop {
        if rest.get(4..8) == Some(b"IDAT") {
            return Ok(());
        }
        let covered = rest.get(4..);
        let chunk = next_chunk(&mut rest)
            .ok_or_else(|| ImageError::Truncated("it ends before its pixel data begin".into()))?;
        let covered = covered
            .and_then(|bytes| bytes.get(..chunk.data.len() + 4))
            .unwrap_or_default();
        if crc32fast::hash(covered) != chunk.checksum {
            let name = String::from_utf8_lossy(&chunk.name);
            return Err(ImageError::Undecodable(format!(
                "its {name} chunk has a wrong checksum"
            )));
        }
        if &chunk.name == b"IEND" {
            return Err(ImageError::Undecodable("it has no pixel data".into()));
        }
    }
}

/// Decodes the default image.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    check_chunks_before_pixels(bytes)?;
    let mut decoder = Decoder::new_with_limits(
        Cursor::new(bytes),
        Limits {
            bytes: DECODER_MEMORY,
        },
    );
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.ignore_checksums(true);
    let mut reader = decoder.read_info().map_err(png_error)?;
    let rows = Rows::of(&reader);
    let mut pixels = Vec::with_capacity(rows.width * reader.info().height as usize * 3);
    if reader.info().interlaced {
        let size = reader
            .output_buffer_size()
            .ok_or_else(|| png_error(DecodingError::LimitsExceeded))?;
        let mut raw = vec![0; size];
        let info = reader.next_frame(&mut raw).map_err(png_error)?;
        raw.chunks_exact(info.line_size)
            .for_each(|row| rows.push_rgb(row, &mut pixels));
    } else {
        for _ in 0..reader.info().height {
            let row = reader.next_row().map_err(png_error)?;
            let row =
                row.ok_or_else(|| ImageError::Truncated("it has fewer rows than its header says".into()))?;
            rows.push_rgb(row.data(), &mut pixels);
        }
    }
    let (width, height) = reader.info().size();
    Ok(RgbImage {
        width,
        height,
        pixels,
    })
}

fn png_error(error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated("its pixel data end early".into())
        }
        other => ImageError::Undecodable(other.to_string()),
    }
}

/// How the rows of a file are laid out.
struct Rows {
    width: usize,
    colour: ColorType,
    depth: BitDepth,
    palette: Vec<u8>,
}

impl Rows {
    fn of<R: std::io::BufRead + std::io::Seek>(reader: &Reader<R>) -> Self {
        let info = reader.info();
        Self {
            width: info.width as usize,
            colour: info.color_type,
            depth: info.bit_depth,
            palette: info.palette.as_deref().unwrap_or_default().to_vec(),
        }
    }

    /// Appends the RGB pixels of one raw row.
    fn push_rgb(&self, row: &[u8], out: &mut Vec<u8>) {
        match (self.colour, self.depth) {
            (ColorType::Rgb, BitDepth::Sixteen) => out.extend(row.iter().step_by(2)),
            (ColorType::Rgb, _) => out.extend_from_slice(row),
            (ColorType::Rgba, BitDepth::Sixteen) => {
                for pixel in row.as_chunks::<8>().0 {
                    push_over_white(out, [pixel[0], pixel[2], pixel[4], pixel[6]]);
                }
            }
            (ColorType::Rgba, _) => row
                .as_chunks::<4>()
                .0
                .iter()
                .for_each(|pixel| push_over_white(out, *pixel)),
            (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
                row.as_chunks::<4>()
                    .0
                    .iter()
                    .for_each(|pixel| out.extend([pixel[0]; 3]));
            }
            (ColorType::GrayscaleAlpha, _) => {
                row.as_chunks::<2>()
                    .0
                    .iter()
                    .for_each(|pixel| out.extend([pixel[0]; 3]));
            }
            (ColorType::Grayscale, BitDepth::Sixteen) => {
                for level in row.as_chunks::<2>().0 {
                    out.extend([clip_grey(u16::from_be_bytes(*level)); 3]);
                }
            }
            (ColorType::Grayscale, depth) => {
                // 255 divides evenly by the largest level of every depth.
                let scale = (255 / ((1_u16 << depth as u8) - 1)) as u8;
                self.samples(row).for_each(|level| out.extend([level * scale; 3]));
            }
            (ColorType::Indexed, _) => self
                .samples(row)
                .for_each(|index| out.extend(self.colour_of(index))),
        }
    }

    /// The samples of a row of one channel and at most 8 bits, the leftmost in the highest bits.
    fn samples<'a>(&self, row: &'a [u8]) -> impl Iterator<Item = u8> + use<'a> {
        let depth = self.depth as u8;
        let mask = u8::MAX >> (8 - depth);
        let bytes = row.iter().flat_map(move |byte| {
            (0..8 / depth)
                .rev()
                .map(move |place| byte >> (place * depth) & mask)
        });
        bytes.take(self.width)
    }

    /// A palette entry; black past its end, as in Pillow.
    fn colour_of(&self, index: u8) -> [u8; 3] {
        let start = usize::from(index) * 3;
        self.palette
            .get(start..start + 3)
            .and_then(|colour| colour.try_into().ok())
            .unwrap_or_default()
    }
}
