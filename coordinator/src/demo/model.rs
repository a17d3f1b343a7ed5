//! A tiny Qwen3-VL checkpoint with random weights, in the layout that the real ones are published in:
//! every tensor name, every file, bf16. Its vectors mean nothing; its path through the program is the real one.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::random::Random;
use super::{DemoError, make_folder, tokenizer, write_file, write_json};

const LAYERS: usize = 4;
const HIDDEN: usize = 64;
const HEADS: usize = 4;
const KEY_VALUE_HEADS: usize = 2;
const HEAD_DIM: usize = 32;
const MLP: usize = 160;
/// Sums to half of [`HEAD_DIM`].
const MROPE_SECTION: [usize; 3] = [6, 5, 5];

const VISION_DEPTH: usize = 5;
const VISION_HIDDEN: usize = 64;
/// A head has 16 components: divisible by 4, as the two-dimensional rotation needs.
const VISION_HEADS: usize = 4;
const VISION_MLP: usize = 112;
const DEEPSTACK: [usize; 3] = [0, 2, 3];
const PATCH: usize = 16;
const TEMPORAL: usize = 2;
const MERGE: usize = 2;
const POSITIONS: usize = 48 * 48;

/// The frame of the prompt, as Qwen3-VL-Embedding's template renders one system and one user turn.
const CHAT_TEMPLATE: &str = r"{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nRepresent the user\'s input.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for content in message.content %}
            {%- if content.type == 'image' or 'image' in content %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif 'text' in content %}
                {{- content.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
";

/// Writes the checkpoint to `dir`: `config.json`, `tokenizer.json`, `chat_template.jinja`,
/// `preprocessor_config.json` and `model.safetensors`. The same seed gives the same bytes.
pub fn write_model(dir: &Path, seed: u64) -> Result<(), DemoError> {
    make_folder(dir)?;
    write_json(&dir.join("config.json"), &config())?;
    write_json(&dir.join("tokenizer.json"), &tokenizer::tokenizer())?;
    write_json(&dir.join("preprocessor_config.json"), &preprocessor())?;
    write_file(&dir.join("chat_template.jinja"), CHAT_TEMPLATE.as_bytes())?;

    let path = dir.join("model.safetensors");
    let weights: Vec<(Tensor, Vec<u8>)> = tensors()
        .into_iter()
        .map(|tensor| (tensor.bytes(seed), tensor))
        .map(|(bytes, tensor)| (tensor, bytes))
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = weights
        .iter()
        .map(|(tensor, bytes)| {
            Ok((tensor.name.as_str(), TensorView::new(Dtype::BF16, tensor.shape.clone(), bytes)?))
        })
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|error| DemoError::encode(&path, &error))?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes =
        safetensors::serialize(views, Some(metadata)).map_err(|error| DemoError::encode(&path, &error))?;
    write_file(&path, &bytes)
}

/// A tensor: `N(offset, deviation²)`.
#[derive(Debug, Clone, PartialEq)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    offset: f64,
    deviation: f64,
}

impl Tensor {
    /// bf16 values in little-endian order. They depend on the seed and the tensor's name alone.
    fn bytes(&self, seed: u64) -> Vec<u8> {
        let mut random = Random::named(seed, &self.name);
        let count: usize = self.shape.iter().product();
        let mut bytes = Vec::with_capacity(2 * count + 2);
        while bytes.len() < 2 * count {
            for normal in random.normal_pair() {
                bytes.extend_from_slice(&bf16((self.offset + self.deviation * normal) as f32).to_le_bytes());
            }
        }
        bytes.truncate(2 * count);
        bytes
    }
}

/// The upper half of a finite f32, rounded to nearest, ties to even.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Collects tensors by kind.
#[derive(Debug, Default)]
struct Tensors(Vec<Tensor>);

impl Tensors {
    fn add(&mut self, name: &str, shape: &[usize], offset: f64, deviation: f64) {
        self.0.push(Tensor { name: format!("model.{name}"), shape: shape.to_vec(), offset, deviation });
    }

    /// A matrix whose outputs keep the variance of its inputs.
    fn matrix(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs], 0.0, (inputs as f64).sqrt().recip());
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.matrix(name, outputs, inputs);
        self.bias(name, outputs);
    }

    fn bias(&mut self, name: &str, size: usize) {
        self.add(&format!("{name}.bias"), &[size], 0.0, 0.02);
    }

    fn rms_norm(&mut self, name: &str, size: usize) {
        self.add(&format!("{name}.weight"), &[size], 1.0, 0.05);
    }

    fn layer_norm(&mut self, name: &str, size: usize) {
        self.rms_norm(name, size);
        self.bias(name, size);
    }

    fn merger(&mut self, name: &str, norm: usize) {
        let merged = VISION_HIDDEN * MERGE * MERGE;
        self.layer_norm(&format!("{name}.norm"), norm);
        self.linear(&format!("{name}.linear_fc1"), merged, merged);
        self.linear(&format!("{name}.linear_fc2"), HIDDEN, merged);
    }
}

/// Every tensor of the checkpoint.
fn tensors() -> Vec<Tensor> {
    let mut tensors = Tensors::default();
    vision(&mut tensors);
    language(&mut tensors);
    tensors.0
}

fn vision(tensors: &mut Tensors) {
    let patch = [VISION_HIDDEN, 3, TEMPORAL, PATCH, PATCH];
    let inputs = (3 * TEMPORAL * PATCH * PATCH) as f64;
    tensors.add("visual.patch_embed.proj.weight", &patch, 0.0, inputs.sqrt().recip());
    tensors.bias("visual.patch_embed.proj", VISION_HIDDEN);
    tensors.add("visual.pos_embed.weight", &[POSITIONS, VISION_HIDDEN], 0.0, 0.2);
    for number in 0..VISION_DEPTH {
        let block = format!("visual.blocks.{number}");
        tensors.layer_norm(&format!("{block}.norm1"), VISION_HIDDEN);
        tensors.layer_norm(&format!("{block}.norm2"), VISION_HIDDEN);
        tensors.linear(&format!("{block}.attn.qkv"), 3 * VISION_HIDDEN, VISION_HIDDEN);
        tensors.linear(&format!("{block}.attn.proj"), VISION_HIDDEN, VISION_HIDDEN);
        tensors.linear(&format!("{block}.mlp.linear_fc1"), VISION_MLP, VISION_HIDDEN);
        tensors.linear(&format!("{block}.mlp.linear_fc2"), VISION_HIDDEN, VISION_MLP);
    }
    tensors.merger("visual.merger", VISION_HIDDEN);
    for number in 0..DEEPSTACK.len() {
        tensors.merger(&format!("visual.deepstack_merger_list.{number}"), VISION_HIDDEN * MERGE * MERGE);
    }
}

fn language(tensors: &mut Tensors) {
    let vocabulary = tokenizer::vocabulary();
    tensors.add("language_model.embed_tokens.weight", &[vocabulary, HIDDEN], 0.0, 0.5);
    for number in 0..LAYERS {
        let layer = format!("language_model.layers.{number}");
        tensors.rms_norm(&format!("{layer}.input_layernorm"), HIDDEN);
        tensors.rms_norm(&format!("{layer}.post_attention_layernorm"), HIDDEN);
        tensors.matrix(&format!("{layer}.self_attn.q_proj"), HEADS * HEAD_DIM, HIDDEN);
        tensors.matrix(&format!("{layer}.self_attn.k_proj"), KEY_VALUE_HEADS * HEAD_DIM, HIDDEN);
        tensors.matrix(&format!("{layer}.self_attn.v_proj"), KEY_VALUE_HEADS * HEAD_DIM, HIDDEN);
        tensors.matrix(&format!("{layer}.self_attn.o_proj"), HIDDEN, HEADS * HEAD_DIM);
        tensors.rms_norm(&format!("{layer}.self_attn.q_norm"), HEAD_DIM);
        tensors.rms_norm(&format!("{layer}.self_attn.k_norm"), HEAD_DIM);
        tensors.matrix(&format!("{layer}.mlp.gate_proj"), MLP, HIDDEN);
        tensors.matrix(&format!("{layer}.mlp.up_proj"), MLP, HIDDEN);
        tensors.matrix(&format!("{layer}.mlp.down_proj"), HIDDEN, MLP);
    }
    tensors.rms_norm("language_model.norm", HIDDEN);
}

fn config() -> Value {
    json!({
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "dtype": "bfloat16",
        "image_token_id": tokenizer::id("<|image_pad|>"),
        "model_type": "qwen3_vl",
        "text_config": {
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": tokenizer::id("<|endoftext|>"),
            "dtype": "bfloat16",
            "eos_token_id": tokenizer::id("<|im_end|>"),
            "head_dim": HEAD_DIM,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "initializer_range": 0.02,
            "intermediate_size": MLP,
            "max_position_embeddings": 262_144,
            "model_type": "qwen3_vl_text",
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KEY_VALUE_HEADS,
            "rms_norm_eps": 1e-6,
            "rope_scaling": {"mrope_interleaved": true, "mrope_section": MROPE_SECTION, "rope_type": "default"},
            "rope_theta": 5_000_000,
            "tie_word_embeddings": true,
            "use_cache": true,
            "vocab_size": tokenizer::vocabulary()
        },
        "tie_word_embeddings": true,
        "transformers_version": "4.57.1",
        "use_cache": false,
        "video_token_id": tokenizer::id("<|video_pad|>"),
        "vision_config": {
            "deepstack_visual_indexes": DEEPSTACK,
            "depth": VISION_DEPTH,
            "dtype": "bfloat16",
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": VISION_HIDDEN,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": VISION_MLP,
            "model_type": "qwen3_vl",
            "num_heads": VISION_HEADS,
            "num_position_embeddings": POSITIONS,
            "out_hidden_size": HIDDEN,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": TEMPORAL
        },
        "vision_end_token_id": tokenizer::id("<|vision_end|>"),
        "vision_start_token_id": tokenizer::id("<|vision_start|>")
    })
}

fn preprocessor() -> Value {
    json!({
        "do_convert_rgb": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "image_std": [0.5, 0.5, 0.5],
        "max_pixels": 1_310_720,
        "merge_size": MERGE,
        "min_pixels": 4096,
        "patch_size": PATCH,
        "processor_class": "Qwen3VLProcessor",
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "size": {"longest_edge": 1_310_720, "shortest_edge": 4096},
        "temporal_patch_size": TEMPORAL
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use safetensors::SafeTensors;

    use super::super::SEED;
    use super::*;

    fn shapes(path: &Path) -> BTreeMap<String, Vec<usize>> {
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert!(tensors.iter().all(|(_, view)| view.dtype() == Dtype::BF16));
        tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_model(first.path(), SEED).unwrap();
        write_model(second.path(), SEED).unwrap();
        let mut total = 0;
        for entry in std::fs::read_dir(first.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let bytes = std::fs::read(first.path().join(&name)).unwrap();
            assert_eq!(bytes, std::fs::read(second.path().join(&name)).unwrap(), "{}", name.display());
            total += bytes.len();
        }
        assert!(total < 4 << 20, "{total} bytes");
        write_model(second.path(), SEED + 1).unwrap();
        let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
        assert_ne!(weights(first.path()), weights(second.path()));
    }

    /// The reference model has the published names and, but for the vocabulary, these sizes.
    #[test]
    fn names_shapes_and_config_are_those_of_the_reference_model() {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let shared = std::env::var_os("EMBED_FLEET_SHARED").map_or_else(beside, PathBuf::from);
        let reference = shared.join("reference/model");
        if !reference.is_dir() {
            println!("skipped: no reference model; set EMBED_FLEET_SHARED");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), SEED).unwrap();
        let mut expected = shapes(&reference.join("model.safetensors"));
        let embedding = "model.language_model.embed_tokens.weight".to_owned();
        expected.insert(embedding, vec![tokenizer::vocabulary(), HIDDEN]);
        assert_eq!(shapes(&folder.path().join("model.safetensors")), expected);

        let read = |folder: &Path| -> Value {
            serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
        };
        let (mut ours, mut theirs) = (read(folder.path()), read(&reference));
        for config in [&mut ours, &mut theirs] {
            for name in ["image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"] {
                assert!(config[name].take().is_u64(), "{name}");
            }
            for name in ["vocab_size", "bos_token_id", "eos_token_id"] {
                assert!(config["text_config"][name].take().is_u64(), "{name}");
            }
        }
        assert_eq!(ours, theirs);
    }

    #[test]
    fn sizes_satisfy_what_the_rotations_need() {
        assert_eq!(MROPE_SECTION.iter().sum::<usize>() * 2, HEAD_DIM);
        assert_eq!(VISION_HIDDEN % VISION_HEADS, 0);
        assert_eq!(VISION_HIDDEN / VISION_HEADS % 4, 0);
        assert!(DEEPSTACK.iter().all(|&block| block < VISION_DEPTH) && DEEPSTACK.len() <= LAYERS);
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        let table = [
            (1.0, 0x3f80),
            (-2.0, 0xc000),
            (f32::from_bits(0x3f80_8000), 0x3f80),
            (f32::from_bits(0x3f81_8000), 0x3f82),
            (0.0, 0),
        ];
        for (value, expected) in table {
            assert_eq!(bf16(value), expected, "{value}");
        }
    }
}
