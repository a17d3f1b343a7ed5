//! The tensors a checkpoint must have, checked by the headers of its safetensors files alone.
//!
//! Names and shapes follow from the configuration: 625 tensors for the 2B, 749 for the 8B. Names may
//! or may not start with `model.`; other tensors (a language head) are ignored.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use shared::excerpt::excerpt;

use super::config::{Config, TextConfig, VisionConfig};

/// The largest header read: real ones have 80 kB.
const LARGEST_HEADER: u64 = 16 << 20;

/// The largest index read: real ones have 60 kB.
const LARGEST_INDEX: u64 = 16 << 20;

/// The most dimensions of a tensor: a patch embedding has 5.
const MOST_DIMENSIONS: usize = 8;

/// The longest name of a type: `F8_E4M3` and its like are known.
const LONGEST_TYPE: usize = 16;

/// The prefix of published checkpoints.
const PREFIX: &str = "model";

/// A checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file is missing or cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Neither a single file nor an index.
    #[error("{} has neither model.safetensors nor model.safetensors.index.json", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{} is not a {what}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The index names a tensor that its file lacks.
    #[error("{} lacks the tensor {name}, which the index says it has", path.display())]
    NotInShard {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor is missing.
    #[error("the tensor {name} is missing from {}", folder.display())]
    MissingTensor {
        /// The folder.
        folder: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape.
    #[error("the tensor {name} in {} has shape {found:?}, the configuration asks for {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape found.
        found: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
    },
    /// A tensor has a type that is not computed with.
    #[error("the tensor {name} in {} has type {found}; BF16, F16 and F32 are known", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type found.
        found: String,
    },
}

/// A tensor in a header.
#[derive(Debug, Clone)]
struct Entry {
    file: usize,
    dtype: String,
    shape: Vec<usize>,
}

/// The files of a checkpoint and what their headers say.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    files: Vec<PathBuf>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The tensors of a header, read straight into their fields: as values of any kind, a header would take a
/// hundred times its size.
struct Header(BTreeMap<String, RawEntry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let wrong = |what: &str| A::Error::custom(format!("tensor {} {what}", excerpt(&name)));
            let entry: RawEntry =
                map.next_value().map_err(|error| wrong(&format!("cannot be read: {error}")))?;
            if entry.shape.len() > MOST_DIMENSIONS {
                return Err(wrong(&format!("has {} dimensions", entry.shape.len())));
            }
            if entry.dtype.len() > LONGEST_TYPE {
                return Err(wrong("has a type of no known name"));
            }
            if entries.contains_key(&name) {
                return Err(wrong("stands twice"));
            }
            entries.insert(name, entry);
        }
        Ok(Header(entries))
    }
}

impl Checkpoint {
    /// Reads the headers of `model.safetensors`, or of the files that the index names.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let mut checkpoint = Self { folder: folder.to_owned(), files: Vec::new(), entries: BTreeMap::new() };
        if index.is_file() {
            checkpoint.read_sharded(&index)?;
        } else if single.is_file() {
            checkpoint.read_file(single)?;
        } else {
            return Err(CheckpointError::NoWeights { folder: folder.to_owned() });
        }
        Ok(checkpoint)
    }

    /// The safetensors files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// `model` where the names start with it, else nothing.
    pub fn prefix(&self) -> &'static str {
        let prefixed = self.entries.keys().any(|name| name.starts_with("model.language_model."));
        if prefixed { PREFIX } else { "" }
    }

    /// Checks that every tensor of the configuration is there with its shape, in a known type.
    pub fn check(&self, config: &Config) -> Result<(), CheckpointError> {
        let prefix = self.prefix();
        for (name, expected) in expected_tensors(config) {
            let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let Some(entry) = self.entries.get(&name) else {
                return Err(CheckpointError::MissingTensor { folder: self.folder.clone(), name });
            };
            let path = self.files[entry.file].clone();
            if entry.shape != expected {
                let found = entry.shape.clone();
                return Err(CheckpointError::Shape { path, name, found, expected });
            }
            if !matches!(entry.dtype.as_str(), "BF16" | "F16" | "F32") {
                return Err(CheckpointError::Type { path, name, found: entry.dtype.clone() });
            }
        }
        Ok(())
    }

    fn read_sharded(&mut self, index: &Path) -> Result<(), CheckpointError> {
        let malformed = |why: String| CheckpointError::Malformed {
            path: index.to_owned(),
            what: "safetensors index",
            why,
        };
        let unreadable = |source| CheckpointError::Read { path: index.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(index).map_err(unreadable)?;
        file.take(LARGEST_INDEX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > LARGEST_INDEX {
            return Err(malformed(format!("it is larger than {LARGEST_INDEX} bytes")));
        }
        let parsed: Index = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        let mut names: Vec<&String> = parsed.weight_map.values().collect();
        names.sort();
        names.dedup();
        for name in names {
            if name.contains(['/', '\\', '\0']) || matches!(name.as_str(), "" | "." | "..") {
                return Err(malformed(format!("{:?} is not a file name", excerpt(name))));
            }
            self.read_file(self.folder.join(name))?;
        }
        for (name, file) in &parsed.weight_map {
            let path = self.folder.join(file);
            let found = self.entries.get(name).is_some_and(|entry| self.files[entry.file] == path);
            if !found {
                return Err(CheckpointError::NotInShard { path, name: excerpt(name).into_owned() });
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: PathBuf) -> Result<(), CheckpointError> {
        let header = read_header(&path)?;
        let file = self.files.len();
        for (name, raw) in header {
            self.entries.insert(name, Entry { file, dtype: raw.dtype, shape: raw.shape });
        }
        self.files.push(path);
        Ok(())
    }
}

/// The header of a safetensors file: 8 bytes of length, then JSON. Sizes are checked before anything
/// is allocated.
fn read_header(path: &Path) -> Result<BTreeMap<String, RawEntry>, CheckpointError> {
    let unreadable = |source| CheckpointError::Read { path: path.to_owned(), source };
    let malformed =
        |why: String| CheckpointError::Malformed { path: path.to_owned(), what: "safetensors file", why };
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    let data = size.checked_sub(8).and_then(|rest| rest.checked_sub(length));
    let Some(data) = data.filter(|_| length <= LARGEST_HEADER) else {
        return Err(malformed(format!("its header of {length} bytes does not fit a file of {size} bytes")));
    };
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    let Header(entries) = serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
    for (name, entry) in &entries {
        let (first, end) = entry.data_offsets;
        let elements = entry.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size as u64));
        let bytes = elements.and_then(|elements| elements.checked_mul(width(&entry.dtype)));
        if end > data || first > end || bytes != Some(end - first) {
            return Err(malformed(format!(
                "tensor {} of shape {:?} in bytes {first}..{end} does not fit the {data} bytes of data",
                excerpt(name),
                entry.shape
            )));
        }
    }
    Ok(entries)
}

/// Bytes of an element.
fn width(dtype: &str) -> u64 {
    match dtype {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    }
}

/// Every tensor of both towers, without prefix, with its shape.
pub fn expected_tensors(config: &Config) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vision_tensors(&config.vision);
    tensors.extend(text_tensors(&config.text));
    tensors
}

fn vision_tensors(config: &VisionConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, wide, merged) = (config.hidden_size, config.intermediate_size, 4 * config.hidden_size);
    let mut tensors = vec![
        ("visual.patch_embed.proj.weight".to_owned(), vec![hidden, 3, 2, 16, 16]),
        ("visual.patch_embed.proj.bias".to_owned(), vec![hidden]),
        ("visual.pos_embed.weight".to_owned(), vec![config.position_embeddings, hidden]),
    ];
    let mut add = |prefix: &str, name: &str, output: usize, input: Option<usize>| {
        let weight = input.map_or_else(|| vec![output], |input| vec![output, input]);
        tensors.push((format!("{prefix}.{name}.weight"), weight));
        tensors.push((format!("{prefix}.{name}.bias"), vec![output]));
    };
    for block in 0..config.depth {
        let prefix = format!("visual.blocks.{block}");
        add(&prefix, "norm1", hidden, None);
        add(&prefix, "norm2", hidden, None);
        add(&prefix, "attn.qkv", 3 * hidden, Some(hidden));
        add(&prefix, "attn.proj", hidden, Some(hidden));
        add(&prefix, "mlp.linear_fc1", wide, Some(hidden));
        add(&prefix, "mlp.linear_fc2", hidden, Some(wide));
    }
    let deep =
        (0..config.deepstack.len()).map(|index| (format!("visual.deepstack_merger_list.{index}"), merged));
    for (prefix, normed) in std::iter::once(("visual.merger".to_owned(), hidden)).chain(deep) {
        add(&prefix, "norm", normed, None);
        add(&prefix, "linear_fc1", merged, Some(merged));
        add(&prefix, "linear_fc2", config.out_hidden_size, Some(merged));
    }
    tensors
}

fn text_tensors(config: &TextConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, wide, head) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (queries, keys) = (config.heads * head, config.kv_heads * head);
    let mut tensors = vec![
        ("language_model.embed_tokens.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("language_model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..config.layers {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("self_attn.q_norm", vec![head]),
            ("self_attn.k_norm", vec![head]),
            ("mlp.gate_proj", vec![wide, hidden]),
            ("mlp.up_proj", vec![wide, hidden]),
            ("mlp.down_proj", vec![hidden, wide]),
        ] {
            tensors.push((format!("language_model.layers.{layer}.{name}.weight"), shape));
        }
    }
    tensors
}
