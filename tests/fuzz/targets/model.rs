//! `config.json` and the headers of safetensors files.
//!
//! Input: a configuration and a NUL; two bytes that say how many KiB of nothing a weight file ends with; a byte that
//! says whether what follows is a header, whose length is put before it, or the file from its first byte on. Holds: a configuration that is read lists its tensors in bounded
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
    let Some(([low, high, kind], rest)) = weights.split_first_chunk::<3>() else { return };
    let mut file = rest.to_vec();
    if *kind > 0 {
        file.splice(..0, (rest.len() as u64).to_le_bytes());
    }
    let checkpoint = open(&file, u64::from(u16::from_le_bytes([*low, *high])) << 10);
    if let (Ok(config), Some(checkpoint)) = (config, checkpoint)
        && checkpoint.check(&config).is_ok()
    {
        assert!(!file.is_empty(), "every tensor is in the header");
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fuzz::mutate::numbers(data, size, max_size, seed)
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
    let weights = |length: &[u8], hole: u16| {
        let kind = u8::from(length.is_empty());
        [config.as_bytes(), &[0], &hole.to_le_bytes(), &[kind], length, header.as_bytes()].concat()
    };
    let hole = at.div_ceil(1024) as u16;
    let whole = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    open(&whole, u64::from(hole) << 10).expect("our own header").check(&parsed).expect("every tensor");
    let length = (header.len() as u64).to_le_bytes();
    vec![
        weights(&[], hole),
        weights(&length, hole),
        weights(&length, 1),
        weights(&(1_u64 << 40).to_le_bytes(), hole),
        [b"{}\0\x01\0\x01".as_slice(), br#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#]
            .concat(),
    ]
}
