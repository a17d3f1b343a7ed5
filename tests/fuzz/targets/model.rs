//! `config.json` and the headers of safetensors files.
//!
//! Input: a configuration, a NUL, a length in 8 bytes and a header (the file is that with a hole behind it, as
//! long as the next two bytes say in KiB). Holds: a configuration that is read lists its tensors in bounded
//! memory, and a checkpoint that passes has each of them.
#![no_main]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use worker::qwen3_vl::checkpoint::{Checkpoint, expected_tensors};
use worker::qwen3_vl::config::Config;

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir_in(fuzz::corpus::scratch_folder()).expect("a folder"));

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let (config, weights) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let config = Config::parse(config, Path::new("config.json"));
    if let Ok(config) = &config {
        let most = 20 * (config.text.layers + config.vision.depth) + 100;
        assert!(expected_tensors(config).len() <= most);
    }
    let Some((hole, file)) = weights.split_first_chunk::<2>() else { return };
    let checkpoint = open(file, u64::from(u16::from_le_bytes(*hole)) << 10);
    if let (Ok(config), Some(checkpoint)) = (config, checkpoint)
        && checkpoint.check(&config).is_ok()
    {
        assert!(!file.is_empty(), "every tensor is in the header");
    }
});

fn open(file: &[u8], hole: u64) -> Option<Checkpoint> {
    let path = FOLDER.path().join("model.safetensors");
    let mut weights = File::create(path).expect("a file can be made");
    weights.write_all(file).expect("it can be written");
    weights.set_len(file.len() as u64 + hole).expect("it can be made longer");
    Checkpoint::open(FOLDER.path()).ok()
}

fn config() -> Value {
    json!({
        "image_token_id": 5,
        "text_config": {
            "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "rms_norm_eps": 1e-6,
            "rope_theta": 5_000_000, "rope_scaling": {"mrope_interleaved": true, "mrope_section": [2, 1, 1]}
        },
        "vision_config": {
            "depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": 8,
            "num_position_embeddings": 4, "deepstack_visual_indexes": [0], "patch_size": 16,
            "temporal_patch_size": 2, "spatial_merge_size": 2, "in_channels": 3
        }
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let config = config().to_string();
    let parsed = Config::parse(config.as_bytes(), Path::new("config.json")).expect("our own configuration");
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut at = 0;
    for (name, shape) in expected_tensors(&parsed) {
        let end = at + 2 * shape.iter().product::<usize>();
        header.insert(
            format!("model.{name}"),
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let header = Value::Object(header).to_string();
    let weights = |length: u64, hole: u16| {
        let length = length.to_le_bytes();
        [config.as_bytes(), &[0], &hole.to_le_bytes(), &length, header.as_bytes()].concat()
    };
    let hole = at.div_ceil(1024) as u16;
    let small = [
        b"{}\0\x01\0".as_slice(),
        &57_u64.to_le_bytes(),
        br#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
    ];
    let whole = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    open(&whole, u64::from(hole) << 10).expect("our own header").check(&parsed).expect("every tensor");
    vec![
        weights(header.len() as u64, hole),
        weights(header.len() as u64, 1),
        weights(1 << 40, hole),
        small.concat(),
    ]
}
