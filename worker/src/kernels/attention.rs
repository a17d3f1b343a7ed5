//! Attention of both towers: `softmax(q kᵀ · scale + mask) v` within each segment of a flat batch.
//!
//! Query head `j` reads key and value head `j / (query heads / key heads)`. The kernel takes bf16, and
//! heads of 32 or 128 components of which an even number reads the same keys, or of 16, 64 or 72 of
//! which one or another odd number does; anything else is computed by the twin, on any device.

use candle_core::{DType, Device, Result, Tensor};

use super::table::Table;

#[cfg(feature = "cuda")]
use super::cuda::{Arg, Gpu, Grid};

/// Who sees whom inside a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Everybody everybody.
    Full,
    /// Each token itself and those before it.
    Causal,
}

/// Queries and the keys they may see. The last query stands at the last key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    first_query: usize,
    queries: usize,
    first_key: usize,
    keys: usize,
}

/// The segments of a batch, ready for the device.
#[derive(Debug)]
pub struct Segments {
    list: Vec<Segment>,
    mask: Mask,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    sharing: Sharing,
    /// Runs of queries of one segment, five numbers each, as the kernel's `Tile` has them.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    tiles: Table<i32>,
}

/// How many query heads read the same keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One each, or another odd number.
    Odd,
    /// An even number.
    Even,
}

impl Sharing {
    /// For so many heads.
    pub fn of(heads: usize, kv_heads: usize) -> Self {
        if (heads / kv_heads).is_multiple_of(2) { Self::Even } else { Self::Odd }
    }

    /// Heads that a block of the kernel takes together.
    fn heads(self) -> usize {
        match self {
            Self::Odd => 1,
            Self::Even => 2,
        }
    }

    /// Tokens that a block of the kernel takes.
    fn tokens(self) -> usize {
        QUERY_ROWS / self.heads()
    }
}

/// Query rows that a block of the kernel takes.
const QUERY_ROWS: usize = 128;
/// Keys that a block copies at a time.
#[cfg(any(test, feature = "cuda"))]
const KEYS_AT_ONCE: usize = 64;

/// Bytes of shared memory of a block: the queries, and keys and values twice, the ones read and the ones
/// copied. Rows lie as the kernel's `Shape` has them.
#[cfg(any(test, feature = "cuda"))]
fn shared_memory(size: usize) -> usize {
    let padded = size.next_multiple_of(16);
    let row = if padded.is_multiple_of(128) { padded } else { padded + 8 };
    2 * row * (QUERY_ROWS + 4 * KEYS_AT_ONCE)
}

impl Segments {
    /// Segments of `lengths` tokens, one after the other: each token is a query and a key.
    pub fn new(lengths: &[usize], mask: Mask, sharing: Sharing, device: &Device) -> Result<Self> {
        Self::from_lengths(lengths, mask, sharing, |first, length| (first, length), device)
    }

    /// The last token of each segment alone is a query: query `i` is the last token of segment `i`.
    pub fn last_queries(lengths: &[usize], sharing: Sharing, device: &Device) -> Result<Self> {
        let mut index = 0;
        let last = |_, _| {
            index += 1;
            (index - 1, 1)
        };
        Self::from_lengths(lengths, Mask::Causal, sharing, last, device)
    }

    fn from_lengths(
        lengths: &[usize],
        mask: Mask,
        sharing: Sharing,
        mut queries: impl FnMut(usize, usize) -> (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let mut first = 0;
        let list: Vec<Segment> = lengths
            .iter()
            .map(|&keys| {
                let (first_query, queries) = queries(first, keys);
                first += keys;
                Segment { first_query, queries, first_key: first - keys, keys }
            })
            .collect();
        let mut tiles: Vec<[i32; 5]> =
            list.iter().flat_map(|segment| tiles(segment, mask, sharing.tokens())).collect();
        // Long ones first, so that no block is left over at the end.
        tiles.sort_by_key(|tile| std::cmp::Reverse(tile[3]));
        Ok(Self { list, mask, sharing, tiles: Table::new(tiles.concat(), device)? })
    }
}

/// The tiles of a segment: first query row, queries, first key row, keys seen by any of them, and the
/// last key that the first of them sees.
fn tiles(segment: &Segment, mask: Mask, run: usize) -> impl Iterator<Item = [i32; 5]> + use<> {
    let Segment { first_query, queries, first_key, keys } = *segment;
    (0..queries).step_by(run).map(move |first| {
        let rows = run.min(queries - first);
        let last = keys - queries + first;
        let (seen, last) = match mask {
            Mask::Full => (keys, keys),
            Mask::Causal => (last + rows, last),
        };
        [first_query + first, rows, first_key, seen, last].map(|value| value as i32)
    })
}

/// Heads side by side in the columns of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct HeadColumns<'a> {
    /// `[rows, width]`.
    pub matrix: &'a Tensor,
    /// The column of the first head.
    pub first: usize,
    /// Heads.
    pub heads: usize,
}

/// Queries, keys and values with heads of one size.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Queries.
    pub q: HeadColumns<'a>,
    /// Keys, in the same matrix as the values.
    pub k: HeadColumns<'a>,
    /// Values.
    pub v: HeadColumns<'a>,
    /// Components of a head.
    pub size: usize,
}

/// `[queries, query heads · size]`.
pub fn attention(input: &Attention<'_>, segments: &Segments) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of(input.q.matrix)?
        && let Some(name) = kernel(input, segments.sharing)
    {
        return launch(&gpu, name, input, segments);
    }
    attention_twin(input, segments)
}

/// The kernel for these heads, where there is one.
#[cfg(feature = "cuda")]
fn kernel(input: &Attention<'_>, sharing: Sharing) -> Option<&'static str> {
    if input.q.matrix.dtype() != DType::BF16 || sharing != Sharing::of(input.q.heads, input.k.heads) {
        return None;
    }
    match (input.size, sharing) {
        (16, Sharing::Odd) => Some("attention_16"),
        (32, Sharing::Even) => Some("attention_32"),
        (64, Sharing::Odd) => Some("attention_64"),
        (72, Sharing::Odd) => Some("attention_72"),
        (128, Sharing::Even) => Some("attention_128"),
        _ => None,
    }
}

#[cfg(feature = "cuda")]
fn launch(gpu: &Gpu, name: &'static str, input: &Attention<'_>, segments: &Segments) -> Result<Tensor> {
    let Attention { q, k, v, size } = *input;
    let queries = q.matrix.dim(0)?;
    let out = gpu.empty((queries, q.heads * size), DType::BF16)?;
    let column = |columns: HeadColumns<'_>| {
        Ok::<_, candle_core::Error>(Arg::Address(gpu.address(columns.matrix)? + 2 * columns.first as u64))
    };
    let width =
        |columns: HeadColumns<'_>| Ok::<_, candle_core::Error>(Arg::I32(columns.matrix.dim(1)? as i32));
    let scale = (size as f64).powf(-0.5) * std::f64::consts::LOG2_E;
    let args = [
        column(q)?,
        column(k)?,
        column(v)?,
        Arg::Address(gpu.address(&out)?),
        Arg::Address(segments.tiles.address(gpu)?),
        Arg::I32(q.heads as i32),
        Arg::I32((q.heads / k.heads) as i32),
        width(q)?,
        width(k)?,
        Arg::I32((q.heads * size) as i32),
        Arg::F32(scale as f32),
    ];
    let tiles = segments.tiles.values().len() / 5;
    let grid = Grid {
        blocks: (tiles * q.heads / segments.sharing.heads(), 1),
        threads: 128,
        shared: shared_memory(size),
    };
    gpu.launch(name, grid, &args)?;
    Ok(out)
}

/// Scores held at once, in elements: a long segment is cut into runs of queries.
const SCORES_AT_ONCE: usize = 1 << 24;

/// What [`attention`] means.
pub fn attention_twin(input: &Attention<'_>, segments: &Segments) -> Result<Tensor> {
    let rows = |columns: HeadColumns<'_>, first: usize, count: usize| {
        columns
            .matrix
            .narrow(0, first, count)?
            .narrow(1, columns.first, columns.heads * input.size)?
            .contiguous()?
            .reshape((count, columns.heads, input.size))?
            .transpose(0, 1)?
            .contiguous()?
            .to_dtype(DType::F32)
    };
    let mut outputs = Vec::with_capacity(segments.list.len());
    for segment in &segments.list {
        let Segment { first_query, queries, first_key, keys } = *segment;
        let (k, v) = (rows(input.k, first_key, keys)?, rows(input.v, first_key, keys)?);
        outputs.push(attend(&rows(input.q, first_query, queries)?, &k, &v, segments.mask)?);
    }
    let outputs = match outputs.as_slice() {
        [only] => only.clone(),
        _ => Tensor::cat(&outputs, 0)?,
    };
    outputs.to_dtype(input.q.matrix.dtype())
}

/// One segment in f32: `q` is `[heads, queries, size]`, `k` and `v` `[kv_heads, keys, size]`.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Tensor> {
    let (heads, length, head_dim) = q.dims3()?;
    let (kv_heads, keys, _) = k.dims3()?;
    let group = heads / kv_heads;
    let q = q.reshape((kv_heads, group, length, head_dim))?;
    let transposed = k.transpose(1, 2)?;
    let run = (SCORES_AT_ONCE / (heads * keys).max(1)).clamp(1, length.max(1));
    let mut outputs = Vec::with_capacity(length.div_ceil(run));
    for first in (0..length).step_by(run) {
        let rows = run.min(length - first);
        let before = keys - length + first;
        // Causal queries see no key behind the last of them.
        let seen = if mask == Mask::Causal { before + rows } else { keys };
        let queries = q.narrow(2, first, rows)?.contiguous()?.reshape((kv_heads, group * rows, head_dim))?;
        let scores = (queries.matmul(&transposed.narrow(2, 0, seen)?)? * (head_dim as f64).powf(-0.5))?;
        let weights = match mask {
            Mask::Full => candle_nn::ops::softmax_last_dim(&scores)?,
            Mask::Causal => {
                let scores = scores.reshape((kv_heads, group, rows, seen))?;
                let masked = scores.broadcast_add(&causal_mask(before, rows, seen, scores.device())?)?;
                candle_nn::ops::softmax_last_dim(&masked)?.reshape((kv_heads, group * rows, seen))?
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

/// `[rows, seen]`: 0 where key `j` may be seen by query `first + i`, else minus infinity.
fn causal_mask(first: usize, rows: usize, seen: usize, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| (0..seen).map(move |key| if key <= first + row { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Tensor::from_vec(values, (rows, seen), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 8;

    fn random(rows: usize, heads: usize) -> Tensor {
        Tensor::randn(0f32, 1f32, (rows, heads * SIZE), &Device::Cpu).unwrap()
    }

    /// Heads of separate matrices.
    fn attend(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Tensor {
        let heads = |matrix| HeadColumns { matrix, first: 0, heads: matrix.dim(1).unwrap() / SIZE };
        attention(&Attention { q: heads(q), k: heads(k), v: heads(v), size: SIZE }, segments).unwrap()
    }

    fn segments(lengths: &[usize], mask: Mask) -> Segments {
        Segments::new(lengths, mask, Sharing::Even, &Device::Cpu).unwrap()
    }

    fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn segments_do_not_see_each_other() {
        let (q, k, v) = (random(9, 4), random(9, 2), random(9, 2));
        for mask in [Mask::Full, Mask::Causal] {
            let both = attend(&q, &k, &v, &segments(&[4, 5], mask));
            let part = |x: &Tensor| x.narrow(0, 4, 5).unwrap();
            let alone = attend(&part(&q), &part(&k), &part(&v), &segments(&[5], mask));
            assert!(max_difference(&part(&both), &alone) < 1e-6);
        }
    }

    #[test]
    fn later_tokens_are_unseen_and_grouped_heads_read_their_own_keys() {
        let (q, k, v) = (random(6, 4), random(6, 2), random(6, 2));
        let whole = attend(&q, &k, &v, &segments(&[6], Mask::Causal));
        let cut = |x: &Tensor| x.narrow(0, 0, 3).unwrap();
        let shorter = attend(&cut(&q), &cut(&k), &cut(&v), &segments(&[3], Mask::Causal));
        assert!(max_difference(&cut(&whole), &shorter) < 1e-6);
        // Heads 2 and 3 read key head 1: alone with it they give the same.
        let narrow = |x: &Tensor, first, count| x.narrow(1, first * SIZE, count * SIZE).unwrap();
        let alone =
            attend(&narrow(&q, 2, 2), &narrow(&k, 1, 1), &narrow(&v, 1, 1), &segments(&[6], Mask::Causal));
        assert!(max_difference(&narrow(&whole, 2, 2), &alone) < 1e-6);
    }

    #[test]
    fn the_last_queries_alone_give_what_they_give_among_all() {
        let lengths = [4, 1, 7];
        let (q, k, v) = (random(12, 4), random(12, 2), random(12, 2));
        let all = attend(&q, &k, &v, &segments(&lengths, Mask::Causal));
        let last = Tensor::new(&[3u32, 4, 11], &Device::Cpu).unwrap();
        let pick = |x: &Tensor| x.index_select(&last, 0).unwrap();
        let alone = attend(
            &pick(&q),
            &k,
            &v,
            &Segments::last_queries(&lengths, Sharing::Even, &Device::Cpu).unwrap(),
        );
        assert!(max_difference(&pick(&all), &alone) < 1e-6);
    }

    #[test]
    fn a_block_fits_every_card_of_capability_8_0_and_up() {
        // 99 KiB: what a block may have on capability 8.6, 8.9 and 12.0; others give more.
        for size in [16, 32, 64, 72, 128] {
            assert!(shared_memory(size) <= 99 << 10, "{size}: {}", shared_memory(size));
        }
    }

    #[test]
    fn tiles_cover_each_query_once_and_see_what_its_mask_says() {
        let tiles_of = |mask| segments(&[65, 64, 1], mask).tiles.values().to_vec();
        let causal = [[0, 64, 0, 64, 0], [64, 1, 0, 65, 64], [65, 64, 65, 64, 0], [129, 1, 129, 1, 0]];
        let mut found: Vec<Vec<i32>> = tiles_of(Mask::Causal).chunks(5).map(<[i32]>::to_vec).collect();
        found.sort_unstable();
        assert_eq!(found, causal);
        let full = tiles_of(Mask::Full);
        assert_eq!(&full[..10], [0, 64, 0, 65, 65, 64, 1, 0, 65, 65], "the longest come first");
        let own = Segments::new(&[129], Mask::Full, Sharing::Odd, &Device::Cpu).unwrap();
        assert_eq!(own.tiles.values(), [0, 128, 0, 129, 129, 128, 1, 0, 129, 129]);
        let last = Segments::last_queries(&[65, 3], Sharing::Even, &Device::Cpu).unwrap();
        assert_eq!(last.tiles.values(), [0, 1, 0, 65, 64, 1, 1, 65, 3, 2]);
    }
}
