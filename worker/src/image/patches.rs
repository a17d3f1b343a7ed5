//! Pixels to the rows of the patch embedding.

use super::PATCH;
use crate::embedder::PreparedImage;

const SIDE: usize = PATCH as usize;
const AREA: usize = SIDE * SIDE;
const CHANNELS: usize = 3;

/// Values in the row of one patch: 3 channels x 2 frames x 16 rows x 16 columns.
pub const PATCH_VALUES: usize = CHANNELS * 2 * AREA;

/// `(x - 127.5) / 127.5` in f32 for every byte: the processor's rescaling and normalisation, fused.
const LEVELS: [f32; 256] = {
    let mut levels = [0.0; 256];
    let mut level = 0;
    while level < 256 {
        levels[level] = (level as f32 - 127.5) / 127.5;
        level += 1;
    }
    levels
};

/// The row and column of each patch of a grid, in the order of the model: the four patches of a 2x2
/// block follow each other, blocks row by row.
pub fn patch_order(grid_height: u32, grid_width: u32) -> impl Iterator<Item = (u32, u32)> {
    let blocks = (0..grid_height / 2)
        .flat_map(move |row| (0..grid_width / 2).map(move |column| (2 * row, 2 * column)));
    blocks.flat_map(|(row, column)| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| (row + y, column + x)))
}

/// The rows of a picture, `[patches, 1536]`; see [`patches_into`].
pub fn patches(image: &PreparedImage) -> Vec<f32> {
    let mut rows = vec![0.0; image.patches() * PATCH_VALUES];
    patches_into(image, &mut rows);
    rows
}

/// Writes the rows of a picture, `[patches, 1536]`.
///
/// Rows go in [`patch_order`]. Within a row: channel, frame, row, column; the two frames are the same.
///
/// # Panics
/// If `rows` has another length than `image.patches() * PATCH_VALUES`, or the image's pixels do not
/// fill its grid: mistakes of the caller, not of the data.
pub fn patches_into(image: &PreparedImage, rows: &mut [f32]) {
    let (grid_height, grid_width) = (image.grid_height as usize, image.grid_width as usize);
    assert_eq!(image.pixels.len(), grid_height * grid_width * AREA * CHANNELS, "pixels fill the grid");
    assert_eq!(rows.len(), image.patches() * PATCH_VALUES, "one row for each patch");
    let stride = grid_width * SIDE * CHANNELS;
    let order = patch_order(image.grid_height, image.grid_width);
    for ((row, column), out) in order.zip(rows.chunks_exact_mut(PATCH_VALUES)) {
        let (top, left) = (row as usize * SIDE * stride, column as usize * SIDE * CHANNELS);
        write_patch(&image.pixels[top + left..], stride, out);
    }
}

/// Writes the patch whose first pixel `pixels` begins with.
fn write_patch(pixels: &[u8], stride: usize, out: &mut [f32]) {
    for (channel, frames) in out.chunks_exact_mut(2 * AREA).enumerate() {
        let (first, second) = frames.split_at_mut(AREA);
        for (line, values) in pixels.chunks(stride).zip(first.chunks_exact_mut(SIDE)) {
            for (pixel, value) in line.chunks_exact(CHANNELS).zip(values) {
                *value = LEVELS[usize::from(pixel[channel])];
            }
        }
        second.copy_from_slice(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_lie_block_by_block() {
        let order: Vec<_> = patch_order(2, 4).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
    }

    #[test]
    fn blocks_of_two_by_two_come_together() {
        // Every patch is filled with its own number, counted row by row over a grid of 2 x 4.
        let (grid_height, grid_width) = (2, 4);
        let pixels: Vec<u8> = (0..grid_height * SIDE)
            .flat_map(|y| (0..grid_width * SIDE).map(move |x| (y / SIDE * grid_width + x / SIDE) as u8))
            .flat_map(|number| [number, number + 100, number + 200])
            .collect();
        let image = PreparedImage { grid_height: 2, grid_width: 4, pixels: pixels.into() };
        let rows = patches(&image);
        let numbers: Vec<f32> = rows.chunks(PATCH_VALUES).map(|row| row[0] * 127.5 + 127.5).collect();
        assert_eq!(numbers, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        let start_of_channel = |channel: usize| rows[channel * 2 * AREA].to_bits();
        assert_eq!(
            [0, 1, 2].map(start_of_channel),
            [0, 100, 200].map(|level: usize| LEVELS[level].to_bits())
        );
        let (first, second) = rows[..2 * AREA].split_at(AREA);
        assert_eq!(first, second);
    }
}
