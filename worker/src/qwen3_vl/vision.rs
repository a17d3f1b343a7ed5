//! The vision tower: patches of all images of a batch to visual tokens and deep features.
//!
//! Patches lie in block order: the four patches of a 2x2 block follow each other, blocks row by row.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::config::{PATCH_VALUES, VisionConfig};
use super::layers::{LayerNorm, Linear};
use super::rope;
use super::trace::Trace;
use crate::image::patch_order;
use crate::kernels::activation::gelu_erf;
use crate::kernels::attention::{Attention, HeadColumns, Mask, Segments, Sharing, attention};
use crate::kernels::rope::{Turns, rope as turn};
use crate::kernels::rows::{Taps, add_interpolated};
use crate::kernels::table::Table;

/// Patches that become one visual token.
const MERGED: usize = 4;

/// Sizes that products like.
const ROUND: usize = 64;

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
        // Products of round sizes are a fifth faster; GELU leaves the zeros that are added as they are.
        let padded = wide.next_multiple_of(ROUND);
        Ok(Self {
            norm1: LayerNorm::load(hidden, &vb.pp("norm1"))?,
            norm2: LayerNorm::load(hidden, &vb.pp("norm2"))?,
            qkv: Linear::with_bias(hidden, 3 * hidden, &vb.pp("attn.qkv"))?,
            proj: Linear::with_bias(hidden, hidden, &vb.pp("attn.proj"))?,
            fc1: Linear::with_bias(hidden, wide, &vb.pp("mlp.linear_fc1"))?.pad_outputs(padded)?,
            fc2: Linear::with_bias(wide, hidden, &vb.pp("mlp.linear_fc2"))?.pad_inputs(padded)?,
        })
    }

    fn forward(&self, x: Tensor, heads: usize, turns: &Turns, segments: &Segments) -> Result<Tensor> {
        let hidden = x.dim(1)?;
        let size = hidden / heads;
        let qkv = self.qkv.forward(&self.norm1.forward(&x)?)?;
        let qkv = turn(qkv, 2 * heads, size, turns)?;
        let columns = |index| HeadColumns { matrix: &qkv, first: index * hidden, heads };
        let attended = attention(&Attention { q: columns(0), k: columns(1), v: columns(2), size }, segments)?;
        drop(qkv);
        let x = self.proj.add_to(x, &attended)?;
        let wide = self.fc1.forward_gelu(&self.norm2.forward(&x)?)?;
        self.fc2.add_to(x, &wide)
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
        self.fc2.forward(&gelu_erf(self.fc1.forward(&x)?)?)
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
        let places: Vec<(u32, u32)> =
            grids.iter().flat_map(|(height, width)| patch_order(*height, *width)).collect();
        let lengths: Vec<usize> = grids.iter().map(|(height, width)| (height * width) as usize).collect();
        let turns = rope::vision(&places, self.config.head_dim(), self.dtype, &self.device)?;
        let segments = Segments::new(&lengths, Mask::Full, Sharing::Odd, &self.device)?;
        let x = self.patch_embed.forward(pixel_values)?;
        trace.see("v_patch_embed", &x)?;
        let taps = learned_positions(grids, self.config.position_side(), &self.device)?;
        let mut x = add_interpolated(x, &self.positions, &taps)?;
        trace.see("v_block0_in", &x)?;
        let mut deep = Vec::with_capacity(self.deep_mergers.len());
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, self.config.heads, &turns, &segments)?;
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
}

/// The table of learned positions, drawn out over each grid: bilinear with the corners aligned.
fn learned_positions(grids: &[Grid], side: usize, device: &Device) -> Result<Taps> {
    let (mut rows, mut weights) = (Vec::new(), Vec::new());
    for &(height, width) in grids {
        let (vertical, horizontal) = (axis(height, side), axis(width, side));
        for (row, column) in patch_order(height, width) {
            let (top, bottom, down) = vertical[row as usize];
            let (left, right, across) = horizontal[column as usize];
            let entry = |row: u32, column: u32| (row * side as u32 + column) as i32;
            rows.extend([entry(top, left), entry(top, right), entry(bottom, left), entry(bottom, right)]);
            weights.extend([
                (1.0 - down) * (1.0 - across),
                (1.0 - down) * across,
                down * (1.0 - across),
                down * across,
            ]);
        }
    }
    Ok(Taps { rows: Table::new(rows, device)?, weights: Table::new(weights, device)? })
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
    fn corners_of_the_table_are_aligned_with_corners_of_the_grid() {
        let axis = axis(4, 48);
        assert_eq!(axis[0], (0, 1, 0.0));
        assert_eq!(axis[3], (47, 47, 0.0));
        let (before, after, between) = axis[1];
        assert_eq!((before, after), (15, 16));
        assert!((between - 2.0 / 3.0).abs() < 1e-5);
    }
}
