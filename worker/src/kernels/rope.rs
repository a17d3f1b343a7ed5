//! Rotary embedding of heads that lie side by side in the rows of a matrix. Component `i` of a head
//! turns with component `i + size / 2`.

use candle_core::{Result, Tensor};

use super::norm::rms_norm_twin;

#[cfg(feature = "cuda")]
use super::cuda::{Arg, Gpu, Grid, pick, vector};

/// Cosines and sines, `[rows, head size / 2]` each, in the type computed in.
#[derive(Debug, Clone)]
pub struct Turns {
    /// Cosines.
    pub cos: Tensor,
    /// Sines.
    pub sin: Tensor,
}

/// The heads at the start of each row: `queries`, then `keys`, then whatever is left as it is.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key heads.
    pub keys: usize,
    /// Components of a head.
    pub size: usize,
}

/// RMSNorm of each query and key head with the weights of its kind, then its turn.
pub fn norm_rope(
    x: Tensor,
    heads: Heads,
    query_weight: &Tensor,
    key_weight: &Tensor,
    eps: f64,
    turns: &Turns,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(&x)? {
        let (rows, width) = x.dims2()?;
        let lanes = heads.size / vector(x.dtype());
        if !heads.size.is_multiple_of(vector(x.dtype()))
            || !lanes.is_power_of_two()
            || !(2..=32).contains(&lanes)
        {
            candle_core::bail!("norm_rope cannot take heads of {} values", heads.size);
        }
        let name = pick(x.dtype(), "norm_rope_bf16", "norm_rope_f32")?;
        let args = [
            Arg::Address(gpu.address(&x)?),
            Arg::Address(gpu.address(query_weight)?),
            Arg::Address(gpu.address(key_weight)?),
            Arg::Address(gpu.address(&turns.cos)?),
            Arg::Address(gpu.address(&turns.sin)?),
            Arg::I32(width as i32),
            Arg::I32(heads.queries as i32),
            Arg::I32(heads.keys as i32),
            Arg::I32(heads.size as i32),
            Arg::F32(eps as f32),
        ];
        // A few heads a thread, all of them whole warps.
        let threads = ((heads.queries + heads.keys) * lanes).div_ceil(2).next_multiple_of(32).min(512);
        gpu.launch(name, Grid { blocks: (rows, 1), threads, shared: 0 }, &args)?;
        return Ok(x);
    }
    norm_rope_twin(&x, heads, query_weight, key_weight, eps, turns)
}

/// What [`norm_rope`] means.
pub fn norm_rope_twin(
    x: &Tensor,
    heads: Heads,
    query_weight: &Tensor,
    key_weight: &Tensor,
    eps: f64,
    turns: &Turns,
) -> Result<Tensor> {
    let (queries, keys) = (heads.queries * heads.size, heads.keys * heads.size);
    let mut parts = Vec::with_capacity(3);
    for (first, width, weight) in [(0, queries, query_weight), (queries, keys, key_weight)] {
        if width > 0 {
            let part = split(x, first, width, heads.size)?;
            parts.push(turn(&rms_norm_twin(&part, weight, eps)?, turns)?.flatten_from(1)?);
        }
    }
    join(x, parts, queries + keys)
}

/// The first `count` heads of each row turn.
pub fn rope(x: Tensor, count: usize, size: usize, turns: &Turns) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(&x)? {
        let (rows, width) = x.dims2()?;
        if !size.is_multiple_of(4) {
            candle_core::bail!("rope cannot take heads of {size} values");
        }
        let name = pick(x.dtype(), "rope_bf16", "rope_f32")?;
        let args = [
            Arg::Address(gpu.address(&x)?),
            Arg::Address(gpu.address(&turns.cos)?),
            Arg::Address(gpu.address(&turns.sin)?),
            Arg::I32(width as i32),
            Arg::I32(count as i32),
            Arg::I32(size as i32),
        ];
        gpu.launch(name, Grid { blocks: (rows, 1), threads: 256, shared: 0 }, &args)?;
        return Ok(x);
    }
    rope_twin(&x, count, size, turns)
}

/// What [`rope`] means.
pub fn rope_twin(x: &Tensor, count: usize, size: usize, turns: &Turns) -> Result<Tensor> {
    let turned = turn(&split(x, 0, count * size, size)?, turns)?.flatten_from(1)?;
    join(x, vec![turned], count * size)
}

/// Some columns as `[rows, heads, size]`.
fn split(x: &Tensor, first: usize, width: usize, size: usize) -> Result<Tensor> {
    x.narrow(1, first, width)?.contiguous()?.reshape((x.dim(0)?, width / size, size))
}

fn turn(x: &Tensor, turns: &Turns) -> Result<Tensor> {
    candle_nn::rotary_emb::rope_thd(&x.unsqueeze(0)?, &turns.cos, &turns.sin)?.squeeze(0)
}

/// The parts side by side, with the columns from `first` on as they were.
fn join(x: &Tensor, mut parts: Vec<Tensor>, first: usize) -> Result<Tensor> {
    let rest = x.dim(1)? - first;
    if rest > 0 {
        parts.push(x.narrow(1, first, rest)?);
    }
    Tensor::cat(&parts, 1)
}
