//! PNG to RGB.
//!
//! As in Pillow, a chunk before the pixel data must be whole and the compressed pixels must have their
//! checksum, but the chunk checksums of the pixel data are not compared, and a file may lack all that
//! comes after its last row.

use std::io::{BufRead, Cursor, ErrorKind, Seek};

use png::{
    BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, InterlaceInfo, InterlacedRow, Limits, Reader,
    Transformations, expand_interlaced_row,
};

use super::RgbImage;
use super::colour::{clip_grey, push_over_white};
use crate::embedder::ImageError;

const SIGNATURE_LENGTH: usize = 8;
/// Memory for a row and for chunks other than pixels.
const DECODER_MEMORY: usize = 1 << 30;

/// Bytes that one byte of deflate gives at most, with room for the odd start.
const MOST_DEFLATED: u64 = 1040;

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
    Some(Chunk { name: *name, data, checksum: u32::from_be_bytes(*checksum) })
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
        (b"IHDR", &[w0, w1, w2, w3, h0, h1, h2, h3, ..]) => {
            Ok((u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3])))
        }
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
        let covered = covered.and_then(|bytes| bytes.get(..chunk.data.len() + 4)).unwrap_or_default();
        if crc32fast::hash(covered) != chunk.checksum {
            let name = String::from_utf8_lossy(&chunk.name);
            return Err(ImageError::Undecodable(format!("its {name} chunk has a wrong checksum")));
        }
        if &chunk.name == b"IEND" {
            return Err(ImageError::Undecodable("it has no pixel data".into()));
        }
    }
}

/// Decodes the default image.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    check_chunks_before_pixels(bytes)?;
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(Limits { bytes: DECODER_MEMORY });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(png_error)?;
    let rows = Rows::of(&reader);
    let (width, height) = reader.info().size();
    check_pixels_fit(bytes, rows.raw_bytes(height))?;
    let mut pixels = Vec::with_capacity(rows.width * height as usize * 3);
    if reader.info().interlaced {
        let (raw, stride) = read_interlaced(&mut reader)?;
        raw.chunks_exact(stride).for_each(|row| rows.push_rgb(row, &mut pixels));
    } else {
        for _ in 0..height {
            rows.push_rgb(next_row(&mut reader)?.data(), &mut pixels);
        }
    }
    check_after_pixels(&mut reader)?;
    Ok(RgbImage { width, height, pixels })
}

/// Refuses a file that is too short to hold `raw` bytes of pixels, however well they are packed, before
/// anything is reserved for them.
fn check_pixels_fit(bytes: &[u8], raw: u64) -> Result<(), ImageError> {
    if (bytes.len() as u64).saturating_mul(MOST_DEFLATED) >= raw {
        return Ok(());
    }
    Err(ImageError::Truncated(format!("its {} bytes cannot hold {raw} bytes of pixels", bytes.len())))
}

fn next_row<R: BufRead + Seek>(reader: &mut Reader<R>) -> Result<InterlacedRow<'_>, ImageError> {
    let row = reader.next_interlaced_row().map_err(png_error)?;
    row.ok_or_else(|| ImageError::Truncated("it has fewer rows than its header says".into()))
}

/// Puts the rows of the seven passes in place. Returns the raw picture and the bytes of its rows.
fn read_interlaced<R: BufRead + Seek>(reader: &mut Reader<R>) -> Result<(Vec<u8>, usize), ImageError> {
    let too_large = || png_error(DecodingError::LimitsExceeded);
    let (width, height) = reader.info().size();
    let stride = reader.output_line_size(width).ok_or_else(too_large)?;
    let bits = reader.info().bits_per_pixel() as u8;
    let mut raw = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    for _ in 0..interlaced_rows(width, height) {
        let row = next_row(reader)?;
        if let InterlaceInfo::Adam7(place) = row.interlace() {
            expand_interlaced_row(&mut raw, stride, row.data(), place, bits);
        }
    }
    Ok((raw, stride))
}

/// The rows of the seven passes together; a pass without columns has none.
fn interlaced_rows(width: u32, height: u32) -> u32 {
    // Each pass: its first column and row, and the distance of its rows.
    let passes = [(0, 0, 8), (4, 0, 8), (0, 4, 8), (2, 0, 4), (0, 2, 4), (1, 0, 2), (0, 1, 2)];
    passes
        .iter()
        .filter(|(column, _, _)| *column < width)
        .map(|(_, row, distance)| height.saturating_sub(*row).div_ceil(*distance))
        .sum()
}

/// Reads what the compressed pixels end with: a wrong checksum is an error, a missing one is not.
fn check_after_pixels<R: BufRead + Seek>(reader: &mut Reader<R>) -> Result<(), ImageError> {
    match reader.next_interlaced_row().map_err(png_error) {
        Ok(_) | Err(ImageError::Truncated(_)) => Ok(()),
        Err(error) => Err(error),
    }
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
    bits_per_pixel: u64,
    colour: ColorType,
    depth: BitDepth,
    palette: Vec<u8>,
}

impl Rows {
    fn of<R: BufRead + Seek>(reader: &Reader<R>) -> Self {
        let info = reader.info();
        Self {
            width: info.width as usize,
            bits_per_pixel: info.bits_per_pixel() as u64,
            colour: info.color_type,
            depth: info.bit_depth,
            palette: info.palette.as_deref().unwrap_or_default().to_vec(),
        }
    }

    /// Bytes of `height` rows before they are packed.
    fn raw_bytes(&self, height: u32) -> u64 {
        (self.width as u64 * self.bits_per_pixel).div_ceil(8) * u64::from(height)
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
            (ColorType::Rgba, _) => {
                row.as_chunks::<4>().0.iter().for_each(|pixel| push_over_white(out, *pixel));
            }
            // Pillow opens these as RGBA, though it drops the alpha of 8-bit ones.
            (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
                for pixel in row.as_chunks::<4>().0 {
                    push_over_white(out, [pixel[0], pixel[0], pixel[0], pixel[2]]);
                }
            }
            (ColorType::GrayscaleAlpha, _) => {
                row.as_chunks::<2>().0.iter().for_each(|pixel| out.extend([pixel[0]; 3]));
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
            (ColorType::Indexed, _) => self.samples(row).for_each(|index| out.extend(self.colour_of(index))),
        }
    }

    /// The samples of a row of one channel and at most 8 bits, the leftmost in the highest bits.
    fn samples<'a>(&self, row: &'a [u8]) -> impl Iterator<Item = u8> + use<'a> {
        let depth = self.depth as u8;
        let mask = u8::MAX >> (8 - depth);
        let bytes = row
            .iter()
            .flat_map(move |byte| (0..8 / depth).rev().map(move |place| byte >> (place * depth) & mask));
        bytes.take(self.width)
    }

    /// A palette entry; black past its end, as in Pillow.
    fn colour_of(&self, index: u8) -> [u8; 3] {
        let start = usize::from(index) * 3;
        self.palette.get(start..start + 3).and_then(|colour| colour.try_into().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one row, with a palette of two colours and a transparent one.
    fn encode(colour: ColorType, depth: BitDepth, width: u32, row: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, 1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette(&[10, 20, 30, 40, 50, 60][..]);
            encoder.set_trns(&[0][..]);
        }
        encoder.write_header().unwrap().write_image_data(row).unwrap();
        bytes
    }

    #[test]
    fn every_kind_of_pixel_is_converted_as_in_pillow() {
        use BitDepth::{Eight, One, Sixteen, Two};
        use ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        type Case = (ColorType, BitDepth, u32, &'static [u8], &'static [u8]);
        let cases: [Case; 10] = [
            (Grayscale, One, 2, &[0b0100_0000], &[0, 0, 0, 255, 255, 255]),
            (Grayscale, Two, 2, &[0b0110_0000], &[85, 85, 85, 170, 170, 170]),
            (Grayscale, Sixteen, 2, &[0, 9, 1, 0], &[9, 9, 9, 255, 255, 255]),
            (GrayscaleAlpha, Eight, 1, &[7, 0], &[7, 7, 7]),
            (GrayscaleAlpha, Sixteen, 1, &[7, 255, 0, 0], &[255, 255, 255]),
            (Rgb, Sixteen, 1, &[1, 255, 2, 255, 3, 255], &[1, 2, 3]),
            (Rgba, Eight, 1, &[1, 2, 3, 0], &[255, 255, 255]),
            (Rgba, Sixteen, 1, &[1, 0, 2, 0, 3, 0, 255, 0], &[1, 2, 3]),
            (Indexed, One, 2, &[0b0100_0000], &[10, 20, 30, 40, 50, 60]),
            (Indexed, Eight, 2, &[1, 7], &[40, 50, 60, 0, 0, 0]),
        ];
        for (colour, depth, width, row, expected) in cases {
            let picture = decode(&encode(colour, depth, width, row)).unwrap();
            assert_eq!(picture.pixels, expected, "{colour:?} {depth:?}");
        }
    }

    #[test]
    fn a_header_alone_reserves_nothing() {
        let mut bytes = encode(ColorType::Rgb, BitDepth::Eight, 1, &[1, 2, 3]);
        bytes[16..20].copy_from_slice(&10_000_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&10_000_u32.to_be_bytes());
        let checksum = crc32fast::hash(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        let ImageError::Truncated(what) = decode(&bytes).unwrap_err() else { panic!("it ends early") };
        assert!(what.contains("300000000 bytes of pixels"), "{what}");
    }

    #[test]
    fn only_what_pillow_refuses_is_refused() {
        let whole = encode(ColorType::Rgb, BitDepth::Eight, 1, &[1, 2, 3]);
        // IEND takes 12 bytes; before it lie 4 of the chunk's checksum and 4 of the compressed data's.
        let without_end = &whole[..whole.len() - 12];
        assert_eq!(decode(without_end).unwrap().pixels, [1, 2, 3]);
        assert!(has_end(&whole) && !has_end(without_end));
        let mut chunk_checksum = whole.clone();
        chunk_checksum[whole.len() - 13] ^= 1;
        assert_eq!(decode(&chunk_checksum).unwrap().pixels, [1, 2, 3]);
        let mut data_checksum = whole.clone();
        data_checksum[whole.len() - 17] ^= 1;
        assert!(matches!(decode(&data_checksum), Err(ImageError::Undecodable(_))));
        let mut header_checksum = whole;
        header_checksum[30] ^= 1;
        assert!(matches!(decode(&header_checksum), Err(ImageError::Undecodable(_))));
    }

    #[test]
    fn passes_without_columns_have_no_rows() {
        assert_eq!(interlaced_rows(1, 1), 1);
        assert_eq!(interlaced_rows(8, 8), 1 + 1 + 1 + 2 + 2 + 4 + 4);
        assert_eq!(interlaced_rows(1, 8), 1 + 1 + 2 + 4);
    }
}
