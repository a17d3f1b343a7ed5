//! The text tower: flat tokens of a batch through the decoder layers.

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::attention::{Mask, attention};
use super::config::TextConfig;
use super::layers::{Linear, RmsNorm};
use super::rope::Rope;
use super::trace::Trace;

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

    fn forward(&self, x: &Tensor, config: &TextConfig, rope: &Rope, lengths: &[usize]) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let (heads, kv_heads, head) = (config.heads, config.kv_heads, config.head_dim);
        let qkv = self.qkv.forward(&self.input_norm.forward(x)?)?;
        let part = |first: usize, count: usize| {
            qkv.narrow(1, first * head, count * head)?.contiguous()?.reshape((tokens, count, head))
        };
        let q = rope.apply(&self.q_norm.forward(&part(0, heads)?)?)?;
        let k = rope.apply(&self.k_norm.forward(&part(heads, kv_heads)?)?)?;
        let v = part(heads + kv_heads, kv_heads)?;
        let x = (x + self.output.forward(&attention(&q, &k, &v, lengths, Mask::Causal)?)?)?;
        let gate_up = self.gate_up.forward(&self.post_norm.forward(&x)?)?;
        let wide = config.intermediate_size;
        let gate = gate_up.narrow(1, 0, wide)?.contiguous()?.silu()?;
        let mlp = self.down.forward(&(gate * gate_up.narrow(1, wide, wide)?.contiguous()?)?)?;
        x + mlp
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
        let config = &self.config;
        let rope = Rope::text(
            positions,
            config.rope_theta,
            config.head_dim,
            config.mrope_section,
            self.embeddings.dtype(),
            &self.device,
        )?;
        let places = visual
            .map(|visual| Tensor::from_slice(&visual.places, visual.places.len(), &self.device))
            .transpose()?;
        let mut x = self.embed(token_ids, visual)?;
        trace.see("t_layer0_in", &x)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, config, &rope, lengths)?;
            trace.see(&format!("t_layer{index}"), &x)?;
            let feature = visual.and_then(|visual| visual.deep.get(index));
            if let (Some(feature), Some(places)) = (feature, &places) {
                x = x.index_add(places, feature, 0)?;
            }
        }
        let mut end = 0;
        let last: Vec<u32> = lengths
            .iter()
            .map(|length| {
                end += *length as u32;
                end - 1
            })
            .collect();
        let last = Tensor::from_slice(&last, last.len(), &self.device)?;
        let pooled = self.norm.forward(&x.index_select(&last, 0)?)?;
        trace.see("t_norm", &pooled)?;
        Ok(pooled)
    }

    /// Rows of the table, with the rows at visual places replaced.
    fn embed(&self, token_ids: &[u32], visual: Option<&VisualInput>) -> Result<Tensor> {
        let ids = Tensor::from_slice(token_ids, token_ids.len(), &self.device)?;
        let rows = self.embeddings.index_select(&ids, 0)?;
        let Some(visual) = visual else {
            return Ok(rows);
        };
        // One gather from the text rows with the visual rows below them.
        let mut source: Vec<u32> = (0..token_ids.len() as u32).collect();
        for (index, place) in visual.places.iter().enumerate() {
            source[*place as usize] = (token_ids.len() + index) as u32;
        }
        let source = Tensor::from_slice(&source, source.len(), &self.device)?;
        Tensor::cat(&[&rows, &visual.tokens], 0)?.index_select(&source, 0)
    }
}
