//! Pixel formats to RGB, with Pillow's integer arithmetic.

/// One channel `value` with coverage `alpha` over white: Pillow's `MULDIV255` blend.
pub fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    let sum = 255 * (255 - alpha) + value * alpha + 128;
    (((sum >> 8) + sum) >> 8) as u8
}

/// Appends an RGBA pixel over white.
pub fn push_over_white(out: &mut Vec<u8>, [red, green, blue, alpha]: [u8; 4]) {
    out.extend([over_white(red, alpha), over_white(green, alpha), over_white(blue, alpha)]);
}

/// RGB of a CMYK pixel whose values count light, not ink (255 is no ink), as libjpeg returns Adobe's
/// inverted files and as Pillow turns every CMYK JPEG: `k - k * c / 255`, the division rounded.
pub fn inverted_cmyk([cyan, magenta, yellow, key]: [u8; 4]) -> [u8; 3] {
    let key = u32::from(key);
    [cyan, magenta, yellow].map(|light| {
        let product = u32::from(255 - light) * key + 128;
        (key - (((product >> 8) + product) >> 8)) as u8
    })
}

/// A 16-bit grey level as Pillow converts it to 8 bits: clipped, not scaled.
pub fn clip_grey(level: u16) -> u8 {
    level.min(255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_shows_through() {
        assert_eq!(over_white(10, 0), 255);
        assert_eq!(over_white(10, 255), 10);
        assert_eq!(over_white(0, 128), 127);
    }

    #[test]
    fn ink_darkens() {
        assert_eq!(inverted_cmyk([255, 255, 255, 255]), [255, 255, 255]);
        assert_eq!(inverted_cmyk([0, 255, 128, 255]), [0, 255, 128]);
        assert_eq!(inverted_cmyk([255, 255, 255, 0]), [0, 0, 0]);
    }
}
