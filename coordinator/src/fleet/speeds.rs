//! Items a second by model and GPU: what is known before a box is rented.
//!
//! The table that comes with the program is `infra/vast/speeds.json`. A file of the working folder goes before it, and a
//! finished run writes what it measured there.

use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::model::{ModelRecord, RecordKind};

/// The table that comes with the program.
const BUILT_IN: &str = include_str!("../../../infra/vast/speeds.json");

/// The file of the working folder.
pub const FILE_NAME: &str = "embed-fleet.speeds.json";

/// The model that others are scaled from by their size, and its bytes.
const YARDSTICK: (&str, f64) = ("Qwen3-VL-Embedding-8B", 16.3e9);

/// What a GPU that nobody measured is taken for.
const UNKNOWN_GPU: f64 = 5.0;

/// No model is faster, however small: fetching and decoding take time.
const FASTEST: f64 = 2_000.0;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// The model's name without owner and revision.
    pub model: String,
    /// The GPU as the market names it.
    pub gpu: String,
    /// Items a second of one GPU.
    pub items_per_second: f64,
    /// Where the number comes from.
    pub source: String,
}

/// The table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpeedsError {
    /// It cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It is no table.
    #[error("{path} is no table of speeds")]
    Parse {
        /// The file.
        path: String,
        /// The cause.
        source: serde_json::Error,
    },
}

/// What is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Speeds {
    /// Of the working folder, which go before the others.
    measured: Vec<Speed>,
    built_in: Vec<Speed>,
}

impl Speeds {
    /// Nothing is known.
    pub fn none() -> Self {
        Self { measured: Vec::new(), built_in: Vec::new() }
    }

    /// The built-in table, behind the file where there is one.
    pub fn read(file: &Path) -> Result<Self, SpeedsError> {
        let path = file.display().to_string();
        let measured = match std::fs::read(file) {
            Ok(json) => {
                serde_json::from_slice(&json).map_err(|source| SpeedsError::Parse { path, source })?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(SpeedsError::File { path, source }),
        };
        let built_in = serde_json::from_str(BUILT_IN)
            .map_err(|source| SpeedsError::Parse { path: "the built-in table".to_owned(), source })?;
        Ok(Self { measured, built_in })
    }

    /// Items a second of one GPU with this model.
    pub fn of(&self, model: &ModelRecord, gpu: &str) -> f64 {
        if let Some(speed) = self.line(&short_name(model), gpu) {
            return speed.items_per_second;
        }
        let yardstick = self.line(YARDSTICK.0, gpu).map_or(UNKNOWN_GPU, |speed| speed.items_per_second);
        (yardstick * YARDSTICK.1 / (model.bytes() as f64).max(1.0)).min(FASTEST)
    }

    fn line(&self, model: &str, gpu: &str) -> Option<&Speed> {
        let all = self.measured.iter().chain(&self.built_in);
        let is_it = |speed: &&Speed| speed.model == model && same_gpu(&speed.gpu, gpu);
        all.into_iter().find(is_it)
    }

    /// Keeps a measurement in the place of an older one.
    pub fn measure(&mut self, speed: Speed) {
        self.measured.retain(|old| old.model != speed.model || !same_gpu(&old.gpu, &speed.gpu));
        self.measured.push(speed);
    }

    /// Writes the measurements down, whole or not at all.
    pub fn write(&self, file: &Path) -> Result<(), SpeedsError> {
        let path = file.display().to_string();
        let json = serde_json::to_string_pretty(&self.measured)
            .map_err(|source| SpeedsError::Parse { path: path.clone(), source })?;
        let new = file.with_extension("new");
        std::fs::write(&new, json + "\n")
            .and_then(|()| std::fs::rename(&new, file))
            .map_err(|source| SpeedsError::File { path, source })
    }
}

/// The model's name without owner, folder and revision.
pub fn short_name(model: &ModelRecord) -> String {
    let name = match model.kind() {
        RecordKind::Hub(id) => id.repository,
        _ => model.name.clone(),
    };
    name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

/// `NVIDIA GeForce RTX 4090 (8.9)` and `RTX_4090` are the same.
fn same_gpu(left: &str, right: &str) -> bool {
    let plain = |name: &str| {
        let name = name.split(" (").next().unwrap_or_default().replace('_', " ").to_lowercase();
        name.trim_start_matches("nvidia ").trim_start_matches("geforce ").trim().to_owned()
    };
    plain(left) == plain(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, bytes: u64) -> ModelRecord {
        let file = shared::model::ModelFile { name: "a".into(), size: bytes, sha256: "00".repeat(32) };
        ModelRecord {
            name: name.into(),
            revision: None,
            digest: String::new(),
            stored: None,
            files: vec![file],
        }
    }

    #[test]
    fn a_measurement_goes_before_the_table_and_the_table_before_a_guess() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE_NAME);
        let mut speeds = Speeds::read(&file).unwrap();
        let large = model("/models/Qwen3-VL-Embedding-8B", 16_300_000_000);
        let known = speeds.of(&large, "RTX 4090");
        assert!(known > 1.0, "{known}");
        let half = model("other", 8_150_000_000);
        assert!((speeds.of(&half, "RTX 4090") - 2.0 * known).abs() < 1e-9);
        assert!((speeds.of(&model("hash:8", 0), "CPU") - FASTEST).abs() < 1e-9);
        let measured = Speed {
            model: "Qwen3-VL-Embedding-8B".into(),
            gpu: "NVIDIA GeForce RTX 4090 (8.9)".into(),
            items_per_second: 31.5,
            source: "run r".into(),
        };
        speeds.measure(measured.clone());
        speeds.measure(measured);
        speeds.write(&file).unwrap();
        let speeds = Speeds::read(&file).unwrap();
        assert_eq!(speeds.measured.len(), 1);
        assert!((speeds.of(&large, "RTX_4090") - 31.5).abs() < 1e-9);
        std::fs::write(&file, "{").unwrap();
        assert!(Speeds::read(&file).unwrap_err().to_string().contains(FILE_NAME));
    }
}
