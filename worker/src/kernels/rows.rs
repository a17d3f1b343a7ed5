//! Whole rows of matrices, and pixels cut into rows.

use candle_core::{DType, Device, Result, Tensor};

use super::table::Table;
use crate::embedder::PreparedImage;
use crate::image::{PATCH_VALUES, patches_into};

#[cfg(feature = "cuda")]
use super::cuda::{Arg, Gpu, Grid, pick, threads, vector};
#[cfg(feature = "cuda")]
use crate::image::PATCH;

/// Row `r` of the answer is row `source[r]` of `table`, or row `-source[r] - 1` of `extra` where that is
/// negative.
pub fn gather_rows(table: &Tensor, extra: Option<&Tensor>, source: &Table<i32>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(table)? {
        let size = table.dim(1)?;
        let out = gpu.empty((source.values().len(), size), table.dtype())?;
        let name = pick(table.dtype(), "gather_rows_bf16", "gather_rows_f32")?;
        let args = [
            Arg::Address(gpu.address(table)?),
            Arg::Address(gpu.address(extra.unwrap_or(table))?),
            Arg::Address(source.address(&gpu)?),
            Arg::Address(gpu.address(&out)?),
            Arg::I32(size as i32),
        ];
        gpu.launch(name, row_grid(source.values().len(), table)?, &args)?;
        return Ok(out);
    }
    gather_rows_twin(table, extra, source)
}

/// What [`gather_rows`] means.
pub fn gather_rows_twin(table: &Tensor, extra: Option<&Tensor>, source: &Table<i32>) -> Result<Tensor> {
    let device = table.device();
    let Some(extra) = extra else {
        let rows: Vec<u32> = source.values().iter().map(|row| row.unsigned_abs()).collect();
        return table.index_select(&Tensor::new(rows.as_slice(), device)?, 0);
    };
    // The rows of the table that are meant, then the extra rows, then one gather from both.
    let meant: Vec<u32> = source.values().iter().filter_map(|row| u32::try_from(*row).ok()).collect();
    let mut next = 0;
    let places: Vec<u32> = source
        .values()
        .iter()
        .map(|row| match u32::try_from(*row) {
            Ok(_) => {
                next += 1;
                next - 1
            }
            Err(_) => meant.len() as u32 + row.unsigned_abs() - 1,
        })
        .collect();
    let rows = table.index_select(&Tensor::new(meant.as_slice(), device)?, 0)?;
    Tensor::cat(&[&rows, extra], 0)?.index_select(&Tensor::new(places.as_slice(), device)?, 0)
}

/// Row `r` of `added` is added to row `places[r]` of `x`; no place comes twice.
pub fn add_rows(x: Tensor, added: &Tensor, places: &Table<i32>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(&x)? {
        let name = pick(x.dtype(), "add_rows_bf16", "add_rows_f32")?;
        let args = [
            Arg::Address(gpu.address(&x)?),
            Arg::Address(gpu.address(added)?),
            Arg::Address(places.address(&gpu)?),
            Arg::I32(x.dim(1)? as i32),
        ];
        gpu.launch(name, row_grid(places.values().len(), &x)?, &args)?;
        return Ok(x);
    }
    add_rows_twin(&x, added, places)
}

/// What [`add_rows`] means.
pub fn add_rows_twin(x: &Tensor, added: &Tensor, places: &Table<i32>) -> Result<Tensor> {
    let places: Vec<u32> = places.values().iter().map(|place| place.unsigned_abs()).collect();
    x.index_add(&Tensor::new(places.as_slice(), x.device())?, added, 0)
}

/// For each row: four rows of a table and their weights.
#[derive(Debug)]
pub struct Taps {
    /// Four rows each.
    pub rows: Table<i32>,
    /// Four weights each.
    pub weights: Table<f32>,
}

/// To each row of `x` is added the weighted sum of its four rows of the table.
pub fn add_interpolated(x: Tensor, table: &Tensor, taps: &Taps) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(&x)? {
        let (rows, size) = x.dims2()?;
        let name = pick(x.dtype(), "add_interpolated_bf16", "add_interpolated_f32")?;
        let args = [
            Arg::Address(gpu.address(&x)?),
            Arg::Address(gpu.address(table)?),
            Arg::Address(taps.rows.address(&gpu)?),
            Arg::Address(taps.weights.address(&gpu)?),
            Arg::I32(size as i32),
        ];
        gpu.launch(name, row_grid(rows, &x)?, &args)?;
        return Ok(x);
    }
    add_interpolated_twin(&x, table, taps)
}

/// What [`add_interpolated`] means.
pub fn add_interpolated_twin(x: &Tensor, table: &Tensor, taps: &Taps) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for tap in 0..4 {
        let rows: Vec<u32> =
            taps.rows.values().iter().skip(tap).step_by(4).map(|row| row.unsigned_abs()).collect();
        let weights: Vec<f32> = taps.weights.values().iter().skip(tap).step_by(4).copied().collect();
        let weights = Tensor::new(weights.as_slice(), x.device())?.unsqueeze(1)?;
        let rows = table.index_select(&Tensor::new(rows.as_slice(), x.device())?, 0)?;
        let part = rows.to_dtype(DType::F32)?.broadcast_mul(&weights)?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    match sum {
        Some(sum) => x + sum.to_dtype(x.dtype())?,
        None => Ok(x.clone()),
    }
}

/// The rows of the patch embedding, `[patches, 1536]`, image after image: see
/// [`patches_into`](crate::image::patches_into).
pub fn patch_rows(images: &[&PreparedImage], dtype: DType, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of_device(device)? {
        let mut pixels = Vec::with_capacity(images.iter().map(|image| image.pixels.len()).sum());
        let mut places = Vec::new();
        for image in images {
            if image.pixels.len() != image.patches() * (PATCH * PATCH * 3) as usize {
                candle_core::bail!("the pixels of a picture do not fill its grid");
            }
            let (first, side) = (pixels.len() as i64, i64::from(PATCH));
            let line = i64::from(image.grid_width) * side * 3;
            for (row, column) in crate::image::patch_order(image.grid_height, image.grid_width) {
                places.extend([first + i64::from(row) * side * line + i64::from(column) * side * 3, line]);
            }
            pixels.extend_from_slice(&image.pixels);
        }
        let patches = places.len() / 2;
        let (pixels, places) = (Table::new(pixels, device)?, Table::new(places, device)?);
        let out = gpu.empty((patches, PATCH_VALUES), dtype)?;
        let name = pick(dtype, "patch_rows_bf16", "patch_rows_f32")?;
        let args = [
            Arg::Address(pixels.address(&gpu)?),
            Arg::Address(places.address(&gpu)?),
            Arg::Address(gpu.address(&out)?),
        ];
        gpu.launch(name, Grid { blocks: (patches, 1), threads: 96, shared: 0 }, &args)?;
        return Ok(out);
    }
    patch_rows_twin(images, dtype, device)
}

/// What [`patch_rows`] means.
pub fn patch_rows_twin(images: &[&PreparedImage], dtype: DType, device: &Device) -> Result<Tensor> {
    let patches: usize = images.iter().map(|image| image.patches()).sum();
    let mut values = vec![0.0; patches * PATCH_VALUES];
    let mut rest = values.as_mut_slice();
    for image in images {
        let (rows, others) = rest.split_at_mut(image.patches() * PATCH_VALUES);
        patches_into(image, rows);
        rest = others;
    }
    Tensor::from_vec(values, (patches, PATCH_VALUES), device)?.to_dtype(dtype)
}

/// A block a row of a matrix as wide as `like`.
#[cfg(feature = "cuda")]
fn row_grid(rows: usize, like: &Tensor) -> Result<Grid> {
    let (size, step) = (like.dim(1)?, vector(like.dtype()));
    if !size.is_multiple_of(step) {
        candle_core::bail!("no kernel takes rows of {size} values");
    }
    Ok(Grid { blocks: (rows, 1), threads: threads(size / step), shared: 0 })
}
