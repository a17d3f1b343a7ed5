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

/// `x Wᵀ`. A CPU has no product of bf16: there both sides are widened, which is exact, and the sum in
/// f32 is rounded once, as a GPU does it.
fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() == DType::BF16 {
        let wide = x.to_dtype(DType::F32)?.matmul(&weight.to_dtype(DType::F32)?.t()?)?;
        return wide.to_dtype(DType::BF16);
    }
    x.matmul(&weight.t()?)
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
