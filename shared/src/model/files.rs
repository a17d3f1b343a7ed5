//! Which files a model has, and their SHA-256 in a folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ModelError, ModelFile};
use crate::digest::Hasher;

/// The architecture.
pub const CONFIG: &str = "config.json";
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The prompt; the first that exists counts.
pub const CHAT_TEMPLATES: [&str; 2] = ["chat_template.jinja", "chat_template.json"];
/// How images become pixels.
pub const PREPROCESSOR: &str = "preprocessor_config.json";
/// Which shard holds which tensor. Where it exists, the weights are the shards it lists.
pub const INDEX: &str = "model.safetensors.index.json";
/// The weights of a model without an index.
pub const SINGLE_WEIGHTS: &str = "model.safetensors";

/// The files of a model, chosen from what a place holds: the four small ones, then the index and the
/// shards it lists, or the single file. `index` is the index's text where `has(INDEX)`.
pub(super) fn names(
    place: &str,
    has: impl Fn(&str) -> bool,
    index: Option<&[u8]>,
) -> Result<Vec<String>, ModelError> {
    let required = |name: &str| {
        if has(name) { Ok(name.to_owned()) } else { Err(ModelError::missing(place, name)) }
    };
    let template = CHAT_TEMPLATES.into_iter().find(|name| has(name)).unwrap_or(CHAT_TEMPLATES[0]);
    let mut names =
        vec![required(CONFIG)?, required(TOKENIZER)?, required(template)?, required(PREPROCESSOR)?];
    match index {
        Some(index) => {
            names.push(INDEX.to_owned());
            for shard in shards(place, index)? {
                names.push(required(&shard)?);
            }
        }
        None => names.push(required(SINGLE_WEIGHTS)?),
    }
    names.sort_unstable();
    Ok(names)
}

/// The files that an index lists.
fn shards(place: &str, index: &[u8]) -> Result<BTreeSet<String>, ModelError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    let bad = |reason: String| ModelError::bad_file(place, INDEX, reason);
    let index: Index = serde_json::from_slice(index).map_err(|error| bad(error.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(wrong) = shards.iter().find(|name| !is_plain_name(name)) {
        return Err(bad(format!("it lists {wrong:?}, which is not the name of a file in the same folder")));
    }
    if shards.is_empty() {
        return Err(bad("it lists no files".to_owned()));
    }
    Ok(shards)
}

/// Whether `name` names a file directly in a folder and nothing else, so that a record from elsewhere
/// cannot write outside it.
pub(super) fn is_plain_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.chars().all(legal)
}

/// Components of the model's vector, from `config.json`: the text model's hidden size.
pub(super) fn dimension(place: &str, config: &[u8]) -> Result<u32, ModelError> {
    let bad = |reason: &str| ModelError::bad_file(place, CONFIG, reason);
    let config: serde_json::Value =
        serde_json::from_slice(config).map_err(|error| bad(&format!("it is not JSON: {error}")))?;
    config
        .pointer("/text_config/hidden_size")
        .or_else(|| config.get("hidden_size"))
        .and_then(serde_json::Value::as_u64)
        .and_then(|size| u32::try_from(size).ok())
        .filter(|&size| size > 0)
        .ok_or_else(|| bad("it has no text_config.hidden_size; is this a Qwen3-VL-Embedding model?"))
}

/// The names of the model's files in a folder.
pub(super) fn names_in_folder(folder: &Path) -> Result<Vec<String>, ModelError> {
    let index = folder.join(INDEX);
    let index = match std::fs::read(&index) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(ModelError::local("read", &index, error)),
    };
    names(&folder.display().to_string(), |name| folder.join(name).is_file(), index.as_deref())
}

/// Size and SHA-256 of files of a folder, read in parallel by at most one thread a core with one
/// megabyte each. In the order of `names`.
pub(super) fn hash_files(folder: &Path, names: &[String]) -> Result<Vec<ModelFile>, ModelError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(names.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((position, name)) = take(&next, names) {
            done.push((position, hash_file(&folder.join(name), name)));
        }
        done
    };
    let mut hashed: Vec<(usize, Result<ModelFile, ModelError>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    });
    hashed.sort_unstable_by_key(|(position, _)| *position);
    hashed.into_iter().map(|(_, file)| file).collect()
}

fn take<'a>(next: &AtomicUsize, names: &'a [String]) -> Option<(usize, &'a String)> {
    let position = next.fetch_add(1, Ordering::Relaxed);
    names.get(position).map(|name| (position, name))
}

/// Size and SHA-256 of one file.
pub(super) fn hash_file(path: &Path, name: &str) -> Result<ModelFile, ModelError> {
    let failed = |error| ModelError::local("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok(ModelFile { name: name.to_owned(), size, sha256: hasher.finish_hex() });
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: [&str; 4] = [CONFIG, TOKENIZER, CHAT_TEMPLATES[0], PREPROCESSOR];

    fn folder_of(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), name.as_bytes()).unwrap();
        }
        folder
    }

    #[test]
    fn a_single_file_or_the_shards_of_the_index() {
        let folder = folder_of(&SMALL);
        std::fs::write(folder.path().join(SINGLE_WEIGHTS), b"w").unwrap();
        let single = names_in_folder(folder.path()).unwrap();
        assert_eq!(single, [CHAT_TEMPLATES[0], CONFIG, SINGLE_WEIGHTS, PREPROCESSOR, TOKENIZER]);

        let index = r#"{"metadata": {}, "weight_map": {"a": "s-2.safetensors", "b": "s-1.safetensors", "c": "s-2.safetensors"}}"#;
        std::fs::write(folder.path().join(INDEX), index).unwrap();
        let error = names_in_folder(folder.path()).unwrap_err();
        assert!(
            matches!(&error, ModelError::MissingFile { name, .. } if name == "s-1.safetensors"),
            "{error}"
        );
        for shard in ["s-1.safetensors", "s-2.safetensors"] {
            std::fs::write(folder.path().join(shard), b"w").unwrap();
        }
        let sharded = names_in_folder(folder.path()).unwrap();
        assert!(!sharded.contains(&SINGLE_WEIGHTS.to_owned()), "{sharded:?}");
        assert_eq!(sharded.len(), 7);
    }

    #[test]
    fn a_missing_file_is_named() {
        for missing in SMALL {
            let folder = folder_of(&SMALL);
            std::fs::write(folder.path().join(SINGLE_WEIGHTS), b"w").unwrap();
            std::fs::remove_file(folder.path().join(missing)).unwrap();
            let error = names_in_folder(folder.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("has no {missing};")), "{error}");
        }
    }

    #[test]
    fn an_index_cannot_leave_its_folder() {
        for shard in ["../secret", "/etc/passwd", "a/b", ".hidden", ""] {
            let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
            let error = names("here", |_| true, Some(index.as_bytes())).unwrap_err();
            assert!(matches!(error, ModelError::BadFile { .. }), "{error}");
        }
        assert!(names("here", |_| true, Some(b"{}")).is_err());
        assert!(names("here", |_| true, Some(br#"{"weight_map": {}}"#)).is_err());
    }

    #[test]
    fn hashes_come_in_order_and_are_right() {
        let names: Vec<String> = (0..20).map(|number| format!("f{number:02}")).collect();
        let folder = tempfile::tempdir().unwrap();
        for (number, name) in names.iter().enumerate() {
            std::fs::write(folder.path().join(name), vec![number as u8; number * 100_000]).unwrap();
        }
        let hashed = hash_files(folder.path(), &names).unwrap();
        for (number, file) in hashed.iter().enumerate() {
            assert_eq!(file.name, names[number]);
            assert_eq!(file.size, number as u64 * 100_000);
            assert_eq!(file.sha256, crate::digest::sha256_hex(&vec![number as u8; number * 100_000]));
        }
        let error = hash_files(folder.path(), &["nowhere".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }

    #[test]
    fn the_dimension_is_the_hidden_size() {
        assert_eq!(dimension("x", br#"{"text_config": {"hidden_size": 2048}}"#).unwrap(), 2048);
        for bad in
            ["", "{}", r#"{"text_config": {"hidden_size": -1}}"#, r#"{"text_config": {"hidden_size": 0}}"#]
        {
            assert!(dimension("x", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
