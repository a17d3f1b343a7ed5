//! Norms over the last axis of `[rows, size]`.

use candle_core::{D, DType, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::{Arg, Gpu, Grid, pick, threads, vector};

/// `x / sqrt(mean(x²) + eps) · w`: computed in f32, rounded, then multiplied by the weight.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(x)? {
        let name = pick(x.dtype(), "rms_norm_bf16", "rms_norm_f32")?;
        return launch(&gpu, name, x, &[weight], eps);
    }
    rms_norm_twin(x, weight, eps)
}

/// What [`rms_norm`] means.
pub fn rms_norm_twin(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if x.dtype() == DType::F32 {
        return candle_nn::ops::rms_norm(&x.contiguous()?, weight, eps as f32);
    }
    let wide = x.to_dtype(DType::F32)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = wide.broadcast_div(&(mean + eps)?.sqrt()?)?;
    normed.to_dtype(x.dtype())?.broadcast_mul(weight)
}

/// `(x - mean) / sqrt(var + eps) · w + b`, computed in f32 and rounded once.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(x)? {
        let name = pick(x.dtype(), "layer_norm_bf16", "layer_norm_f32")?;
        return launch(&gpu, name, x, &[weight, bias], eps);
    }
    layer_norm_twin(x, weight, bias, eps)
}

/// What [`layer_norm`] means.
pub fn layer_norm_twin(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
    let (x32, weight, bias) = (wide(x)?.contiguous()?, wide(weight)?, wide(bias)?);
    candle_nn::ops::layer_norm(&x32, &weight, &bias, eps as f32)?.to_dtype(x.dtype())
}

/// The widest row, in vectors: four for each of 512 threads.
#[cfg(feature = "cuda")]
const WIDEST: usize = 4 * 512;

#[cfg(feature = "cuda")]
fn launch(gpu: &Gpu, name: &'static str, x: &Tensor, weights: &[&Tensor], eps: f64) -> Result<Tensor> {
    let (rows, size) = x.dims2()?;
    let vectors = size / vector(x.dtype());
    if !size.is_multiple_of(vector(x.dtype())) || vectors > WIDEST {
        candle_core::bail!("{name} cannot take rows of {size} values");
    }
    let y = gpu.empty((rows, size), x.dtype())?;
    let mut args = vec![Arg::Address(gpu.address(x)?)];
    for weight in weights {
        args.push(Arg::Address(gpu.address(weight)?));
    }
    args.extend([Arg::Address(gpu.address(&y)?), Arg::I32(size as i32), Arg::F32(eps as f32)]);
    gpu.launch(name, Grid { blocks: (rows, 1), threads: threads(vectors), shared: 0 }, &args)?;
    Ok(y)
}
