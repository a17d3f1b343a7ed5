//! The few layers both towers are made of: a weight and the operation it belongs to.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::kernels::linear::{After, linear, linear_add};
use crate::kernels::norm;

/// `x Wᵀ + b`, the weight as stored: `[out, in]`.
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

    /// With outputs that are always zero added, up to `outputs` in all.
    pub fn pad_outputs(self, outputs: usize) -> Result<Self> {
        let more = outputs - self.weight.dim(0)?;
        let pad = |tensor: Tensor| tensor.pad_with_zeros(0, 0, more)?.contiguous();
        Ok(Self { weight: pad(self.weight)?, bias: self.bias.map(pad).transpose()? })
    }

    /// With inputs that change nothing added, up to `inputs` in all.
    pub fn pad_inputs(self, inputs: usize) -> Result<Self> {
        let more = inputs - self.weight.dim(1)?;
        Ok(Self { weight: self.weight.pad_with_zeros(1, 0, more)?.contiguous()?, bias: self.bias })
    }

    /// Some of the outputs alone; the weight is shared.
    pub fn outputs(&self, first: usize, count: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, first, count)).transpose()?;
        Ok(Self { weight: self.weight.narrow(0, first, count)?, bias })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref().map_or(After::Nothing, After::Bias))
    }

    /// The product with GELU, the tanh approximation, applied.
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => linear(x, &self.weight, After::BiasGelu(bias)),
            None => linear(x, &self.weight, After::Nothing)?.gelu(),
        }
    }

    /// `residual` plus the product.
    pub fn add_to(&self, residual: Tensor, x: &Tensor) -> Result<Tensor> {
        linear_add(residual, x, &self.weight, self.bias.as_ref())
    }
}

/// RMSNorm with its weight.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// The weight.
    pub weight: Tensor,
    /// Added to the mean of the squares.
    pub eps: f64,
}

impl RmsNorm {
    /// Loads `weight`.
    pub fn load(size: usize, eps: f64, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get(size, "weight")?, eps })
    }

    /// Over the rows of a matrix.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        norm::rms_norm(x, &self.weight, self.eps)
    }
}

/// LayerNorm with its weight and bias.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Epsilon of every LayerNorm of the vision tower.
    const EPS: f64 = 1e-6;

    /// Loads `weight` and `bias`.
    pub fn load(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get(size, "weight")?, bias: vb.get(size, "bias")? })
    }

    /// Over the rows of a matrix.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        norm::layer_norm(x, &self.weight, &self.bias, Self::EPS)
    }
}
