//! The model against the reference: all cases of `reference/cases.json`, tensors on the way, batches
//! against single items, and an independent implementation of the text tower.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use candle_core::{DType, Device, Tensor};
use ndarray_npy::npy::header::Header;
use shared::plan::Dtype;
use support::{Embedders, cases, expected, max_difference, prepare, reference, settings};
use worker::embedder::{Embedder as _, PreparedItem};
use worker::qwen3_vl::started::normalise;
use worker::qwen3_vl::trace::Trace;
use worker::qwen3_vl::{Config, ModelInput, QwenEmbedder};

/// Largest difference from given pixel values, in f32.
const FROM_PIXELS: f32 = 5e-6;
/// Largest difference from the bytes of a picture.
const END_TO_END: f32 = 1e-5;
/// Largest difference between an item alone and in a batch.
const BATCHED: f32 = 1e-6;

#[test]
fn all_cases_end_to_end() {
    let Some(folder) = reference() else { return };
    let mut embedders = Embedders::new(&folder, Dtype::F32, &Device::Cpu);
    let (mut embedded, mut errors, mut worst) = (0, 0, 0f32);
    for case in cases(&folder) {
        let name = case["name"].as_str().unwrap();
        let embedder = embedders.of(&case);
        let item = match prepare(&folder, embedder, &case) {
            Ok(item) => item,
            Err(error) => {
                assert!(case.get("error").is_some(), "{name}: {error}");
                errors += 1;
                continue;
            }
        };
        assert!(case.get("error").is_none(), "{name} should be an error");
        let vector = embedder.embed(&[item]).unwrap().remove(0);
        let difference = max_difference(&vector, &expected(&case));
        println!("{name}: {difference:.1e}");
        assert!(difference <= END_TO_END, "{name}: {difference}");
        worst = worst.max(difference);
        embedded += 1;
    }
    assert_eq!((embedded, errors), (44, 3));
    println!("worst of {embedded}: {worst:.1e}");
}

#[test]
fn given_pixels_give_the_reference_more_closely() {
    let Some(folder) = reference() else { return };
    let mut embedders = Embedders::new(&folder, Dtype::F32, &Device::Cpu);
    for case in cases(&folder) {
        let name = case["name"].as_str().unwrap();
        if case.get("error").is_some() {
            continue;
        }
        let embedder = embedders.of(&case);
        // The pixel values of every case are equal to the reference by their sha256 (tests/pixels.rs).
        let item = prepare(&folder, embedder, &case).unwrap();
        let pooled = forward(embedder, &item, &mut Seen::default());
        let vector = normalise(&pooled, 64).unwrap();
        let difference = max_difference(&vector, &expected(&case));
        assert!(difference <= FROM_PIXELS, "{name}: {difference}");
    }
}

fn forward(embedder: &QwenEmbedder, item: &PreparedItem, trace: &mut dyn Trace) -> Vec<f32> {
    let input = ModelInput { token_ids: &item.token_ids, images: &item.images };
    embedder.model().forward(&[input], trace).unwrap().get(0).unwrap().to_vec1().unwrap()
}

/// Keeps every tensor it sees.
#[derive(Default)]
struct Seen(BTreeMap<String, Tensor>);

impl Trace for Seen {
    fn see(&mut self, name: &str, tensor: &Tensor) -> candle_core::Result<()> {
        self.0.insert(name.to_owned(), tensor.copy()?);
        Ok(())
    }
}

/// A float32 member of an npz: shape and values.
fn member(npz: &mut zip::ZipArchive<File>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let mut bytes = Vec::new();
    npz.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    let header = Header::from_reader(&mut rest).unwrap();
    let values = rest.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    (header.shape, values)
}

#[test]
fn tensors_on_the_way_equal_the_taps() {
    let Some(folder) = reference() else { return };
    let mut embedders = Embedders::new(&folder, Dtype::F32, &Device::Cpu);
    let mut compared = 0;
    for case in cases(&folder) {
        let name = case["name"].as_str().unwrap();
        let Ok(file) = File::open(folder.join(format!("inter/{name}.npz"))) else { continue };
        let mut npz = zip::ZipArchive::new(file).unwrap();
        let embedder = embedders.of(&case);
        let item = prepare(&folder, embedder, &case).unwrap();
        let mut seen = Seen::default();
        forward(embedder, &item, &mut seen);
        let taps: Vec<String> = (0..npz.len())
            .map(|at| npz.by_index(at).unwrap().name().unwrap().trim_end_matches(".npy").to_owned())
            .collect();
        for tap in taps.iter().filter(|tap| tap.starts_with("v_") || tap.starts_with("t_")) {
            let (shape, values) = member(&mut npz, tap);
            let ours: Vec<f32> = seen.0[tap].flatten_all().unwrap().to_vec1().unwrap();
            // Only the pooled token goes through the last layer and the norm after it.
            let theirs = &values[values.len() - ours.len()..];
            assert!(theirs.len() == values.len() || ours.len() == shape[1], "{name} {tap}");
            let largest = theirs.iter().fold(0f32, |largest, value| largest.max(value.abs()));
            let difference = max_difference(&ours, theirs);
            assert!(difference <= 1e-5 * largest.max(1.0), "{name} {tap}: {difference} of {largest}");
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared} taps");
}

#[test]
fn a_batch_gives_what_its_items_give_alone() {
    let Some(folder) = reference() else { return };
    let embedder = QwenEmbedder::load(&folder.join("model"), &settings(None, 8192), &Device::Cpu).unwrap();
    let items: Vec<PreparedItem> = cases(&folder)
        .iter()
        .filter(|case| {
            case.get("error").is_none() && case["item"]["instruction"].is_null() && case["max_length"] == 8192
        })
        .filter(|case| !["huge", "trunc_text_8192"].contains(&case["name"].as_str().unwrap()))
        .map(|case| prepare(&folder, &embedder, case).unwrap())
        .collect();
    assert!(items.len() > 30);
    let together = embedder.embed(&items).unwrap();
    assert_eq!(together, embedder.embed(&items).unwrap(), "the same batch gives the same bytes");
    for (number, (item, row)) in items.iter().zip(&together).enumerate() {
        let alone = embedder.embed(std::slice::from_ref(item)).unwrap().remove(0);
        let difference = max_difference(&alone, row);
        assert!(difference <= BATCHED, "item {number}: {difference}");
    }
    let mut backwards = items.clone();
    backwards.reverse();
    for (row, other) in together.iter().zip(embedder.embed(&backwards).unwrap().iter().rev()) {
        assert!(max_difference(row, other) <= BATCHED, "the order does not matter");
    }
}

#[test]
fn fewer_dimensions_are_the_first_of_all_with_norm_one() {
    let Some(folder) = reference() else { return };
    let row: Vec<f32> = (1..=8).map(|value| value as f32).collect();
    let short = normalise(&row, 2).unwrap();
    let norm = 5f32.sqrt();
    assert!(max_difference(&short, &[1.0 / norm, 2.0 / norm]) < 1e-7);
    assert_eq!(normalise(&[0.0, 0.0], 2), None);
    assert_eq!(normalise(&[f32::NAN, 1.0], 2), None);
    let config = Config::read(&folder.join("model/config.json")).unwrap();
    assert_eq!(config.text.hidden_size, 64);
}

#[test]
fn bf16_on_a_cpu_stays_close_to_f32() {
    let Some(folder) = reference() else { return };
    let f32s = QwenEmbedder::load(&folder.join("model"), &settings(None, 8192), &Device::Cpu).unwrap();
    let mut half = settings(None, 8192);
    half.dtype = Dtype::Bf16;
    let halves = QwenEmbedder::load(&folder.join("model"), &half, &Device::Cpu).unwrap();
    for name in ["text_ko", "image_text", "two_images"] {
        let case = cases(&folder).into_iter().find(|case| case["name"] == name).unwrap();
        let item = prepare(&folder, &f32s, &case).unwrap();
        let (a, b) = (
            f32s.embed(std::slice::from_ref(&item)).unwrap().remove(0),
            halves.embed(&[item]).unwrap().remove(0),
        );
        let cosine: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!(1.0 - cosine <= 1e-3, "{name}: {cosine}");
    }
}

#[test]
fn the_text_tower_agrees_with_an_independent_one() {
    use candle_nn::{VarBuilder, VarMap};
    let device = Device::Cpu;
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &device);
    let oracle_config: candle_transformers::models::qwen3::Config =
        serde_json::from_value(serde_json::json!({
            "vocab_size": 300, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
            "num_attention_heads": 4, "head_dim": 128, "attention_bias": false, "num_key_value_heads": 2,
            "max_position_embeddings": 1024, "sliding_window": null, "max_window_layers": 2,
            "tie_word_embeddings": true, "rope_theta": 5_000_000.0, "rms_norm_eps": 1e-6,
            "use_sliding_window": false, "hidden_act": "silu"
        }))
        .unwrap();
    let mut oracle = candle_transformers::models::qwen3::Model::new(&oracle_config, vb.clone()).unwrap();
    // Norms start at one; the rest is drawn small, so that attention is neither flat nor one-hot.
    for (name, variable) in map.data().lock().unwrap().iter() {
        let value = if name.contains("norm") {
            Tensor::rand(0.5f32, 1.5f32, variable.shape(), &device).unwrap()
        } else {
            Tensor::randn(0f32, 0.05f32, variable.shape(), &device).unwrap()
        };
        variable.set(&value).unwrap();
    }
    let config = worker::qwen3_vl::config::TextConfig {
        vocab_size: 300,
        hidden_size: 256,
        intermediate_size: 512,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 128,
        rms_norm_eps: 1e-6,
        rope_theta: 5_000_000.0,
        mrope_section: [24, 20, 20],
    };
    // The oracle reads its weights when it is made: make it again from the drawn ones.
    oracle = {
        drop(oracle);
        candle_transformers::models::qwen3::Model::new(&oracle_config, vb.clone()).unwrap()
    };
    let ours = worker::qwen3_vl::text::TextTower::load(&config, &vb.pp("model")).unwrap();
    let ids: Vec<u32> = (0..65).map(|i| (i * 37 + 11) % 300).collect();
    let positions: [Vec<u32>; 3] = std::array::from_fn(|_| (0..65).collect());
    let pooled = ours.forward(&ids, &positions, &[65], None, &mut Seen::default()).unwrap();
    let theirs =
        oracle.forward(&Tensor::new(ids.as_slice(), &device).unwrap().unsqueeze(0).unwrap(), 0).unwrap();
    let last: Vec<f32> = theirs.squeeze(0).unwrap().get(64).unwrap().to_vec1().unwrap();
    let ours: Vec<f32> = pooled.get(0).unwrap().to_vec1().unwrap();
    let largest = last.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.1);
    assert!(max_difference(&ours, &last) <= 1e-4 * largest.max(1.0), "{}", max_difference(&ours, &last));
}
