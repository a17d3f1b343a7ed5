//! The shapes of Qwen3-VL-Embedding: figures of the published configurations.

use std::fmt;
use std::str::FromStr;

use crate::qwen3_vl::Config;
use crate::qwen3_vl::config::{TextConfig, VisionConfig};

/// A model's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Qwen3-VL-Embedding-8B.
    Large,
    /// Qwen3-VL-Embedding-2B.
    Small,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "8b" => Ok(Self::Large),
            "2b" => Ok(Self::Small),
            _ => Err("8b or 2b".to_owned()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Large => "8b",
            Self::Small => "2b",
        })
    }
}

impl Shape {
    /// The configuration.
    pub fn config(self) -> Config {
        let large = self == Self::Large;
        let pick = |eight: usize, two: usize| if large { eight } else { two };
        Config {
            text: TextConfig {
                vocab_size: 151_936,
                hidden_size: pick(4096, 2048),
                intermediate_size: pick(12_288, 6144),
                layers: pick(36, 28),
                heads: pick(32, 16),
                kv_heads: 8,
                head_dim: 128,
                rms_norm_eps: 1e-6,
                rope_theta: 5e6,
                mrope_section: [24, 20, 20],
            },
            vision: VisionConfig {
                depth: pick(27, 24),
                hidden_size: pick(1152, 1024),
                intermediate_size: pick(4304, 4096),
                heads: 16,
                out_hidden_size: pick(4096, 2048),
                position_embeddings: 2304,
                deepstack: if large { vec![8, 16, 24] } else { vec![5, 11, 17] },
            },
            image_token_id: 151_655,
        }
    }

    /// The configuration with fewer layers and a small vocabulary: the same layer shapes at a size that a
    /// CPU can check. The image token is the last of the vocabulary.
    pub fn shallow(self, layers: usize) -> Config {
        let mut config = self.config();
        config.text.layers = layers;
        config.text.vocab_size = 2048;
        config.vision.depth = layers;
        config.vision.deepstack = (0..layers - 1).collect();
        config.image_token_id = 2047;
        config
    }
}
