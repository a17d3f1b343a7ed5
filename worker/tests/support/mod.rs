//! The reference cases, and embedders for them.

// Each test binary uses a part of this.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::Value;
use shared::plan::{Dtype, EmbeddingSettings};
use worker::embedder::{Embedder as _, PreparedItem};
use worker::qwen3_vl::QwenEmbedder;

/// The folder of reference cases; `None`, said aloud, where it is missing.
pub fn reference() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let folder = std::env::var_os("EMBED_FLEET_SHARED").map_or_else(beside, PathBuf::from).join("reference");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no reference cases in {}", folder.display());
    None
}

pub fn cases(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone()
}

pub fn settings(instruction: Option<&str>, max_length: u32) -> EmbeddingSettings {
    let choices = shared::settings::EmbeddingChoices {
        instruction: instruction.map(str::to_owned),
        max_length: Some(max_length),
        ..Default::default()
    };
    choices.resolve(Dtype::F32, 64).unwrap()
}

/// One embedder for each instruction and length of the cases.
pub struct Embedders {
    model: PathBuf,
    dtype: Dtype,
    device: Device,
    made: BTreeMap<(Option<String>, u32), QwenEmbedder>,
}

impl Embedders {
    pub fn new(folder: &Path, dtype: Dtype, device: &Device) -> Self {
        Self { model: folder.join("model"), dtype, device: device.clone(), made: BTreeMap::new() }
    }

    pub fn of(&mut self, case: &Value) -> &QwenEmbedder {
        let instruction = case["item"]["instruction"].as_str().map(str::to_owned);
        let max_length = case["max_length"].as_u64().unwrap() as u32;
        let Self { model, dtype, device, .. } = self;
        self.made.entry((instruction.clone(), max_length)).or_insert_with(|| {
            // Shorter than the command line allows: the cases cut inside an image.
            let mut settings = settings(instruction.as_deref(), 8192);
            settings.max_length = max_length;
            settings.dtype = *dtype;
            QwenEmbedder::load(model, &settings, device).unwrap()
        })
    }
}

/// The text of a case: a list is one text after the other, an empty list none.
pub fn text_of(case: &Value) -> Option<String> {
    match &case["item"]["text"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(texts) if !texts.is_empty() => {
            Some(texts.iter().map(|text| text.as_str().unwrap()).collect())
        }
        _ => None,
    }
}

pub fn prepare(folder: &Path, embedder: &QwenEmbedder, case: &Value) -> Result<PreparedItem, String> {
    let names = case["item"]["images"].as_array().cloned().unwrap_or_default();
    let mut images = Vec::new();
    for name in names {
        let bytes = std::fs::read(folder.join("inputs").join(name.as_str().unwrap())).unwrap();
        images.push(embedder.prepare_image(&bytes).map_err(|error| error.to_string())?);
    }
    embedder.prepare_item(text_of(case).as_deref(), images).map_err(|error| error.to_string())
}

pub fn expected(case: &Value) -> Vec<f32> {
    case["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
