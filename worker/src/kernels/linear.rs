//! Products with a weight `[output, input]`, and what follows them in the same kernel.

use candle_core::{DType, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::{Epilogue, Gpu, Product};

/// What is done to a product.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    /// Nothing.
    Nothing,
    /// A bias `[output]` is added.
    Bias(&'a Tensor),
    /// A bias is added and GELU, the tanh approximation, applied.
    BiasGelu(&'a Tensor),
}

/// `after(x Wᵀ)`: `[rows, input]` to `[rows, output]`, summed in f32.
pub fn linear(x: &Tensor, weight: &Tensor, after: After<'_>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(x)? {
        let y = gpu.empty((x.dim(0)?, weight.dim(0)?), x.dtype())?;
        multiply(&gpu, x, weight, after, &y, false)?;
        return Ok(y);
    }
    linear_twin(x, weight, after)
}

/// What [`linear`] means.
pub fn linear_twin(x: &Tensor, weight: &Tensor, after: After<'_>) -> Result<Tensor> {
    let y = product(x, weight)?;
    match after {
        After::Nothing => Ok(y),
        After::Bias(bias) => y.broadcast_add(bias),
        // candle's `gelu` is the tanh approximation.
        After::BiasGelu(bias) => y.broadcast_add(bias)?.gelu(),
    }
}

/// `residual + x Wᵀ (+ bias)`.
pub fn linear_add(residual: Tensor, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(x)? {
        multiply(&gpu, x, weight, bias.map_or(After::Nothing, After::Bias), &residual, true)?;
        return Ok(residual);
    }
    linear_add_twin(&residual, x, weight, bias)
}

/// What [`linear_add`] means.
pub fn linear_add_twin(
    residual: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    residual + linear_twin(x, weight, bias.map_or(After::Nothing, After::Bias))?
}

/// How many rows gemm must see to sum a row of a product as it sums it among any number of others. It sums a single row
/// and products of up to 256 values in vectors, others one after the other, and cuts long sums elsewhere where neither
/// rows nor columns are more than 64 (`gemm_common::gemm::gemm_basic_generic`).
fn least_rows(output: usize) -> usize {
    let not_in_vectors = 256 / output.max(1) + 1;
    not_in_vectors.max(if output <= 64 { 65 } else { 2 })
}

/// `x Wᵀ`. A CPU has no product of bf16: there both sides are widened, which is exact, and the sum in
/// f32 is rounded once, as a GPU does it.
fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.matmul(&weight.t()?);
    }
    if x.dtype() == DType::BF16 {
        return product(&x.to_dtype(DType::F32)?, &weight.to_dtype(DType::F32)?)?.to_dtype(DType::BF16);
    }
    // Rows of zeros beside few, so that a row gives the same bits alone and in a batch.
    let (rows, least) = (x.dim(0)?, least_rows(weight.dim(0)?));
    if rows >= least {
        return x.matmul(&weight.t()?);
    }
    x.pad_with_zeros(0, 0, least - rows)?.matmul(&weight.t()?)?.narrow(0, 0, rows)
}

#[cfg(feature = "cuda")]
fn multiply(
    gpu: &Gpu,
    x: &Tensor,
    weight: &Tensor,
    after: After<'_>,
    y: &Tensor,
    accumulate: bool,
) -> Result<()> {
    let ((rows, input), (output, columns)) = (x.dims2()?, weight.dims2()?);
    if input != columns || y.dims() != [rows, output] || weight.dtype() != x.dtype() {
        candle_core::bail!(
            "a product of {:?} and {:?} does not fit {:?}",
            x.shape(),
            weight.shape(),
            y.shape()
        );
    }
    let (epilogue, bias) = match after {
        After::Nothing => (Epilogue::None, None),
        After::Bias(bias) => (Epilogue::Bias, Some(gpu.address(bias)?)),
        After::BiasGelu(bias) => (Epilogue::BiasGelu, Some(gpu.address(bias)?)),
    };
    let product = Product { dtype: x.dtype(), rows, input, output, epilogue, accumulate };
    gpu.multiply(&product, gpu.address(x)?, gpu.address(weight)?, bias, gpu.address(y)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::product;

    #[test]
    fn a_row_gives_the_same_bits_alone_and_among_others() {
        for (input, output) in [(64, 64), (1536, 64), (256, 192), (1536, 300), (3000, 2), (4096, 1024)] {
            let draw = |rows| Tensor::randn(0f32, 1.0, (rows, input), &Device::Cpu).unwrap();
            let (x, weight) = (draw(200), draw(output));
            for dtype in [DType::F32, DType::BF16] {
                let (x, weight) = (x.to_dtype(dtype).unwrap(), weight.to_dtype(dtype).unwrap());
                let bits = |y: Tensor| y.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
                let all = bits(product(&x, &weight).unwrap());
                for rows in [1, 2, 4, 5, 64, 65] {
                    let some = bits(product(&x.narrow(0, 7, rows).unwrap(), &weight).unwrap());
                    assert!(some == all[7..7 + rows], "{rows} rows, {input} to {output}, {dtype:?}");
                }
            }
        }
    }
}
