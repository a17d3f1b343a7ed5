//! Qwen3-VL-Embedding on candle, 2B and 8B: one model for every device.
//!
//! Tokens and patches of a batch lie flat, one after the other, without padding; attention runs
//! within the segments of each item. The operations are [`crate::kernels`]. What an item becomes follows the reference
//! implementation of the model (Apache-2.0) number for number; the deviation is that vectors are
//! converted to f32 before they are normalised.
//!
//! | module | what lies there |
//! |---|---|
//! | [`config`] | `config.json` of both generations of transformers |
//! | [`checkpoint`] | the tensors a checkpoint must have, checked by headers alone |
//! | [`layers`] | a weight and the operation it belongs to |
//! | [`rope`] | the angles each token and patch turns by |
//! | [`vision`] | patches to visual tokens and deep features |
//! | [`text`] | tokens to the pooled hidden state |
//! | [`model`] | both towers, and the batch that goes through them |
//! | [`started`] | a batch on its way: launched, waited for, normalised |
//! | [`budget`] | how much a batch may hold on a device |
//! | [`embedder`] | the model as an [`crate::embedder::Embedder`] |

pub mod budget;
pub mod checkpoint;
pub mod config;
pub mod embedder;
pub mod layers;
pub mod model;
pub mod rope;
pub mod started;
pub mod text;
pub mod trace;
pub mod vision;

pub use checkpoint::CheckpointError;
pub use config::{Config, ConfigError};
pub use embedder::{LoadError, QwenEmbedder};
pub use model::{ModelInput, Qwen3Vl};
