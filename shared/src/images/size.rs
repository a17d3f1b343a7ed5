//! How large a picture is, from its first bytes, and how large the model sees it: for predictions, with no
//! pixel decoded. What is embedded is decided by the worker's own decoders.

/// Bytes that hold the size of most pictures.
pub const FEW_BYTES: usize = 4 << 10;

/// Bytes that hold the size of nearly every picture: a JPEG may have a thumbnail and a colour profile before.
pub const MANY_BYTES: usize = 256 << 10;

/// Both sides of a picture that the model sees are multiples of this: 2x2 patches of 16 pixels.
pub const FACTOR: u32 = 32;

/// The longer side may be this many times the shorter one, and no more.
pub const MAX_RATIO: u32 = 200;

/// Width and height in pixels of a PNG, JPEG, GIF, BMP or WebP that begins with these bytes; `None` where they
/// do not tell.
pub fn dimensions(start: &[u8]) -> Option<(u32, u32)> {
    let size = match start {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => (big32(start, 16)?, big32(start, 20)?),
        [0xff, 0xd8, 0xff, ..] => jpeg(start)?,
        [b'G', b'I', b'F', b'8', ..] => (little16(start, 6)?, little16(start, 8)?),
        // The height is negative where rows go from top to bottom.
        [b'B', b'M', ..] => (little32(start, 18)?, little32(start, 22)?.cast_signed().unsigned_abs()),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(start)?,
        _ => return None,
    };
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// Goes from segment to segment up to the frame header (ITU T.81, B.2.2).
fn jpeg(start: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        let marker = *start.get(at + 1).filter(|_| start.get(at) == Some(&0xff))?;
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        at += match marker {
            // Fill bytes, and markers without a length.
            0xff => 1,
            0x01 | 0xd0..=0xd8 => 2,
            _ if is_frame => return Some((big16(start, at + 7)?, big16(start, at + 5)?)),
            // Pixels begin, and no frame header came before them.
            0xda | 0xd9 => return None,
            _ => 2 + big16(start, at + 2)? as usize,
        };
    }
}

/// The three forms of a WebP: lossy, lossless, and extended.
fn webp(start: &[u8]) -> Option<(u32, u32)> {
    match start.get(12..16)? {
        b"VP8 " => Some((little16(start, 26)? & 0x3fff, little16(start, 28)? & 0x3fff)),
        b"VP8L" => {
            let bits = little32(start, 21)?;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((little24(start, 24)? + 1, little24(start, 27)? + 1)),
        _ => None,
    }
}

/// The width and height that a picture is resized to (`smart_resize` of qwen-vl-utils): multiples of 32, the
/// ratio about kept, the pixels within the limits. Halves round to even, as in Python.
pub fn resized(width: u32, height: u32, min_pixels: u32, max_pixels: u32) -> (u32, u32) {
    let factor = f64::from(FACTOR);
    let (high, wide) = (f64::from(height.max(1)), f64::from(width.max(1)));
    let nearest = |side: f64| ((side / factor).round_ties_even() * factor).max(factor);
    let (minimum, maximum) = (f64::from(min_pixels), f64::from(max_pixels));
    let (mut new_height, mut new_width) = (nearest(high), nearest(wide));
    if new_height * new_width > maximum {
        let shrink = (high * wide / maximum).sqrt();
        new_height = ((high / shrink / factor).floor() * factor).max(factor);
        new_width = ((wide / shrink / factor).floor() * factor).max(factor);
    } else if new_height * new_width < minimum {
        let grow = (minimum / (high * wide)).sqrt();
        new_height = (high * grow / factor).ceil() * factor;
        new_width = (wide * grow / factor).ceil() * factor;
    }
    (new_width as u32, new_height as u32)
}

fn big16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn big32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn little16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn little24(bytes: &[u8], at: usize) -> Option<u32> {
    let [low, middle, high] = bytes.get(at..at + 3)?.try_into().ok()?;
    Some(u32::from_le_bytes([low, middle, high, 0]))
}

fn little32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_headers() {
        let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0, 0, 1, 44, 0, 0, 0, 200]].concat();
        assert_eq!(dimensions(&png), Some((300, 200)));
        let comment = [b"\xff\xd8\xff\xfe\0\x04hi".as_slice(), b"\xff\xc4\0\x02"].concat();
        let jpeg = [&comment[..], b"\xff\xff\xc2\0\x11\x08\0\xc8\x01\x2c\x03"].concat();
        assert_eq!(dimensions(&jpeg), Some((300, 200)));
        assert_eq!(dimensions(b"GIF89a\x2c\x01\xc8\0"), Some((300, 200)));
        let bmp = [b"BM".as_slice(), &[0; 16], &300_i32.to_le_bytes(), &(-200_i32).to_le_bytes()].concat();
        assert_eq!(dimensions(&bmp), Some((300, 200)));
        let webp = |kind: &[u8], rest: &[u8]| [b"RIFF\0\0\0\0WEBP", kind, &[0; 4], rest].concat();
        assert_eq!(dimensions(&webp(b"VP8X", &[0, 0, 0, 0, 43, 1, 0, 199, 0, 0])), Some((300, 200)));
        let bits = (299_u32 + (199 << 14)).to_le_bytes();
        assert_eq!(dimensions(&webp(b"VP8L", &[&[0x2f], &bits[..]].concat())), Some((300, 200)));
        let frame = [0, 0, 0, 0x9d, 1, 0x2a, 44, 1, 200, 0];
        assert_eq!(dimensions(&webp(b"VP8 ", &frame)), Some((300, 200)));
    }

    #[test]
    fn what_does_not_tell_is_none() {
        for bytes in [
            &b""[..],
            b"text",
            b"\xff\xd8\xff",
            b"\xff\xd8\xff\xda\0\x02",
            b"\x89PNG\r\n\x1a\n\0\0",
            b"GIF89a\0\0\0\0",
        ] {
            assert_eq!(dimensions(bytes), None, "{bytes:?}");
        }
    }
}
