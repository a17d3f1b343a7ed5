//! Looking at tensors on the way through the model: to find where two computations part.

use candle_core::{Result, Tensor};

/// Sees the tensors a forward pass makes, by name: `v_patch_embed`, `v_block0_in`, `v_block{i}`,
/// `v_deepstack{i}`, `v_merger`, `t_layer0_in`, `t_layer{i}` (before a deep feature is added), `t_norm`.
/// The last layer and the norm after it give the last token of each item alone. What comes next may be
/// written over a tensor that was seen: whoever keeps one keeps a copy.
pub trait Trace {
    /// One tensor.
    fn see(&mut self, name: &str, tensor: &Tensor) -> Result<()>;
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    fn see(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }
}
