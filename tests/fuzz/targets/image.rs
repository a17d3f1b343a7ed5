//! Pictures: headers, endings and decoders of every format.
//!
//! Input: a byte that says whether the checksums of PNG chunks are repaired, then the picture. Holds: no
//! decoder is entered over the limit of pixels; what is decoded has the size its header told, and every pixel
//! of it; what is prepared fills its grid.
#![no_main]

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};
use worker::image::{DECODE_LIMIT, PixelLimits, check_ending, decode, prepare, read_header};

/// Larger pictures are left to the tests of the crate: decoding one takes as long as ten thousand small ones.
const PIXELS: u64 = 1 << 20;

libfuzzer_sys::fuzz_target!(init: start(), |data: &[u8]| {
    let Some((repaired, picture)) = data.split_first() else { return };
    let mut picture = picture.to_vec();
    if *repaired > 0 && picture.starts_with(b"\x89PNG") {
        fuzz::repair::png(&mut picture);
    }
    let Ok(header) = read_header(&picture) else {
        assert!(decode(&picture).is_err());
        return;
    };
    let pixels = u64::from(header.width) * u64::from(header.height);
    assert!((1..=DECODE_LIMIT).contains(&pixels));
    let _ = check_ending(&picture, header.format);
    if pixels > PIXELS {
        return;
    }
    if let Ok(decoded) = decode(&picture) {
        assert_eq!((decoded.width, decoded.height), (header.width, header.height));
        assert_eq!(decoded.pixels.len() as u64, pixels * 3);
        let limits = PixelLimits { min_pixels: 4096, max_pixels: 8192 };
        if let Ok(prepared) = prepare(&picture, limits) {
            assert_eq!(prepared.pixels.len(), (prepared.grid_height * prepared.grid_width) as usize * 768);
        }
    }
});

/// The panics of decoders are caught and become errors: a hook that aborts would call each a finding.
fn start() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let ours = panic.location().is_none_or(|place| place.file().contains("targets/"));
        if ours {
            abort(panic);
        }
    }));
    fuzz::corpus::write_seeds(seeds);
}

fn seeds() -> Vec<Vec<u8>> {
    let grey = image::GrayImage::from_fn(9, 7, |x, y| image::Luma([(x * 20 + y) as u8]));
    let colour = image::RgbaImage::from_fn(17, 33, |x, y| image::Rgba([x as u8 * 9, y as u8 * 7, 3, 200]));
    let deep = DynamicImage::from(grey.clone()).to_luma16();
    let mut seeds = Vec::new();
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Tiff,
    ] {
        let pictures = [
            DynamicImage::from(grey.clone()),
            DynamicImage::from(colour.clone()),
            DynamicImage::from(colour.clone()).to_rgb8().into(),
            deep.clone().into(),
        ];
        for picture in pictures {
            let mut bytes = Cursor::new(Vec::new());
            // Not every format takes every kind of pixel.
            if picture.write_to(&mut bytes, format).is_ok() {
                let bytes = bytes.into_inner();
                decode(&bytes).expect("a picture of ours");
                seeds.push([&[1], bytes.as_slice()].concat());
            }
        }
    }
    seeds
}
