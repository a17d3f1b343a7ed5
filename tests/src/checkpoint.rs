//! The tiny reference model in another layout: the same tensors in several shards with an index, and the
//! config as transformers 5 writes it.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

/// The tiny reference model, if it is on this machine.
pub fn reference_model() -> Option<PathBuf> {
    Some(crate::sample::folder()?.join("reference/model"))
}

/// Writes the model of `from` to the folder `to` with its tensors in `shards` files and an index, and its
/// config in the layout of transformers 5. The vectors it gives are the same.
pub fn split(from: &Path, to: &Path, shards: usize) -> Result<(), Box<dyn Error>> {
    for name in ["tokenizer.json", "chat_template.jinja", "preprocessor_config.json"] {
        std::fs::write(to.join(name), std::fs::read(from.join(name))?)?;
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(from.join("config.json"))?)?;
    to_transformers_5(&mut config)?;
    std::fs::write(to.join("config.json"), serde_json::to_vec_pretty(&config)?)?;

    let bytes = std::fs::read(from.join("model.safetensors"))?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let sorted: BTreeMap<String, _> = tensors.tensors().into_iter().collect();
    let total: usize = sorted.values().map(|view| view.data().len()).sum();
    let sorted: Vec<_> = sorted.into_iter().collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut weight_map = serde_json::Map::new();
    for (position, shard) in sorted.chunks(sorted.len().div_ceil(shards)).enumerate() {
        let name = format!("model-{:05}-of-{shards:05}.safetensors", position + 1);
        for (tensor, _) in shard {
            weight_map.insert(tensor.clone(), name.clone().into());
        }
        let views = shard.iter().map(|(tensor, view)| (tensor, view));
        std::fs::write(to.join(name), safetensors::serialize(views, Some(metadata.clone()))?)?;
    }
    let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    std::fs::write(to.join("model.safetensors.index.json"), serde_json::to_vec_pretty(&index)?)?;
    Ok(())
}

/// `rope_theta` and `rope_scaling` become `rope_parameters`.
fn to_transformers_5(config: &mut Value) -> Result<(), Box<dyn Error>> {
    let text = config["text_config"].as_object_mut().ok_or("the config has no text_config")?;
    let theta = text.remove("rope_theta").ok_or("the config has no rope_theta")?;
    let mut parameters = text.remove("rope_scaling").ok_or("the config has no rope_scaling")?;
    parameters["rope_theta"] = theta;
    text.insert("rope_parameters".to_owned(), parameters);
    Ok(())
}
