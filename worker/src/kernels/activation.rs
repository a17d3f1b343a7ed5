//! Activations.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::{Arg, Gpu, Grid, pick, vector};

/// Threads of a block where a thread takes one vector.
#[cfg(feature = "cuda")]
const THREADS: usize = 256;

/// `silu(gate) · up` of `[rows, 2 · size]`, where a row is the gates and then the ups.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(gate_up)? {
        let (rows, width) = gate_up.dims2()?;
        let (size, step) = (width / 2, vector(gate_up.dtype()));
        if !size.is_multiple_of(step) {
            candle_core::bail!("silu_mul cannot take rows of 2 x {size} values");
        }
        let y = gpu.empty((rows, size), gate_up.dtype())?;
        let name = pick(gate_up.dtype(), "silu_mul_bf16", "silu_mul_f32")?;
        let grid = Grid { blocks: (rows, (size / step).div_ceil(THREADS)), threads: THREADS, shared: 0 };
        let args =
            [Arg::Address(gpu.address(gate_up)?), Arg::Address(gpu.address(&y)?), Arg::I32(size as i32)];
        gpu.launch(name, grid, &args)?;
        return Ok(y);
    }
    silu_mul_twin(gate_up)
}

/// What [`silu_mul`] means.
pub fn silu_mul_twin(gate_up: &Tensor) -> Result<Tensor> {
    let size = gate_up.dim(1)? / 2;
    let gate = gate_up.narrow(1, 0, size)?.contiguous()?.silu()?;
    gate * gate_up.narrow(1, size, size)?.contiguous()?
}

/// `x (1 + erf(x / √2)) / 2`.
pub fn gelu_erf(x: Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(&x)? {
        let step = vector(x.dtype());
        if !x.elem_count().is_multiple_of(step) {
            candle_core::bail!("gelu_erf cannot take {} values", x.elem_count());
        }
        let vectors = x.elem_count() / step;
        let name = pick(x.dtype(), "gelu_erf_bf16", "gelu_erf_f32")?;
        let grid = Grid { blocks: (vectors.div_ceil(THREADS), 1), threads: THREADS, shared: 0 };
        gpu.launch(name, grid, &[Arg::Address(gpu.address(&x)?), Arg::I64(vectors as i64)])?;
        return Ok(x);
    }
    gelu_erf_twin(&x)
}

/// What [`gelu_erf`] means.
pub fn gelu_erf_twin(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}
