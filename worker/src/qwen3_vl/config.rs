//! `config.json`, as transformers 4.57 and 5 write it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The text tower.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Components of a hidden state.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Components of a head; even.
    pub head_dim: usize,
    /// Epsilon of every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Frequencies that turn with time, height and width; they sum to half a head.
    pub mrope_section: [usize; 3],
}

/// The vision tower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Components of a patch's hidden state.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Heads; divides `hidden_size`.
    pub heads: usize,
    /// Components of a visual token: the text tower's hidden size.
    pub out_hidden_size: usize,
    /// Rows of the table of learned positions; a square number.
    pub position_embeddings: usize,
    /// Blocks after which a deep feature is taken, ascending.
    pub deepstack: Vec<usize>,
}

impl VisionConfig {
    /// Components of a head; divisible by 4.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// Rows and columns of the table of learned positions.
    pub fn position_side(&self) -> usize {
        self.position_embeddings.isqrt()
    }
}

/// Both towers and the token that stands for a visual token.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The text tower.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// The id whose rows are replaced by visual tokens.
    pub image_token_id: u32,
}

/// Values of one patch row: 3 channels, 2 frames, 16 x 16 pixels.
pub const PATCH_VALUES: usize = 3 * 2 * 16 * 16;

/// The largest `config.json` read: real ones have 2 kB.
const LARGEST_FILE: u64 = 1 << 20;

/// The most layers or blocks of a tower, some thirty times a real one's: names and shapes of all of them
/// are listed before a weight is read.
const MOST_LAYERS: usize = 1024;

/// The largest width, count of heads or table of positions, a hundred times a real one. The product of two
/// stays far from what 64 bits hold.
const LARGEST_WIDTH: usize = 1 << 20;

/// The most rows of the embedding table, a hundred times a real one's.
const LARGEST_VOCABULARY: usize = 1 << 24;

/// `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not the JSON of a Qwen3-VL model.
    #[error("{} is not the configuration of a Qwen3-VL model", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A field has a value this code cannot compute with.
    #[error("{}: {field} {rule}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: String,
    },
}

#[derive(Deserialize)]
struct RawConfig {
    text_config: RawText,
    vision_config: RawVision,
    image_token_id: u32,
}

#[derive(Deserialize)]
struct RawText {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    rms_norm_eps: f64,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
}

#[derive(Deserialize)]
struct RawRope {
    rope_theta: Option<f64>,
    mrope_section: Option<Vec<usize>>,
    mrope_interleaved: Option<bool>,
}

#[derive(Deserialize)]
struct RawVision {
    depth: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_heads: usize,
    out_hidden_size: usize,
    num_position_embeddings: usize,
    deepstack_visual_indexes: Vec<usize>,
    patch_size: usize,
    temporal_patch_size: usize,
    spatial_merge_size: usize,
    in_channels: usize,
    hidden_act: Option<String>,
}

impl Config {
    /// Reads `config.json` of a model folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST_FILE {
            let rule = format!("is larger than {LARGEST_FILE} bytes");
            return Err(ConfigError::Value { path: path.to_owned(), field: "the file", rule });
        }
        Self::parse(&bytes, path)
    }

    /// Reads the bytes of `config.json`; `path` is for messages.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = serde_json::from_slice(bytes)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        let wrong = |field, rule: String| ConfigError::Value { path: path.to_owned(), field, rule };
        let config = Self {
            text: text(raw.text_config, &wrong)?,
            vision: vision(raw.vision_config, &wrong)?,
            image_token_id: raw.image_token_id,
        };
        if config.vision.out_hidden_size != config.text.hidden_size {
            return Err(wrong(
                "vision_config.out_hidden_size",
                "must equal text_config.hidden_size".to_owned(),
            ));
        }
        if config.vision.deepstack.len() >= config.text.layers {
            return Err(wrong(
                "vision_config.deepstack_visual_indexes",
                "must have fewer entries than there are layers".to_owned(),
            ));
        }
        Ok(config)
    }
}

fn text(
    raw: RawText,
    wrong: &impl Fn(&'static str, String) -> ConfigError,
) -> Result<TextConfig, ConfigError> {
    // transformers 5 moved both into `rope_parameters`.
    let rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
    let theta = rope.and_then(|rope| rope.rope_theta).or(raw.rope_theta);
    let rope_theta = theta
        .filter(|theta| theta.is_finite() && *theta > 1.0)
        .ok_or_else(|| wrong("text_config.rope_theta", "must be a number above 1".to_owned()))?;
    if rope.is_some_and(|rope| rope.mrope_interleaved == Some(false)) {
        return Err(wrong("text_config.rope_scaling.mrope_interleaved", "must be true".to_owned()));
    }
    let section: [usize; 3] = rope
        .and_then(|rope| rope.mrope_section.clone())
        .and_then(|section| section.try_into().ok())
        .ok_or_else(|| wrong("text_config.rope_scaling.mrope_section", "must be three numbers".to_owned()))?;
    for (field, value, most) in [
        ("text_config.vocab_size", raw.vocab_size, LARGEST_VOCABULARY),
        ("text_config.hidden_size", raw.hidden_size, LARGEST_WIDTH),
        ("text_config.intermediate_size", raw.intermediate_size, LARGEST_WIDTH),
        ("text_config.num_hidden_layers", raw.num_hidden_layers, MOST_LAYERS),
        ("text_config.num_attention_heads", raw.num_attention_heads, LARGEST_WIDTH),
        ("text_config.num_key_value_heads", raw.num_key_value_heads, LARGEST_WIDTH),
        ("text_config.head_dim", raw.head_dim, LARGEST_WIDTH),
    ] {
        check_size(field, value, most, wrong)?;
    }
    if section.iter().any(|frequencies| *frequencies > LARGEST_WIDTH)
        || !raw.head_dim.is_multiple_of(2)
        || section.iter().sum::<usize>() != raw.head_dim / 2
    {
        return Err(wrong(
            "text_config.head_dim",
            format!("is {} and must be even and twice the sum of mrope_section", raw.head_dim),
        ));
    }
    if !raw.num_attention_heads.is_multiple_of(raw.num_key_value_heads) {
        return Err(wrong("text_config.num_key_value_heads", "must divide num_attention_heads".to_owned()));
    }
    if raw.hidden_act.as_deref().unwrap_or("silu") != "silu" {
        return Err(wrong("text_config.hidden_act", "must be silu".to_owned()));
    }
    if raw.attention_bias == Some(true) {
        return Err(wrong("text_config.attention_bias", "must be false".to_owned()));
    }
    if !(raw.rms_norm_eps.is_finite() && raw.rms_norm_eps > 0.0) {
        return Err(wrong("text_config.rms_norm_eps", "must be a number above 0".to_owned()));
    }
    Ok(TextConfig {
        vocab_size: raw.vocab_size,
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        layers: raw.num_hidden_layers,
        heads: raw.num_attention_heads,
        kv_heads: raw.num_key_value_heads,
        head_dim: raw.head_dim,
        rms_norm_eps: raw.rms_norm_eps,
        rope_theta,
        mrope_section: section,
    })
}

/// A size from 1 to the most that is sane.
fn check_size(
    field: &'static str,
    value: usize,
    most: usize,
    wrong: &impl Fn(&'static str, String) -> ConfigError,
) -> Result<(), ConfigError> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(wrong(field, format!("is {value} and must be 1 to {most}")))
}

fn vision(
    raw: RawVision,
    wrong: &impl Fn(&'static str, String) -> ConfigError,
) -> Result<VisionConfig, ConfigError> {
    for (field, value, expected) in [
        ("vision_config.patch_size", raw.patch_size, 16),
        ("vision_config.temporal_patch_size", raw.temporal_patch_size, 2),
        ("vision_config.spatial_merge_size", raw.spatial_merge_size, 2),
        ("vision_config.in_channels", raw.in_channels, 3),
    ] {
        if value != expected {
            return Err(wrong(field, format!("is {value}, and only {expected} is known here")));
        }
    }
    if raw.hidden_act.as_deref().unwrap_or("gelu_pytorch_tanh") != "gelu_pytorch_tanh" {
        return Err(wrong("vision_config.hidden_act", "must be gelu_pytorch_tanh".to_owned()));
    }
    for (field, value, most) in [
        ("vision_config.depth", raw.depth, MOST_LAYERS),
        ("vision_config.hidden_size", raw.hidden_size, LARGEST_WIDTH),
        ("vision_config.intermediate_size", raw.intermediate_size, LARGEST_WIDTH),
        ("vision_config.num_heads", raw.num_heads, LARGEST_WIDTH),
        ("vision_config.num_position_embeddings", raw.num_position_embeddings, LARGEST_WIDTH),
    ] {
        check_size(field, value, most, wrong)?;
    }
    let divides = raw.hidden_size.is_multiple_of(raw.num_heads);
    if !divides || !(raw.hidden_size / raw.num_heads).is_multiple_of(4) {
        return Err(wrong(
            "vision_config.num_heads",
            "must cut hidden_size into heads divisible by 4".to_owned(),
        ));
    }
    let side = raw.num_position_embeddings.isqrt();
    if side < 2 || side * side != raw.num_position_embeddings {
        return Err(wrong(
            "vision_config.num_position_embeddings",
            "must be a square number of 4 or more".to_owned(),
        ));
    }
    let ascending = raw.deepstack_visual_indexes.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || raw.deepstack_visual_indexes.last().is_some_and(|last| *last >= raw.depth) {
        return Err(wrong(
            "vision_config.deepstack_visual_indexes",
            "must be ascending and below depth".to_owned(),
        ));
    }
    Ok(VisionConfig {
        depth: raw.depth,
        hidden_size: raw.hidden_size,
        intermediate_size: raw.intermediate_size,
        heads: raw.num_heads,
        out_hidden_size: raw.out_hidden_size,
        position_embeddings: raw.num_position_embeddings,
        deepstack: raw.deepstack_visual_indexes,
    })
}
