//! `Image.resize` of Pillow 12 with the bicubic filter, on 8-bit RGB, bit for bit.
//!
//! Source: `libImaging/Resample.c`. Weights are Keys' cubic with a = -0.5, widened by the scale when
//! shrinking, normalised in f64 and rounded to 22 fractional bits. The horizontal pass comes first
//! and rounds to bytes; then the vertical pass. A pass whose dimension does not change is skipped.

use super::RgbImage;

const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);
const CHANNELS: usize = 3;

/// Resizes to `width` x `height` pixels, both at least 1.
pub fn resize(image: RgbImage, width: u32, height: u32) -> RgbImage {
    let image = if image.width == width { image } else { horizontal(&image, width) };
    if image.height == height { image } else { vertical(&image, height) }
}

/// The weights of one output position: they apply to the inputs from `start` on.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// Keys' cubic convolution kernel, a = -0.5; zero from 2 on.
fn kernel(distance: f64) -> f64 {
    const A: f64 = -0.5;
    let x = distance.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// The windows of all `output` positions over `input` values.
fn windows(input: usize, output: usize) -> Vec<Window> {
    let scale = input as f64 / output as f64;
    let filter_scale = scale.max(1.0);
    let support = 2.0 * filter_scale;
    let step = 1.0 / filter_scale;
    (0..output)
        .map(|position| {
            let center = (position as f64 + 0.5) * scale;
            // A cast of a negative float to usize gives 0, the bound wanted here.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let weights: Vec<f64> =
                (start..end).map(|index| kernel((index as f64 - center + 0.5) * step)).collect();
            let sum: f64 = weights.iter().sum();
            let weights = weights.iter().map(|weight| fixed_point(weight / sum)).collect();
            Window { start, weights }
        })
        .collect()
}

/// Rounds half away from zero to 22 fractional bits.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn horizontal(image: &RgbImage, width: u32) -> RgbImage {
    let windows = windows(image.width as usize, width as usize);
    let in_stride = image.width as usize * CHANNELS;
    let out_stride = width as usize * CHANNELS;
    let mut pixels = vec![0; image.height as usize * out_stride];
    for (row, out_row) in image.pixels.chunks_exact(in_stride).zip(pixels.chunks_exact_mut(out_stride)) {
        for (window, out) in windows.iter().zip(out_row.chunks_exact_mut(CHANNELS)) {
            let (mut red, mut green, mut blue) = (HALF, HALF, HALF);
            let inputs = row[window.start * CHANNELS..].chunks_exact(CHANNELS);
            for (input, weight) in inputs.zip(&window.weights) {
                red += i32::from(input[0]) * weight;
                green += i32::from(input[1]) * weight;
                blue += i32::from(input[2]) * weight;
            }
            out[0] = to_byte(red);
            out[1] = to_byte(green);
            out[2] = to_byte(blue);
        }
    }
    RgbImage { width, height: image.height, pixels }
}

fn vertical(image: &RgbImage, height: u32) -> RgbImage {
    let stride = image.width as usize * CHANNELS;
    let mut pixels = vec![0; height as usize * stride];
    let mut sums = vec![HALF; stride];
    for (window, out_row) in
        windows(image.height as usize, height as usize).iter().zip(pixels.chunks_exact_mut(stride))
    {
        sums.fill(HALF);
        let rows = image.pixels[window.start * stride..].chunks_exact(stride);
        for (row, weight) in rows.zip(&window.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        for (out, sum) in out_row.iter_mut().zip(&sums) {
            *out = to_byte(*sum);
        }
    }
    RgbImage { width: image.width, height, pixels }
}
