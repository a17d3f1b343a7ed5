//! Which angle each component of a head turns by: cosines and sines of shape `[tokens, head_dim / 2]`.

use candle_core::{DType, Device, Result};

use crate::kernels::rope::Turns;
use crate::kernels::table::Table;

/// Interleaved M-RoPE of the text tower: frequency `i` turns with the height where `i % 3 == 1` and
/// `i < 3 · section[1]`, with the width where `i % 3 == 2` and `i < 3 · section[2]`, else with time.
pub fn text(
    positions: &[Vec<u32>; 3],
    theta: f64,
    head_dim: usize,
    section: [usize; 3],
    dtype: DType,
    device: &Device,
) -> Result<Turns> {
    let half = head_dim / 2;
    let axes: Vec<usize> = (0..half)
        .map(|i| match i % 3 {
            1 if i < 3 * section[1] => 1,
            2 if i < 3 * section[2] => 2,
            _ => 0,
        })
        .collect();
    let inverse = inverse_frequencies(theta, head_dim);
    let mut angles = Vec::with_capacity(positions[0].len() * half);
    let [times, rows, columns] = positions;
    for ((time, row), column) in times.iter().zip(rows).zip(columns) {
        let place = [*time, *row, *column];
        angles.extend(axes.iter().zip(&inverse).map(|(axis, inv)| place[*axis] as f32 * inv));
    }
    from_angles(angles, half, dtype, device)
}

/// 2-D rope of the vision tower: the first half of the frequencies turns with the row of a patch,
/// the second with its column.
pub fn vision(places: &[(u32, u32)], head_dim: usize, dtype: DType, device: &Device) -> Result<Turns> {
    let half = head_dim / 2;
    let inverse = inverse_frequencies(10_000.0, half);
    let mut angles = Vec::with_capacity(places.len() * half);
    for &(row, column) in places {
        angles.extend(inverse.iter().map(|inv| row as f32 * inv));
        angles.extend(inverse.iter().map(|inv| column as f32 * inv));
    }
    from_angles(angles, half, dtype, device)
}

/// From the angles of each token, in f32; the tables are cast to the type computed in.
fn from_angles(angles: Vec<f32>, half: usize, dtype: DType, device: &Device) -> Result<Turns> {
    let tokens = angles.len() / half;
    let angles = Table::new(angles, device)?.tensor((tokens, half), device)?;
    Ok(Turns { cos: angles.cos()?.to_dtype(dtype)?, sin: angles.sin()?.to_dtype(dtype)? })
}

/// `theta^(-2i/size)` for `i < size / 2`, rounded as the reference rounds: the power to f32, then its
/// inverse.
fn inverse_frequencies(theta: f64, size: usize) -> Vec<f32> {
    (0..size / 2).map(|i| 1.0 / theta.powf((2 * i) as f64 / size as f64) as f32).collect()
}
