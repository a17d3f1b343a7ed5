//! The first frame of a GIF to RGB.

use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, Frame, MemoryLimit};

use super::RgbImage;
use super::header::check_size;
use crate::embedder::ImageError;

/// The decoder before the pixels of the first frame, that frame without pixels, and the size of the
/// picture: as in Pillow the logical screen, enlarged where the frame leaves it.
struct FirstFrame<'a> {
    decoder: Decoder<&'a [u8]>,
    frame: Frame<'static>,
    width: usize,
    height: usize,
}

fn first_frame(bytes: &[u8]) -> Result<FirstFrame<'_>, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = options.read_info(bytes).map_err(gif_error)?;
    let frame = decoder
        .next_frame_info()
        .map_err(gif_error)?
        .ok_or_else(|| ImageError::Undecodable("it has no frame".into()))?
        .clone();
    let width = usize::from(decoder.width()).max(usize::from(frame.left) + usize::from(frame.width));
    let height = usize::from(decoder.height()).max(usize::from(frame.top) + usize::from(frame.height));
    Ok(FirstFrame { decoder, frame, width, height })
}

fn gif_error(error: DecodingError) -> ImageError {
    match error {
        DecodingError::UnexpectedEof => ImageError::Truncated("its data end early".into()),
        other => ImageError::Undecodable(other.to_string()),
    }
}

/// Width and height of the picture.
pub fn dimensions(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    let first = first_frame(bytes)?;
    Ok((first.width as u32, first.height as u32))
}

/// Decodes the first frame. Around it lies the frame's transparent colour, or the palette's first.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    let FirstFrame { mut decoder, frame, width, height } = first_frame(bytes)?;
    check_size(width as u32, height as u32)?;
    let frame_width = usize::from(frame.width);
    let mut indexes = vec![0; frame_width * usize::from(frame.height)];
    if indexes.is_empty() {
        return Err(ImageError::Undecodable("its first frame has no pixels".into()));
    }
    decoder.read_into_buffer(&mut indexes).map_err(gif_error)?;

    let palette = frame.palette.as_deref().or(decoder.global_palette()).unwrap_or_default();
    let around = colour(palette, frame.transparent.unwrap_or(0));
    let mut pixels = around.repeat(width * height);
    let stride = width * 3;
    let rows = pixels.chunks_exact_mut(stride).skip(usize::from(frame.top));
    for (row, indexes) in rows.zip(indexes.chunks_exact(frame_width)) {
        let row = row[usize::from(frame.left) * 3..].chunks_exact_mut(3);
        row.zip(indexes).for_each(|(pixel, index)| pixel.copy_from_slice(&colour(palette, *index)));
    }
    Ok(RgbImage { width: width as u32, height: height as u32, pixels })
}

/// A palette entry; black past its end, grey where there is no palette.
fn colour(palette: &[u8], index: u8) -> [u8; 3] {
    if palette.is_empty() {
        return [index; 3];
    }
    let start = usize::from(index) * 3;
    palette.get(start..start + 3).and_then(|colour| colour.try_into().ok()).unwrap_or_default()
}
