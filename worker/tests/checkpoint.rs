//! The header check on the published names and shapes, as sparse files.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use worker::qwen3_vl::checkpoint::{Checkpoint, CheckpointError, expected_tensors};
use worker::qwen3_vl::config::Config;

type Tensors = Vec<(String, Vec<usize>)>;

fn config(size: &str) -> Config {
    Config::parse(config_json(size).to_string().as_bytes(), Path::new("config.json")).unwrap()
}

fn config_json(size: &str) -> Value {
    let (hidden, wide, layers, heads, depth, vision, vision_wide, deep) = match size {
        "2b" => (2048, 6144, 28, 16, 24, 1024, 4096, [5, 11, 17]),
        _ => (4096, 12288, 36, 32, 27, 1152, 4304, [8, 16, 24]),
    };
    json!({
        "image_token_id": 151_655,
        "text_config": {
            "vocab_size": 151_936, "hidden_size": hidden, "intermediate_size": wide, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-6,
            "rope_theta": 5_000_000, "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20]}
        },
        "vision_config": {
            "depth": depth, "hidden_size": vision, "intermediate_size": vision_wide, "num_heads": 16,
            "out_hidden_size": hidden, "num_position_embeddings": 2304, "deepstack_visual_indexes": deep,
            "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2, "in_channels": 3
        }
    })
}

fn published(size: &str) -> Tensors {
    expected_tensors(&config(size))
        .into_iter()
        .map(|(name, shape)| (format!("model.{name}"), shape))
        .collect()
}

fn bytes_of(shape: &[usize]) -> u64 {
    shape.iter().product::<usize>() as u64 * 2
}

/// A file with a real header and a hole where the data would be; answers with its size.
fn write_sparse(path: &Path, tensors: &[(String, Vec<usize>)]) -> u64 {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    for (name, shape) in tensors {
        let end = at + bytes_of(shape);
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    let size = 8 + header.len() as u64 + at;
    file.set_len(size).unwrap();
    size
}

/// Shards of at most 5 GB in order, and their index.
fn write_sharded(folder: &Path, tensors: &Tensors) -> usize {
    let mut shards: Vec<Tensors> = vec![Vec::new()];
    let mut filled = 0;
    for (name, shape) in tensors {
        if filled + bytes_of(shape) > 5_000_000_000 {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes_of(shape);
        shards.last_mut().unwrap().push((name.clone(), shape.clone()));
    }
    let mut map = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        write_sparse(&folder.join(&file), shard);
        map.extend(shard.iter().map(|(name, _)| (name.clone(), file.clone())));
    }
    let index = json!({"metadata": {}, "weight_map": map});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    shards.len()
}

#[test]
fn the_published_2b_passes() {
    let mut tensors = published("2b");
    assert_eq!(tensors.len(), 625);
    let folder = tempfile::tempdir().unwrap();
    // Published files hold their tensors in the order of their names.
    tensors.sort();
    let size = write_sparse(&folder.path().join("model.safetensors"), &tensors);
    assert_eq!(size, 4_255_140_312, "the published file's very size: a header of 76,240 bytes and the data");
    let parameters: u64 = tensors.iter().map(|(_, shape)| bytes_of(shape) / 2).sum();
    assert_eq!(parameters, 2_127_532_032);
    Checkpoint::open(folder.path()).unwrap().check(&config("2b")).unwrap();
}

#[test]
fn the_published_8b_passes() {
    let tensors = published("8b");
    assert_eq!(tensors.len(), 749);
    let parameters: u64 = tensors.iter().map(|(_, shape)| bytes_of(shape) / 2).sum();
    assert_eq!(parameters, 8_144_793_840);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(write_sharded(folder.path(), &tensors), 4);
    Checkpoint::open(folder.path()).unwrap().check(&config("8b")).unwrap();
}

#[test]
fn names_without_the_prefix_and_a_language_head_are_fine() {
    let mut tensors = expected_tensors(&config("2b"));
    tensors.push(("lm_head.weight".to_owned(), vec![151_936, 2048]));
    let folder = tempfile::tempdir().unwrap();
    write_sparse(&folder.path().join("model.safetensors"), &tensors);
    Checkpoint::open(folder.path()).unwrap().check(&config("2b")).unwrap();
}

#[test]
fn a_wrong_shape_names_its_tensor() {
    let mut tensors = published("8b");
    let name = "model.language_model.layers.7.self_attn.k_proj.weight";
    tensors.iter_mut().find(|(other, _)| other == name).unwrap().1 = vec![1024, 4095];
    let folder = tempfile::tempdir().unwrap();
    write_sharded(folder.path(), &tensors);
    let error = Checkpoint::open(folder.path()).unwrap().check(&config("8b")).unwrap_err();
    assert!(matches!(&error, CheckpointError::Shape { name: found, .. } if found == name), "{error}");
    assert!(
        error.to_string().contains("[1024, 4095]") && error.to_string().contains("[1024, 4096]"),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let mut tensors = published("8b");
    let folder = tempfile::tempdir().unwrap();
    write_sharded(folder.path(), &tensors);
    let shard = folder.path().join("model-00003-of-00004.safetensors");
    std::fs::remove_file(&shard).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("model-00003-of-00004.safetensors"), "{error}");

    let (name, _) = tensors.remove(100);
    let folder = tempfile::tempdir().unwrap();
    write_sharded(folder.path(), &tensors);
    let error = Checkpoint::open(folder.path()).unwrap().check(&config("8b")).unwrap_err().to_string();
    assert!(error.contains(&name), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_damaged_header_is_an_error_before_anything_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for bytes in [
        u64::MAX.to_le_bytes().to_vec(),
        [(1u64 << 40).to_le_bytes().to_vec(), b"{}".to_vec()].concat(),
        [2u64.to_le_bytes().to_vec(), b"{".to_vec()].concat(),
        [2u64.to_le_bytes().to_vec(), b"[]".to_vec()].concat(),
        b"abc".to_vec(),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert!(Checkpoint::open(folder.path()).is_err());
    }
    let header = br#"{"a":{"dtype":"BF16","shape":[4611686018427387904,8],"data_offsets":[0,2]}}"#;
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_slice(), &[0, 0]].concat())
        .unwrap();
    assert!(Checkpoint::open(folder.path()).unwrap_err().to_string().contains("tensor a"));
}

#[test]
fn a_configuration_out_of_range_is_named_before_its_tensors_are_listed() {
    let huge = json!(usize::MAX);
    for (pointer, value) in [
        ("/text_config/num_hidden_layers", &huge),
        ("/text_config/num_attention_heads", &huge),
        ("/text_config/num_attention_heads", &json!(0)),
        ("/text_config/num_key_value_heads", &json!(0)),
        ("/text_config/hidden_size", &huge),
        ("/text_config/intermediate_size", &huge),
        ("/text_config/vocab_size", &huge),
        ("/text_config/head_dim", &json!(usize::MAX - 1)),
        ("/text_config/rms_norm_eps", &json!(0.0)),
        ("/vision_config/depth", &huge),
        ("/vision_config/hidden_size", &json!(1_usize << 62)),
        ("/vision_config/intermediate_size", &json!(0)),
        ("/vision_config/num_position_embeddings", &json!(1_usize << 62)),
    ] {
        let mut config = config_json("2b");
        *config.pointer_mut(pointer).unwrap() = value.clone();
        let error = Config::parse(config.to_string().as_bytes(), Path::new("config.json")).unwrap_err();
        let field = pointer[1..].replace('/', ".");
        assert!(error.to_string().contains(&field), "{pointer}: {error}");
    }
    let mut config = config_json("2b");
    config["text_config"]["rope_scaling"]["mrope_section"] = json!([usize::MAX, 64, 1]);
    assert!(Config::parse(config.to_string().as_bytes(), Path::new("config.json")).is_err());
}

#[test]
fn files_of_nothing_are_not_read_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    File::create(path("config.json")).unwrap().set_len(1 << 40).unwrap();
    let error = Config::read(&path("config.json")).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("larger than"), "{error}");
    File::create(path("model.safetensors.index.json")).unwrap().set_len(1 << 40).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("index.json") && error.contains("larger than"), "{error}");
}

#[test]
fn a_header_that_names_no_files_tensors_or_one_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let entry = r#"{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}"#;
    for (header, what) in [
        (format!(r#"{{"a":{entry},"a":{entry}}}"#), "twice"),
        (format!(r#"{{"a":{{"dtype":"BF16","shape":{:?},"data_offsets":[0,2]}}}}"#, [1; 9]), "9 dimensions"),
        (format!(r#"{{"a":{}}}"#, entry.replace("BF16", &"X".repeat(100))), "no known name"),
        (r#"{"a":{"b":[{"c":0}]}}"#.to_owned(), "tensor a"),
        ("[".repeat(200_000), "safetensors file"),
    ] {
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0, 0]].concat();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("model.safetensors"), "{what}: {error}");
    }
    for name in ["", ".", "..", "a/b", "a\\b", "a\0b"] {
        let index = json!({"weight_map": {"a": name}}).to_string();
        std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is not a file name"), "{name:?}: {error}");
    }
}
