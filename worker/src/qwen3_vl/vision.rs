//! The vision tower: patches of all images of a batch to visual tokens and deep features.
//!
//! Patches lie in block order: the four patches of a 2x2 block follow each other, blocks row by row.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::attention::{Mask, attention};
use super::config::{PATCH_VALUES, VisionConfig};
use super::layers::{LayerNorm, Linear};
use super::rope::Rope;
use super::trace::Trace;

/// Patches that become one visual token.
const MERGED: usize = 4;

/// The patch grid of an image: height and width, both even.
pub type Grid = (u32, u32);

#[derive(Debug, Clone)]
struct Block {
    norm1: LayerNorm,
    norm2: LayerNorm,
    qkv: Linear,
    proj: Linear,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    fn load(config: &VisionConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            norm1: LayerNorm::load(hidden, &vb.pp("norm1"))?,
            norm2: LayerNorm::load(hidden, &vb.pp("norm2"))?,
            qkv: Linear::with_bias(hidden, 3 * hidden, &vb.pp("attn.qkv"))?,
            proj: Linear::with_bias(hidden, hidden, &vb.pp("attn.proj"))?,
            fc1: Linear::with_bias(hidden, wide, &vb.pp("mlp.linear_fc1"))?,
            fc2: Linear::with_bias(wide, hidden, &vb.pp("mlp.linear_fc2"))?,
        })
    }

    fn forward(&self, x: &Tensor, heads: usize, rope: &Rope, lengths: &[usize]) -> Result<Tensor> {
        let (patches, hidden) = x.dims2()?;
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?.reshape((patches, 3, heads, hidden / heads))?;
        let part = |index| qkv.narrow(1, index, 1)?.squeeze(1);
        let (q, k) = (rope.apply(&part(0)?)?, rope.apply(&part(1)?)?);
        let attended = attention(&q, &k, &part(2)?, lengths, Mask::Full)?;
        let x = (x + self.proj.forward(&attended)?)?;
        // `gelu` is the tanh approximation.
        let mlp = self.fc2.forward(&self.fc1.forward(&self.norm2.forward(&x)?)?.gelu()?)?;
        x + mlp
    }
}

/// Four patches to one visual token.
#[derive(Debug, Clone)]
struct Merger {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    /// Whether the norm runs over the four patches together (deep features) or over each.
    norm_after_merge: bool,
}

impl Merger {
    fn load(config: &VisionConfig, norm_after_merge: bool, vb: &VarBuilder<'_>) -> Result<Self> {
        let merged = MERGED * config.hidden_size;
        let normed = if norm_after_merge { merged } else { config.hidden_size };
        Ok(Self {
            norm: LayerNorm::load(normed, &vb.pp("norm"))?,
            fc1: Linear::with_bias(merged, merged, &vb.pp("linear_fc1"))?,
            fc2: Linear::with_bias(merged, config.out_hidden_size, &vb.pp("linear_fc2"))?,
            norm_after_merge,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (patches, hidden) = x.dims2()?;
        let merged = (patches / MERGED, MERGED * hidden);
        let x = if self.norm_after_merge {
            self.norm.forward(&x.reshape(merged)?)?
        } else {
            self.norm.forward(x)?.reshape(merged)?
        };
        self.fc2.forward(&self.fc1.forward(&x)?.gelu_erf()?)
    }
}

/// What the tower gives for all images of a batch, image by image.
#[derive(Debug, Clone)]
pub struct VisualTokens {
    /// `[tokens, out_hidden]`.
    pub tokens: Tensor,
    /// A deep feature of the same shape for each of the first decoder layers.
    pub deep: Vec<Tensor>,
}

/// The tower.
#[derive(Debug, Clone)]
pub struct VisionTower {
    config: VisionConfig,
    patch_embed: Linear,
    positions: Tensor,
    blocks: Vec<Block>,
    merger: Merger,
    deep_mergers: Vec<Merger>,
    device: Device,
    dtype: DType,
}

impl VisionTower {
    /// Loads the tensors below `visual.`.
    pub fn load(config: &VisionConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let hidden = config.hidden_size;
        let patch = vb.pp("patch_embed.proj");
        // A convolution whose stride is its kernel is a product with the flattened kernel.
        let kernel = patch.get((hidden, 3, 2, 16, 16), "weight")?.reshape((hidden, PATCH_VALUES))?;
        let blocks: Result<Vec<_>> =
            (0..config.depth).map(|index| Block::load(config, &vb.pp(format!("blocks.{index}")))).collect();
        let deep_mergers: Result<Vec<_>> = (0..config.deepstack.len())
            .map(|index| Merger::load(config, true, &vb.pp(format!("deepstack_merger_list.{index}"))))
            .collect();
        Ok(Self {
            patch_embed: Linear::new(kernel, Some(patch.get(hidden, "bias")?)),
            positions: vb.pp("pos_embed").get((config.position_embeddings, hidden), "weight")?,
            blocks: blocks?,
            merger: Merger::load(config, false, &vb.pp("merger"))?,
            deep_mergers: deep_mergers?,
            device: vb.device().clone(),
            dtype: vb.dtype(),
            config: config.clone(),
        })
    }

    /// `pixel_values` is `[patches, 1536]` with the patches of the grids in order.
    pub fn forward(
        &self,
        pixel_values: &Tensor,
        grids: &[Grid],
        trace: &mut dyn Trace,
    ) -> Result<VisualTokens> {
        let places: Vec<(u32, u32)> = grids.iter().flat_map(|grid| places(*grid)).collect();
        let lengths: Vec<usize> = grids.iter().map(|(height, width)| (height * width) as usize).collect();
        let rope = Rope::vision(&places, self.config.head_dim(), self.dtype, &self.device)?;
        let embedded = self.patch_embed.forward(&pixel_values.to_dtype(self.dtype)?)?;
        trace.see("v_patch_embed", &embedded)?;
        let mut x = (embedded + self.learned_positions(grids)?)?;
        trace.see("v_block0_in", &x)?;
        let mut deep = Vec::with_capacity(self.deep_mergers.len());
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, self.config.heads, &rope, &lengths)?;
            trace.see(&format!("v_block{index}"), &x)?;
            if self.config.deepstack.get(deep.len()) == Some(&index) {
                let feature = self.deep_mergers[deep.len()].forward(&x)?;
                trace.see(&format!("v_deepstack{}", deep.len()), &feature)?;
                deep.push(feature);
            }
        }
        let tokens = self.merger.forward(&x)?;
        trace.see("v_merger", &tokens)?;
        Ok(VisualTokens { tokens, deep })
    }

    /// The table of learned positions, drawn out over each grid: bilinear with the corners aligned.
    fn learned_positions(&self, grids: &[Grid]) -> Result<Tensor> {
        let side = self.config.position_side();
        let taps = Taps::of(grids, side);
        let patches = taps.weights[0].len();
        let mut sum: Option<Tensor> = None;
        for (rows, weights) in taps.rows.iter().zip(&taps.weights) {
            let rows = Tensor::from_slice(rows, patches, &self.device)?;
            let weights = Tensor::from_slice(weights, (patches, 1), &self.device)?.to_dtype(self.dtype)?;
            let tap = self.positions.index_select(&rows, 0)?.broadcast_mul(&weights)?;
            sum = Some(match sum {
                Some(sum) => (sum + tap)?,
                None => tap,
            });
        }
        sum.ok_or_else(|| candle_core::Error::Msg("a position has no taps".to_owned()))
    }
}

/// The place of each patch of a grid, in block order.
fn places((height, width): Grid) -> impl Iterator<Item = (u32, u32)> {
    let blocks = (0..height / 2).flat_map(move |row| (0..width / 2).map(move |column| (2 * row, 2 * column)));
    blocks.flat_map(|(row, column)| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| (row + y, column + x)))
}

/// Four rows of the table and their weights for each patch.
struct Taps {
    rows: [Vec<u32>; 4],
    weights: [Vec<f32>; 4],
}

impl Taps {
    fn of(grids: &[Grid], side: usize) -> Self {
        let mut taps = Self { rows: Default::default(), weights: Default::default() };
        for &grid in grids {
            let (rows, columns) = (axis(grid.0, side), axis(grid.1, side));
            for (row, column) in places(grid) {
                let (top, bottom, down) = rows[row as usize];
                let (left, right, across) = columns[column as usize];
                let table = |row: u32, column: u32| row * side as u32 + column;
                let corners = [
                    (table(top, left), (1.0 - down) * (1.0 - across)),
                    (table(top, right), (1.0 - down) * across),
                    (table(bottom, left), down * (1.0 - across)),
                    (table(bottom, right), down * across),
                ];
                for (index, (row, weight)) in corners.into_iter().enumerate() {
                    taps.rows[index].push(row);
                    taps.weights[index].push(weight);
                }
            }
        }
        taps
    }
}

/// For each of `size` places between the first and the last of `side` entries: the entry before, the
/// entry after, and how far between them, computed in f32 from both ends as torch's `linspace` does.
fn axis(size: u32, side: usize) -> Vec<(u32, u32, f32)> {
    let last = (side - 1) as f32;
    let step = if size > 1 { last / (size - 1) as f32 } else { 0.0 };
    (0..size)
        .map(|i| {
            let source = if i < size / 2 { step * i as f32 } else { last - step * (size - 1 - i) as f32 };
            let before = source.floor().clamp(0.0, last);
            (before as u32, (before as u32 + 1).min(side as u32 - 1), source - before)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_lie_block_by_block() {
        let order: Vec<_> = places((2, 4)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
    }

    #[test]
    fn corners_of_the_table_are_aligned_with_corners_of_the_grid() {
        let axis = axis(4, 48);
        assert_eq!(axis[0], (0, 1, 0.0));
        assert_eq!(axis[3], (47, 47, 0.0));
        let (before, after, between) = axis[1];
        assert_eq!((before, after), (15, 16));
        assert!((between - 2.0 / 3.0).abs() < 1e-5);
    }
}
