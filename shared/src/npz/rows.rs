//! Rows of arrays: text in UCS-4, vectors in single and half precision.

use half::f16;

/// Characters that `text` takes in a `<U` array.
pub fn text_width(text: &str) -> u64 {
    text.chars().count() as u64
}

/// Appends `text` as one row of `<U[width]`: UCS-4, padded with NUL. Text beyond the width is a
/// mistake of the caller, who knows the longest; it is cut.
pub fn encode_text(text: &str, width: u64, rows: &mut Vec<u8>) {
    let end = rows.len() + width as usize * 4;
    for character in text.chars().take(width as usize) {
        rows.extend_from_slice(&u32::from(character).to_le_bytes());
    }
    rows.resize(end, 0);
}

/// Reads one row of a `<U` array. The padding goes; a NUL inside the text, or a number that is no
/// character, is an error that says so.
pub fn decode_text(row: &[u8]) -> Result<String, String> {
    let points = row.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let mut text = String::with_capacity(row.len() / 4);
    let mut padding = false;
    for point in points {
        match char::from_u32(point) {
            Some('\0') => padding = true,
            Some(_) if padding => return Err("text with a NUL inside".to_owned()),
            Some(character) => text.push(character),
            None => return Err(format!("{point:#x} is no Unicode character")),
        }
    }
    Ok(text)
}

/// Reads a row of `<f4`.
pub fn decode_vector(row: &[u8]) -> Vec<f32> {
    row.as_chunks().0.iter().copied().map(single).collect()
}

/// Reads a row of `<f2`.
pub fn f16_vector(row: &[u8]) -> Vec<f32> {
    row.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
}

/// Rounds rows of `<f4` to `<f2`.
pub fn encode_f16_rows(rows: &[u8]) -> Vec<u8> {
    let mut halves = Vec::with_capacity(rows.len() / 2);
    for bytes in rows.as_chunks().0 {
        halves.extend_from_slice(&f16::from_f32(single(*bytes)).to_le_bytes());
    }
    halves
}

/// The Euclidean norm of a row of `<f4`; not finite when a component is not.
///
/// Sums in single precision over 64 components at a time, which compilers turn into vector
/// instructions, and in double precision over those. A norm that is not clearly within 1e-6 of 1 is
/// computed again in double precision, so that no verdict depends on the shortcut.
pub fn norm(row: &[u8]) -> f64 {
    const LANES: usize = 16;
    let mut total = 0.0_f64;
    // Arrays of a fixed size, not slices: only they become vector instructions in every build.
    let (blocks, rest) = row.as_chunks::<{ LANES * 4 * 4 }>();
    for block in blocks {
        let mut lanes = [0.0_f32; LANES];
        for group in block.as_chunks::<{ LANES * 4 }>().0 {
            for (lane, bytes) in lanes.iter_mut().zip(group.as_chunks().0) {
                let value = single(*bytes);
                *lane += value * value;
            }
        }
        // Half the lanes at a time keeps the sum in vector registers.
        let mut folded = [0.0_f32; LANES / 2];
        for (at, value) in folded.iter_mut().enumerate() {
            *value = lanes[at] + lanes[at + LANES / 2];
        }
        total += folded.iter().map(|value| f64::from(*value)).sum::<f64>();
    }
    total += exact_square(rest);
    let norm = total.sqrt();
    if (norm - 1.0).abs() <= 5e-7 { norm } else { exact_square(row).sqrt() }
}

/// The Euclidean norm of a row of `<f2`; not finite when a component is not.
pub fn norm_f16(row: &[u8]) -> f64 {
    let values = row.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f64());
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// The cosine of the angle between two vectors of the same length; NaN when one is zero.
pub fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let (mut product, mut left_square, mut right_square) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (left, right) in left.iter().zip(right) {
        let (left, right) = (f64::from(*left), f64::from(*right));
        product += left * right;
        left_square += left * left;
        right_square += right * right;
    }
    product / (left_square * right_square).sqrt()
}

fn exact_square(row: &[u8]) -> f64 {
    row.as_chunks().0.iter().map(|bytes| f64::from(single(*bytes))).map(|value| value * value).sum()
}

fn single(bytes: [u8; 4]) -> f32 {
    f32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn text_round_trips_and_nonsense_is_an_error() {
        for text in ["", "a", "한국어 🎓", "\u{10ffff}"] {
            let mut row = Vec::new();
            encode_text(text, 9, &mut row);
            assert_eq!(row.len(), 36);
            assert_eq!(decode_text(&row).unwrap(), text);
        }
        let mut inner = Vec::new();
        encode_text("a\0b", 3, &mut inner);
        assert!(decode_text(&inner).unwrap_err().contains("NUL"));
        assert!(decode_text(&0x0011_0000_u32.to_le_bytes()).is_err());
        assert!(decode_text(&0xd800_u32.to_le_bytes()).is_err());
    }

    #[test]
    fn norms_agree_with_double_precision() {
        for length in [1, 3, 63, 64, 65, 4096] {
            let values: Vec<f32> = (0..length).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
            let exact = values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
            let unit: Vec<f32> = values.iter().map(|value| (f64::from(*value) / exact) as f32).collect();
            assert!((norm(&bytes(&unit)) - 1.0).abs() < 2e-7, "{length}");
            assert!((norm(&bytes(&values)) - exact).abs() < 1e-12 * exact, "{length}");
        }
        let mut values = vec![0.0_f32; 128];
        values[5] = 1.0 + 2e-6;
        assert!((norm(&bytes(&values)) - 1.0).abs() > 1e-6);
        values[100] = f32::NAN;
        assert!(!norm(&bytes(&values)).is_finite());
        values[100] = f32::INFINITY;
        assert!(!norm(&bytes(&values)).is_finite());
    }
}
