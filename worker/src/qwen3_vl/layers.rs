//! The few layers both towers are made of.

use candle_core::{DType, Module as _, Result, Tensor};
use candle_nn::VarBuilder;

/// `x W + b`, the weight as stored: `[out, in]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Loads `weight` and `bias`.
    pub fn with_bias(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get((output, input), "weight")?, bias: Some(vb.get(output, "bias")?) })
    }

    /// Loads `weight` of several layers with the same input, one above the other: one product gives the
    /// outputs of all, side by side.
    pub fn stacked(input: usize, outputs: &[(&str, usize)], vb: &VarBuilder<'_>) -> Result<Self> {
        let weights: Result<Vec<_>> =
            outputs.iter().map(|(name, output)| vb.pp(name).get((*output, input), "weight")).collect();
        Ok(Self { weight: Tensor::cat(&weights?, 0)?, bias: None })
    }

    /// From tensors at hand: `weight` is `[out, in]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = product(x, &self.weight)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
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

/// `x / sqrt(mean(x²) + eps) · w`, computed in f32, the weight applied after the cast back.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Loads `weight`.
    pub fn load(size: usize, eps: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get(size, "weight")?, eps })
    }

    /// Over the last axis.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype() == DType::F32 {
            return candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.eps as f32);
        }
        let wide = x.to_dtype(DType::F32)?;
        let mean = wide.sqr()?.mean_keepdim(candle_core::D::Minus1)?;
        let normed = wide.broadcast_div(&(mean + self.eps)?.sqrt()?)?;
        normed.to_dtype(x.dtype())?.broadcast_mul(&self.weight)
    }
}

/// `(x - mean) / sqrt(var + eps) · w + b`.
#[derive(Debug, Clone)]
pub struct LayerNorm(candle_nn::LayerNorm);

impl LayerNorm {
    /// Epsilon of every LayerNorm of the vision tower.
    const EPS: f64 = 1e-6;

    /// Loads `weight` and `bias`.
    pub fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self(candle_nn::LayerNorm::new(vb.get(size, "weight")?, vb.get(size, "bias")?, Self::EPS)))
    }

    /// Over the last axis.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}
