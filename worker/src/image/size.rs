//! The size a picture is resized to: `smart_resize` of qwen-vl-utils.

use crate::embedder::ImageError;

pub use shared::images::size::{FACTOR, MAX_RATIO};
pub use shared::settings::{DEFAULT_MAX_PIXELS, MIN_PIXELS as DEFAULT_MIN_PIXELS};

/// The range a resized picture's pixel count is brought into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLimits {
    /// A picture with fewer pixels is enlarged.
    pub min_pixels: u32,
    /// A picture with more pixels is shrunk.
    pub max_pixels: u32,
}

impl Default for PixelLimits {
    fn default() -> Self {
        Self { min_pixels: DEFAULT_MIN_PIXELS, max_pixels: DEFAULT_MAX_PIXELS }
    }
}

/// The `(height, width)` in pixels that a picture of `height` x `width` pixels is resized to.
///
/// Both are multiples of [`FACTOR`] and at least that. Halves round to even, as in Python. Where the
/// limits are so narrow that the reference would reach a side of 0, the side is [`FACTOR`] instead,
/// and the pixel count may then leave the limits.
pub fn smart_resize(height: u32, width: u32, limits: PixelLimits) -> Result<(u32, u32), ImageError> {
    let (shorter, longer) = (height.min(width), height.max(width));
    if shorter == 0 {
        return Err(ImageError::Undecodable("it has no pixels".into()));
    }
    if u64::from(longer) > u64::from(MAX_RATIO) * u64::from(shorter) {
        return Err(ImageError::Ratio { width, height });
    }
    let (new_width, new_height) =
        shared::images::size::resized(width, height, limits.min_pixels, limits.max_pixels);
    Ok((new_height, new_width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_reference() {
        let cases = [
            ((200, 150), (192, 160)),
            ((80, 80), (64, 64)),
            ((112, 48), (128, 64)),
            ((5, 7), (64, 96)),
            ((1, 1), (64, 64)),
            ((400, 2), (384, 32)),
            ((1600, 40), (1600, 32)),
            ((37, 900), (32, 896)),
            ((333, 257), (320, 256)),
            ((2600, 1900), (1568, 1152)),
        ];
        for ((width, height), (new_width, new_height)) in cases {
            assert_eq!(
                smart_resize(height, width, PixelLimits::default()),
                Ok((new_height, new_width)),
                "{width}x{height}"
            );
        }
    }

    #[test]
    fn a_ratio_of_200_is_the_last_one_accepted() {
        let limits = PixelLimits::default();
        assert!(smart_resize(1, 200, limits).is_ok());
        assert_eq!(smart_resize(1, 201, limits), Err(ImageError::Ratio { width: 201, height: 1 }));
        assert_eq!(smart_resize(401, 2, limits), Err(ImageError::Ratio { width: 2, height: 401 }));
    }

    #[test]
    fn a_side_is_never_zero() {
        let limits = PixelLimits { min_pixels: 1024, max_pixels: 32 * 32 * 10 };
        let (height, width) = smart_resize(100, 20_000, limits).unwrap();
        assert_eq!(height, 32);
        assert!(width >= 32 && width % 32 == 0);
    }
}
