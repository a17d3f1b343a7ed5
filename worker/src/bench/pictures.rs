//! Pictures such as exam items have: lines and boxes on paper, and a few that are shaded, as files.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use rand::RngExt as _;
use rand::rngs::SmallRng;

/// The file of a picture that the model sees as this grid of patches: a PNG or a JPEG, a little smaller
/// than the grid, so that it has to be resized.
pub fn file(grid_height: u32, grid_width: u32, random: &mut SmallRng) -> image::ImageResult<Vec<u8>> {
    // Sizes are rounded to multiples of 32.
    let side = |patches: u32, random: &mut SmallRng| patches * 16 - random.random_range(1..12);
    let (height, width) = (side(grid_height, random), side(grid_width, random));
    let shaded = random.random_range(0..4) == 0;
    let mut picture = RgbImage::from_fn(width, height, |x, y| {
        if shaded { Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 128]) } else { Rgb([255; 3]) }
    });
    for _ in 0..(height * width / 2000) {
        let (left, top) = (random.random_range(0..width), random.random_range(0..height));
        let ink = Rgb([random.random_range(0..120); 3]);
        let (wide, high) =
            if random.random() { (random.random_range(1..60), 2) } else { (2, random.random_range(1..30)) };
        for y in top..(top + high).min(height) {
            for x in left..(left + wide).min(width) {
                picture.put_pixel(x, y, ink);
            }
        }
    }
    let mut file = Cursor::new(Vec::new());
    let format = if random.random() { ImageFormat::Png } else { ImageFormat::Jpeg };
    picture.write_to(&mut file, format)?;
    Ok(file.into_inner())
}
