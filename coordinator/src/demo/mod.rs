//! What `coordinator demo` works on: items, figures and a tiny model, all made here and the same every
//! time, so that the whole path runs on any machine without a download.
//!
//! | function | writes |
//! |---|---|
//! | [`write_items`] | two JSON files of Korean and English exam items, every policy for missing parts among them |
//! | [`write_figures`] | the figures that the items name, in dated folders, one of them cut off |
//! | [`write_model`] | a Qwen3-VL checkpoint of two megabytes with random weights |

mod canvas;
mod figures;
mod items;
mod model;
mod random;
mod text;
mod tokenizer;

use std::path::{Path, PathBuf};

pub use figures::write_figures;
pub use items::{Expected, write_items};
pub use model::write_model;

/// The seed of the demo.
pub const SEED: u64 = 20_240_610;

/// Why the demo's material could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}; choose another place with --dir", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content could not be made.
    #[error("cannot make {}: {reason}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl DemoError {
    fn encode(path: &Path, reason: &impl ToString) -> Self {
        Self::Encode { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What [`make`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// Items in all files.
    pub items: u64,
    /// The item files.
    pub item_files: Vec<PathBuf>,
    /// The folder with the figures.
    pub images: PathBuf,
    /// Figures in it.
    pub figures: usize,
    /// One of them, to look at.
    pub example: PathBuf,
    /// The model's folder.
    pub model: PathBuf,
}

/// Makes everything below `dir`: `items/`, `figures/` and `model/`.
pub fn make(dir: &Path) -> Result<Material, DemoError> {
    let (items, images, model) = (dir.join("items"), dir.join("figures"), dir.join("model"));
    let expected = write_items(&items, SEED)?;
    let figures = write_figures(&images, SEED)?;
    write_model(&model, SEED)?;
    Ok(Material {
        items: expected.items,
        item_files: (1..=2).map(|part| items.join(format!("items_part{part}.json"))).collect(),
        example: images.join(figures::stored_path(0)),
        images,
        figures,
        model,
    })
}

fn make_folder(path: &Path) -> Result<(), DemoError> {
    std::fs::create_dir_all(path).map_err(|source| DemoError::Write { path: path.to_owned(), source })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DemoError> {
    std::fs::write(path, bytes).map_err(|source| DemoError::Write { path: path.to_owned(), source })
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), DemoError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| DemoError::encode(path, &error))?;
    bytes.push(b'\n');
    write_file(path, &bytes)
}
