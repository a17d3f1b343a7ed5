//! Pixels against the reference: every picture of `reference/cases.json` through decoding, resizing
//! and patches; a slow resize against the fast one; damaged files.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use shared::digest::sha256_hex;
use support::{cases, reference};
use worker::embedder::ImageError;
use worker::image::{self, PixelLimits, RgbImage};

fn input(folder: &std::path::Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join("inputs").join(name)).unwrap()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn pictures_equal_the_reference() {
    let Some(folder) = reference() else { return };
    let mut checked = 0;
    for case in cases(&folder) {
        let name = case["name"].as_str().unwrap();
        let files: Vec<&Value> = case["images"].as_array().unwrap().iter().collect();
        if files.is_empty() || name == "ratio_201" || name == "broken_png" {
            continue;
        }
        let mut values = Vec::new();
        for (position, file) in files.iter().enumerate() {
            let bytes = input(&folder, file["file"].as_str().unwrap());
            let decoded = image::decode(&bytes).unwrap();
            assert_eq!(decoded.width, file["width"], "{name}");
            assert_eq!(decoded.height, file["height"], "{name}");
            assert_eq!(sha256_hex(&decoded.pixels), file["rgb_sha256"].as_str().unwrap(), "{name}: decoded");
            let prepared = image::prepare(&bytes, PixelLimits::default()).unwrap();
            if case.get("error").is_some() {
                continue;
            }
            let resized = &case["resized"][position];
            assert_eq!(prepared.grid_width * 16, resized["width"], "{name}");
            assert_eq!(prepared.grid_height * 16, resized["height"], "{name}");
            assert_eq!(
                sha256_hex(&prepared.pixels),
                resized["rgb_sha256"].as_str().unwrap(),
                "{name}: resized"
            );
            let grid = &case["image_grid_thw"][position];
            assert_eq!(
                [1, prepared.grid_height, prepared.grid_width].map(Value::from),
                **grid.as_array().unwrap()
            );
            values.extend(image::patches(&prepared));
        }
        if case.get("error").is_none() {
            let expected = case["pixel_values"]["sha256_f32le"].as_str().unwrap();
            assert_eq!(sha256_hex(&f32_bytes(&values)), expected, "{name}: pixel values");
        }
        checked += 1;
    }
    assert_eq!(checked, 29, "cases with pictures that can be used");
}

#[test]
fn unusable_pictures_are_told_apart() {
    let Some(folder) = reference() else { return };
    let prepare = |name| image::prepare(&input(&folder, name), PixelLimits::default()).unwrap_err();
    assert_eq!(prepare("ratio201_201x1.png"), ImageError::Ratio { width: 201, height: 1 });
    assert!(matches!(prepare("broken.png"), ImageError::Truncated(_)));
}

/// Bicubic resize along one axis, straight from the definition: the position, the axis length, and a
/// reader of input values.
fn slow_value(position: usize, input: usize, output: usize, read: impl Fn(usize) -> u8) -> u8 {
    let scale = input as f64 / output as f64;
    let widen = scale.max(1.0);
    let center = (position as f64 + 0.5) * scale;
    let low = (center - 2.0 * widen + 0.5).trunc().max(0.0) as usize;
    let high = ((center + 2.0 * widen + 0.5).trunc() as usize).min(input);
    let keys = |x: f64| match x.abs() {
        x if x < 1.0 => 1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.0,
        x if x < 2.0 => -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4.0 * x + 2.0,
        _ => 0.0,
    };
    let weights: Vec<f64> = (low..high).map(|x| keys((x as f64 + 0.5 - center) / widen)).collect();
    let sum: f64 = weights.iter().sum();
    let total: i64 = (low..high)
        .zip(&weights)
        .map(|(x, weight)| i64::from(read(x)) * (weight / sum * f64::from(1 << 22)).round() as i64)
        .sum();
    ((total + (1 << 21)) >> 22).clamp(0, 255) as u8
}

fn slow_resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let at =
        |image: &RgbImage, y: usize, x: usize, c: usize| image.pixels[(y * image.width as usize + x) * 3 + c];
    let mut wide = RgbImage { width, height: image.height, pixels: Vec::new() };
    for y in 0..image.height as usize {
        for x in 0..width as usize {
            for c in 0..3 {
                let value = slow_value(x, image.width as usize, width as usize, |x| at(image, y, x, c));
                wide.pixels.push(value);
            }
        }
    }
    let mut high = RgbImage { width, height, pixels: Vec::new() };
    for y in 0..height as usize {
        for x in 0..width as usize {
            for c in 0..3 {
                let value = slow_value(y, image.height as usize, height as usize, |y| at(&wide, y, x, c));
                high.pixels.push(value);
            }
        }
    }
    high
}

/// Noise, from a seed.
fn noise(width: u32, height: u32, mut seed: u64) -> RgbImage {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 24) as u8
    };
    let pixels = (0..width * height * 3).map(|_| next()).collect();
    RgbImage { width, height, pixels }
}

/// The small files of the reference, by name.
fn small_inputs() -> Option<BTreeMap<String, Vec<u8>>> {
    let folder = reference()?;
    let entries = std::fs::read_dir(folder.join("inputs")).unwrap();
    let files =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.metadata().unwrap().len() < 60_000);
    Some(files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn fast_resize_equals_the_slow_one(
        (width, height) in (1_u32..90, 1_u32..90),
        (to_width, to_height) in (1_u32..120, 1_u32..120),
        seed in 1_u64..,
    ) {
        let picture = noise(width, height, seed);
        let slow = slow_resize(&picture, to_width, to_height);
        prop_assert_eq!(image::resize(picture, to_width, to_height), slow);
    }

    #[test]
    fn an_equal_size_changes_nothing(width in 1_u32..40, height in 1_u32..40, seed in 1_u64..) {
        let picture = noise(width, height, seed);
        prop_assert_eq!(image::resize(picture.clone(), width, height), picture);
    }

    #[test]
    fn any_bytes_give_a_picture_or_an_error(prefix in 0_usize..7, bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let prefixes: [&[u8]; 7] =
            [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF\x90\x01\0\0WEBP", b"II*\0"];
        let bytes = [prefixes[prefix], &bytes].concat();
        if let Ok(picture) = image::decode(&bytes) {
            prop_assert_eq!(picture.pixels.len(), picture.width as usize * picture.height as usize * 3);
        }
    }
}

#[test]
fn damaged_files_give_a_picture_or_an_error() {
    let Some(files) = small_inputs() else { return };
    let mut seed = 7_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for (name, original) in &files {
        for _ in 0..40 {
            let mut bytes = original.clone();
            for _ in 0..=next(4) {
                let place = next(bytes.len());
                bytes[place] = next(256) as u8;
            }
            if next(3) == 0 {
                bytes.truncate(next(bytes.len()));
            }
            if let Ok(picture) = image::decode(&bytes) {
                let values = picture.width as usize * picture.height as usize * 3;
                assert_eq!(picture.pixels.len(), values, "{name}");
            }
        }
    }
}

#[test]
fn a_file_cut_in_its_data_is_truncated() {
    let Some(files) = small_inputs() else { return };
    for (name, bytes) in
        files.iter().filter(|(name, bytes)| !name.ends_with("broken.png") && bytes.len() > 1000)
    {
        let cut = &bytes[..bytes.len() * 2 / 3];
        assert!(
            matches!(image::decode(cut), Err(ImageError::Truncated(_))),
            "{name}: {:?}",
            image::decode(cut).err()
        );
        let format = image::read_header(cut).unwrap().format;
        assert!(matches!(image::check_ending(cut, format), Err(ImageError::Truncated(_))), "{name}");
        assert_eq!(image::check_ending(bytes, format), Ok(()), "{name}");
    }
}

/// A PNG header that claims a size, with a correct checksum and no data.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let checksum = chunk.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend(chunk);
    bytes.extend((!checksum).to_be_bytes());
    bytes
}

#[test]
fn size_is_checked_before_pixels_are_read() {
    let prepare = |width, height| image::prepare(&png_of(width, height), PixelLimits::default()).unwrap_err();
    let limit = image::DECODE_LIMIT;
    assert_eq!(prepare(10_001, 10_000), ImageError::TooLarge { width: 10_001, height: 10_000, limit });
    assert_eq!(
        prepare(u32::MAX, u32::MAX),
        ImageError::TooLarge { width: u32::MAX, height: u32::MAX, limit }
    );
    assert_eq!(prepare(401, 2), ImageError::Ratio { width: 401, height: 2 });
    assert!(matches!(prepare(0, 5), ImageError::Undecodable(_)));
    // Exactly at the limits the data are read, of which there are none.
    assert!(matches!(prepare(10_000, 10_000), ImageError::Truncated(_)));
    assert!(matches!(prepare(400, 2), ImageError::Truncated(_)));
}
