//! The text tower: flat tokens of a batch through the decoder layers.

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::config::TextConfig;
use super::layers::{Linear, RmsNorm};
use super::rope;
use super::trace::Trace;
use crate::kernels::activation::silu_mul;
use crate::kernels::attention::{Attention, HeadColumns, Mask, Segments, Sharing, attention};
use crate::kernels::rope::{Heads, Turns, norm_rope};
use crate::kernels::rows::{add_rows, gather_rows};
use crate::kernels::table::Table;

#[derive(Debug, Clone)]
struct Layer {
    input_norm: RmsNorm,
    qkv: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    output: Linear,
    post_norm: RmsNorm,
    gate_up: Linear,
    down: Linear,
}

impl Layer {
    fn load(config: &TextConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, head, eps) = (config.hidden_size, config.head_dim, config.rms_norm_eps);
        let (queries, keys) = (config.heads * head, config.kv_heads * head);
        let attention = vb.pp("self_attn");
        let mlp = vb.pp("mlp");
        let outputs = [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)];
        let wide = config.intermediate_size;
        Ok(Self {
            input_norm: RmsNorm::load(hidden, eps, &vb.pp("input_layernorm"))?,
            qkv: Linear::stacked(hidden, &outputs, &attention)?,
            q_norm: RmsNorm::load(head, eps, &attention.pp("q_norm"))?,
            k_norm: RmsNorm::load(head, eps, &attention.pp("k_norm"))?,
            output: Linear::stacked(queries, &[("o_proj", hidden)], &attention)?,
            post_norm: RmsNorm::load(hidden, eps, &vb.pp("post_attention_layernorm"))?,
            gate_up: Linear::stacked(hidden, &[("gate_proj", wide), ("up_proj", wide)], &mlp)?,
            down: Linear::stacked(wide, &[("down_proj", hidden)], &mlp)?,
        })
    }

    /// All tokens of a batch.
    fn forward(&self, x: Tensor, config: &TextConfig, turns: &Turns, segments: &Segments) -> Result<Tensor> {
        let (heads, kv_heads, size) = (config.heads, config.kv_heads, config.head_dim);
        let qkv = self.qkv.forward(&self.input_norm.forward(&x)?)?;
        let qkv = self.norm_rope(qkv, Heads { queries: heads, keys: kv_heads, size }, turns)?;
        let columns = |first: usize, heads| HeadColumns { matrix: &qkv, first: first * size, heads };
        let attended = attention(
            &Attention {
                q: columns(0, heads),
                k: columns(heads, kv_heads),
                v: columns(heads + kv_heads, kv_heads),
                size,
            },
            segments,
        )?;
        drop(qkv);
        self.mlp(self.output.add_to(x, &attended)?)
    }

    /// The last token of each segment alone: of the others, only keys and values matter.
    fn forward_last(&self, x: &Tensor, config: &TextConfig, turns: &Turns, last: &Last) -> Result<Tensor> {
        let (heads, kv_heads, size) = (config.heads, config.kv_heads, config.head_dim);
        let normed = self.input_norm.forward(x)?;
        let kv = self.qkv.outputs(heads * size, 2 * kv_heads * size)?.forward(&normed)?;
        let kv = self.norm_rope(kv, Heads { queries: 0, keys: kv_heads, size }, turns)?;
        let q = self.qkv.outputs(0, heads * size)?.forward(&gather_rows(&normed, None, &last.rows)?)?;
        let q = self.norm_rope(q, Heads { queries: heads, keys: 0, size }, &last.turns)?;
        let columns = |first: usize| HeadColumns { matrix: &kv, first: first * size, heads: kv_heads };
        let attended = attention(
            &Attention {
                q: HeadColumns { matrix: &q, first: 0, heads },
                k: columns(0),
                v: columns(kv_heads),
                size,
            },
            &last.segments,
        )?;
        self.mlp(self.output.add_to(gather_rows(x, None, &last.rows)?, &attended)?)
    }

    fn norm_rope(&self, x: Tensor, heads: Heads, turns: &Turns) -> Result<Tensor> {
        norm_rope(x, heads, &self.q_norm.weight, &self.k_norm.weight, self.q_norm.eps, turns)
    }

    fn mlp(&self, x: Tensor) -> Result<Tensor> {
        let gate_up = self.gate_up.forward(&self.post_norm.forward(&x)?)?;
        self.down.add_to(x, &silu_mul(&gate_up)?)
    }
}

/// The last tokens of the segments of a batch.
struct Last {
    rows: Table<i32>,
    turns: Turns,
    segments: Segments,
}

impl Last {
    fn of(lengths: &[usize], turns: &Turns, sharing: Sharing, device: &Device) -> Result<Self> {
        let ends = lengths.iter().scan(0, |end, length| {
            *end += *length as i32;
            Some(*end - 1)
        });
        let rows = Table::new(ends.collect(), device)?;
        Ok(Self {
            turns: Turns {
                cos: gather_rows(&turns.cos, None, &rows)?,
                sin: gather_rows(&turns.sin, None, &rows)?,
            },
            segments: Segments::last_queries(lengths, sharing, device)?,
            rows,
        })
    }
}

/// The tower.
#[derive(Debug, Clone)]
pub struct TextTower {
    config: TextConfig,
    embeddings: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    device: Device,
}

/// Where visual tokens go, and what is added to them after the first layers.
#[derive(Debug, Clone)]
pub struct VisualInput {
    /// `[visual tokens, hidden]`.
    pub tokens: Tensor,
    /// Deep features of the same shape.
    pub deep: Vec<Tensor>,
    /// The place of each visual token among the tokens of the batch, ascending.
    pub places: Vec<u32>,
}

impl TextTower {
    /// Loads the tensors below `language_model.`.
    pub fn load(config: &TextConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let layers: Result<Vec<_>> =
            (0..config.layers).map(|index| Layer::load(config, &vb.pp(format!("layers.{index}")))).collect();
        Ok(Self {
            embeddings: vb.pp("embed_tokens").get((config.vocab_size, config.hidden_size), "weight")?,
            layers: layers?,
            norm: RmsNorm::load(config.hidden_size, config.rms_norm_eps, &vb.pp("norm"))?,
            device: vb.device().clone(),
            config: config.clone(),
        })
    }

    /// Hidden states after the last layer and norm, `[segments, hidden]`: the last token of each segment.
    ///
    /// `token_ids` are the tokens of all segments in order, `positions` their three counters.
    pub fn forward(
        &self,
        token_ids: &[u32],
        positions: &[Vec<u32>; 3],
        lengths: &[usize],
        visual: Option<&VisualInput>,
        trace: &mut dyn Trace,
    ) -> Result<Tensor> {
        let (config, device) = (&self.config, &self.device);
        let dtype = self.embeddings.dtype();
        let turns =
            rope::text(positions, config.rope_theta, config.head_dim, config.mrope_section, dtype, device)?;
        let sharing = Sharing::of(config.heads, config.kv_heads);
        let segments = Segments::new(lengths, Mask::Causal, sharing, device)?;
        let last = Last::of(lengths, &turns, sharing, device)?;
        let places = visual
            .map(|visual| Table::new(visual.places.iter().map(|place| *place as i32).collect(), device));
        let places = places.transpose()?;
        let mut x = self.embed(token_ids, visual)?;
        trace.see("t_layer0_in", &x)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = if index + 1 < self.layers.len() {
                layer.forward(x, config, &turns, &segments)?
            } else {
                layer.forward_last(&x, config, &turns, &last)?
            };
            trace.see(&format!("t_layer{index}"), &x)?;
            let feature = visual.and_then(|visual| visual.deep.get(index));
            if let (Some(feature), Some(places)) = (feature, &places) {
                x = add_rows(x, feature, places)?;
            }
        }
        let pooled = self.norm.forward(&x)?;
        trace.see("t_norm", &pooled)?;
        Ok(pooled)
    }

    /// Rows of the table, with the rows at visual places replaced.
    fn embed(&self, token_ids: &[u32], visual: Option<&VisualInput>) -> Result<Tensor> {
        if let Some(id) = token_ids.iter().find(|id| **id as usize >= self.config.vocab_size) {
            candle_core::bail!("token {id} is none of the model's {}", self.config.vocab_size);
        }
        let mut source: Vec<i32> = token_ids.iter().map(|id| *id as i32).collect();
        if let Some(visual) = visual {
            for (index, place) in visual.places.iter().enumerate() {
                source[*place as usize] = -(index as i32) - 1;
            }
        }
        let source = Table::new(source, &self.device)?;
        gather_rows(&self.embeddings, visual.map(|visual| &visual.tokens), &source)
    }
}
