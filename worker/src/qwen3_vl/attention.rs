//! The one attention function of both towers.
//!
//! `softmax(q kᵀ · scale + mask) v` within each segment of a flat batch; query head `j` reads key and
//! value head `j / (heads / kv_heads)`. Kernels for other devices belong behind this function.

use candle_core::{D, DType, Result, Tensor};

/// Who sees whom inside a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Everybody everybody.
    Full,
    /// Each token itself and those before it.
    Causal,
}

/// Scores held at once, in elements: a long segment is cut into runs of queries.
const SCORES_AT_ONCE: usize = 1 << 24;

/// Attention over segments of `lengths` tokens that lie one after the other.
///
/// `q` is `[tokens, heads, head_dim]`, `k` and `v` are `[tokens, kv_heads, head_dim]`; the answer is
/// `[tokens, heads * head_dim]`. The sum of `lengths` is the number of tokens.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, lengths: &[usize], mask: Mask) -> Result<Tensor> {
    let mut outputs = Vec::with_capacity(lengths.len());
    let mut first = 0;
    for &length in lengths {
        let segment = |x: &Tensor| x.narrow(0, first, length)?.transpose(0, 1)?.contiguous();
        outputs.push(attend(&segment(q)?, &segment(k)?, &segment(v)?, mask)?);
        first += length;
    }
    match outputs.as_slice() {
        [only] => Ok(only.clone()),
        _ => Tensor::cat(&outputs, 0),
    }
}

/// One segment: `q` is `[heads, length, head_dim]`, `k` and `v` `[kv_heads, length, head_dim]`.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Tensor> {
    let (heads, length, head_dim) = q.dims3()?;
    let kv_heads = k.dim(0)?;
    let group = heads / kv_heads;
    let q = q.reshape((kv_heads, group, length, head_dim))?;
    let keys = k.transpose(1, 2)?;
    let run = (SCORES_AT_ONCE / (heads * length).max(1)).clamp(1, length.max(1));
    let mut outputs = Vec::with_capacity(length.div_ceil(run));
    for first in (0..length).step_by(run) {
        let rows = run.min(length - first);
        // Causal queries see no key behind the last of them.
        let seen = if mask == Mask::Causal { first + rows } else { length };
        let queries = q.narrow(2, first, rows)?.contiguous()?.reshape((kv_heads, group * rows, head_dim))?;
        let scores = (queries.matmul(&keys.narrow(2, 0, seen)?)? * (head_dim as f64).powf(-0.5))?;
        let weights = match mask {
            Mask::Full => softmax(&scores)?,
            Mask::Causal => {
                let scores = scores.reshape((kv_heads, group, rows, seen))?;
                let masked = scores.broadcast_add(&causal_mask(first, rows, seen, &scores)?)?;
                softmax(&masked)?.reshape((kv_heads, group * rows, seen))?
            }
        };
        let output = weights.matmul(&v.narrow(1, 0, seen)?.contiguous()?)?;
        outputs.push(
            output.reshape((heads, rows, head_dim))?.transpose(0, 1)?.reshape((rows, heads * head_dim))?,
        );
    }
    match outputs.as_slice() {
        [only] => Ok(only.clone()),
        _ => Tensor::cat(&outputs, 0),
    }
}

/// Softmax over the last axis, in f32 whatever the type of the scores.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax_last_dim(&scores.to_dtype(DType::F32)?)?.to_dtype(scores.dtype())
}

/// `[rows, seen]`: 0 where key `j` may be seen by query `first + i`, else minus infinity.
fn causal_mask(first: usize, rows: usize, seen: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| (0..seen).map(move |key| if key <= first + row { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    debug_assert_eq!(like.dim(D::Minus1)?, seen);
    Tensor::from_vec(values, (rows, seen), like.device())?.to_dtype(like.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn random(tokens: usize, heads: usize) -> Tensor {
        Tensor::randn(0f32, 1f32, (tokens, heads, 8), &Device::Cpu).unwrap()
    }

    fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn segments_do_not_see_each_other() {
        let (q, k, v) = (random(9, 4), random(9, 2), random(9, 2));
        for mask in [Mask::Full, Mask::Causal] {
            let both = attention(&q, &k, &v, &[4, 5], mask).unwrap();
            let part = |x: &Tensor| x.narrow(0, 4, 5).unwrap();
            let alone = attention(&part(&q), &part(&k), &part(&v), &[5], mask).unwrap();
            assert!(max_difference(&part(&both), &alone) < 1e-6);
        }
    }

    #[test]
    fn later_tokens_are_unseen_and_grouped_heads_read_their_own_keys() {
        let (q, k, v) = (random(6, 4), random(6, 2), random(6, 2));
        let whole = attention(&q, &k, &v, &[6], Mask::Causal).unwrap();
        let cut = |x: &Tensor| x.narrow(0, 0, 3).unwrap();
        let shorter = attention(&cut(&q), &cut(&k), &cut(&v), &[3], Mask::Causal).unwrap();
        assert!(max_difference(&cut(&whole), &shorter) < 1e-6);
        // Heads 2 and 3 read key head 1: alone with it they give the same.
        let narrow = |x: &Tensor, first, count| x.narrow(1, first, count).unwrap().contiguous().unwrap();
        let alone =
            attention(&narrow(&q, 2, 2), &narrow(&k, 1, 1), &narrow(&v, 1, 1), &[6], Mask::Causal).unwrap();
        assert!(max_difference(&whole.narrow(1, 16, 16).unwrap(), &alone) < 1e-6);
    }
}
