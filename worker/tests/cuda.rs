//! The production kernels on a GPU against the CPU: at the layer shapes of the real models, on the
//! reference model, and against an independent text tower. Needs the feature `cuda` and a GPU; without a
//! GPU each test says that it is skipped.

#![cfg(feature = "cuda")]
// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};
use shared::plan::Dtype;
use support::{Embedders, cases, expected, max_difference, prepare, reference};
use worker::bench::mix::{ItemSize, items};
use worker::bench::model::random_model;
use worker::bench::shape::Shape;
use worker::bench::weights::RandomWeights;
use worker::device::DeviceChoice;
use worker::embedder::{Embedder as _, PreparedItem, StartedBatch};
use worker::kernels::check::check;
use worker::kernels::cuda::Gpu;
use worker::qwen3_vl::Qwen3Vl;
use worker::qwen3_vl::started::start;
use worker::qwen3_vl::text::TextTower;
use worker::qwen3_vl::trace::NoTrace;

/// `1 - cos` of bf16 on the GPU to f32 on the CPU.
const PRECISION: f64 = 1e-3;
/// `1 - cos` of an item alone to the same item in a batch.
const BATCHED: f64 = 1e-4;

/// The GPU, for one test at a time: one of them takes memory away.
fn gpu() -> Option<(Device, Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match DeviceChoice::Cuda(vec![0]).open() {
        Ok(device) => {
            let gpu = Gpu::of_device(&device).unwrap().unwrap();
            Some((device, gpu, alone))
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn embed(model: &Qwen3Vl, batch: &[PreparedItem]) -> Vec<Vec<f32>> {
    let dim = model.config().text.hidden_size;
    start(model, batch, dim).unwrap().finish().unwrap().rows
}

/// Text of 1, 63 to 65, 129 and 1,000 tokens, a small image, and 8,192 tokens with an image.
fn ragged() -> Vec<ItemSize> {
    let text = |tokens| ItemSize { text_tokens: tokens, image_grids: Vec::new() };
    let mut sizes: Vec<ItemSize> = [1, 63, 64, 65, 129, 1000].map(text).into();
    sizes.push(ItemSize { text_tokens: 40, image_grids: vec![[1, 6, 10], [1, 26, 34]] });
    sizes.push(ItemSize { text_tokens: 8192 - 1800 - 2, image_grids: vec![[1, 60, 120]] });
    sizes
}

#[test]
fn layers_of_the_real_shapes_agree_with_the_cpu() {
    let Some((device, gpu, _alone)) = gpu() else { return };
    for (shape, vision_kernel) in [(Shape::Large, "attention_72"), (Shape::Small, "attention_64")] {
        let config = shape.shallow(2);
        let items = items(&ragged(), &config);
        assert_eq!(items.last().unwrap().token_ids.len(), 8192);
        let half = random_model(&config, DType::BF16, &device).unwrap();
        let before = gpu.launches();
        let together = embed(&half, &items);
        for kernel in ["attention_128", vision_kernel, "norm_rope_bf16", "silu_mul_bf16", "add_rows_bf16"] {
            let launched = gpu.launches()[kernel] - before.get(kernel).copied().unwrap_or(0);
            assert!(launched > 0, "{shape:?}: {kernel} did not run");
        }
        assert_eq!(together, embed(&half, &items), "{shape:?}: the same batch gives the same bytes");
        let full = random_model(&config, DType::F32, &Device::Cpu).unwrap();
        for (item, row) in items.iter().zip(&together) {
            let tokens = item.token_ids.len();
            let alone = embed(&half, std::slice::from_ref(item)).remove(0);
            let batched = cosine_distance(&alone, row);
            let exact = embed(&full, std::slice::from_ref(item)).remove(0);
            let precision = cosine_distance(&exact, row);
            println!("{shape:?} {tokens}: {precision:.1e} from f32, {batched:.1e} from alone");
            assert!(batched <= BATCHED, "{shape:?} {tokens}: {batched}");
            assert!(precision <= PRECISION, "{shape:?} {tokens}: {precision}");
        }
    }
}

#[test]
fn the_reference_model_in_f32_agrees() {
    let Some((device, _, _alone)) = gpu() else { return };
    let Some(folder) = reference() else { return };
    let mut embedders = Embedders::new(&folder, Dtype::F32, &device);
    let mut worst = 0f32;
    for case in cases(&folder).iter().filter(|case| case.get("error").is_none()) {
        let embedder = embedders.of(case);
        let item = prepare(&folder, embedder, case).unwrap();
        let difference = max_difference(&embedder.embed(&[item]).unwrap()[0], &expected(case));
        assert!(difference <= 2e-4, "{}: {difference}", case["name"]);
        worst = worst.max(difference);
    }
    println!("the worst difference is {worst:.1e}");
}

#[test]
fn the_reference_model_in_bf16_agrees() {
    let Some((device, gpu, _alone)) = gpu() else { return };
    let Some(folder) = reference() else { return };
    let mut embedders = Embedders::new(&folder, Dtype::Bf16, &device);
    let mut worst = 0f64;
    for case in cases(&folder).iter().filter(|case| case.get("error").is_none()) {
        let embedder = embedders.of(case);
        let item = prepare(&folder, embedder, case).unwrap();
        let distance = cosine_distance(&embedder.embed(&[item]).unwrap()[0], &expected(case));
        assert!(distance <= PRECISION, "{}: {distance}", case["name"]);
        worst = worst.max(distance);
    }
    println!("the worst distance is {worst:.1e}");
    assert!(gpu.launches()["attention_32"] > 0 && gpu.launches()["attention_16"] > 0);
}

#[test]
fn every_kernel_agrees_with_its_twin() {
    let Some((device, _, _alone)) = gpu() else { return };
    for dtype in [DType::BF16, DType::F32] {
        let findings = check(dtype, &device).unwrap();
        assert!(findings.len() > 50);
        for finding in findings {
            assert!(finding.passed(), "{dtype:?} {}: {:.1e}", finding.name, finding.distance);
        }
    }
}

#[test]
fn the_text_tower_agrees_with_an_independent_one() {
    let Some((device, _, _alone)) = gpu() else { return };
    let config = Shape::Large.shallow(2).text;
    let oracle_config: candle_transformers::models::qwen3::Config =
        serde_json::from_value(serde_json::json!({
            "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size, "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads, "head_dim": config.head_dim, "attention_bias": false,
            "num_key_value_heads": config.kv_heads, "max_position_embeddings": 1024,
            "sliding_window": null, "max_window_layers": config.layers, "tie_word_embeddings": true,
            "rope_theta": config.rope_theta, "rms_norm_eps": config.rms_norm_eps,
            "use_sliding_window": false, "hidden_act": "silu"
        }))
        .unwrap();
    let weights = RandomWeights::variables(DType::BF16, &device);
    let ours = TextTower::load(&config, &weights.pp("model")).unwrap();
    for tokens in [1usize, 65, 300] {
        let ids: Vec<u32> = (0..tokens as u32).map(|i| (i * 37 + 11) % 2000).collect();
        let positions: [Vec<u32>; 3] = std::array::from_fn(|_| (0..tokens as u32).collect());
        let pooled = ours.forward(&ids, &positions, &[tokens], None, &mut NoTrace).unwrap();
        // A new one each time: it keeps the keys of what it saw.
        let mut oracle =
            candle_transformers::models::qwen3::Model::new(&oracle_config, weights.clone()).unwrap();
        let input = Tensor::new(ids.as_slice(), &device).unwrap().unsqueeze(0).unwrap();
        let theirs = oracle.forward(&input, 0).unwrap().squeeze(0).unwrap().get(tokens - 1).unwrap();
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        let distance = cosine_distance(&values(&pooled.get(0).unwrap()), &values(&theirs));
        println!("{tokens} tokens: {distance:.1e}");
        assert!(distance <= PRECISION, "{tokens}: {distance}");
    }
}

#[test]
fn what_does_not_fit_is_out_of_memory_and_the_device_lives_on() {
    use worker::embedder::EmbedError;
    let Some((device, gpu, _alone)) = gpu() else { return };
    let config = Shape::Small.shallow(2);
    let model = random_model(&config, DType::BF16, &device).unwrap();
    let size = ItemSize { text_tokens: 8000, image_grids: Vec::new() };
    let large = items(&vec![size.clone(); 12], &config);
    gpu.release_freed_memory().unwrap();
    let (_, used) = gpu.memory().unwrap();
    gpu.limit_memory(used + (1 << 30)).unwrap();
    let result = start(&model, &large, 2048).and_then(StartedBatch::finish);
    assert!(matches!(result, Err(EmbedError::OutOfMemory { items: 12, .. })), "{:?}", result.err());
    let one = embed(&model, &items(&[size], &config));
    assert_eq!(one.len(), 1);
    gpu.limit_memory(u64::MAX).unwrap();
    assert_eq!(embed(&model, &large).len(), 12);
}
