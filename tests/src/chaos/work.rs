//! What a run of the chaos suite computes: items, how they are planned, and the arrays of an undisturbed run.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::npz::{self, Arrays};
use crate::program::Program;
use crate::sample;

/// Items of a run with the hash embedder.
pub const ITEMS: u64 = 96;
/// Items of a shard of it.
pub const SHARD_SIZE: u64 = 8;
/// Its shards.
pub const SHARDS: u64 = ITEMS / SHARD_SIZE;
/// What a run computes.
pub struct Work {
    /// Arguments of `plan`.
    pub plan: Vec<String>,
    /// Items.
    pub items: u64,
    /// Shards.
    pub shards: u64,
    /// Arguments of a worker.
    pub worker: Vec<String>,
    /// The arrays of an undisturbed run.
    pub undisturbed: Box<dyn Fn() -> &'static Arrays>,
}

impl Work {
    /// [`ITEMS`] items for the hash embedder.
    pub fn hash() -> Self {
        Self::of(ITEMS, SHARD_SIZE)
    }

    /// So many items for the hash embedder; the file must be written ([`write_items`]). Its arrays are known
    /// for [`ITEMS`] alone.
    pub fn of(items: u64, shard_size: u64) -> Self {
        let plan = ["--items", "items.jsonl", "--model", "hash:64", "--shard-size"].map(str::to_owned);
        Self {
            plan: plan.into_iter().chain([shard_size.to_string()]).collect(),
            items,
            shards: items.div_ceil(shard_size),
            worker: Vec::new(),
            undisturbed: Box::new(undisturbed),
        }
    }

    /// The sample with the tiny model.
    pub fn sample(shared: PathBuf) -> Self {
        let text = |path: PathBuf| path.display().to_string();
        let mut plan = vec!["--items".to_owned()];
        plan.extend(sample::items(&shared).into_iter().map(text));
        plan.extend(["--images".to_owned(), text(shared.join("sample/images"))]);
        plan.extend(["--model".to_owned(), text(shared.join("reference/model"))]);
        plan.extend(["--dtype", "f32", "--shard-size", sample::SHARD_SIZE].map(str::to_owned));
        Self {
            plan,
            items: 240,
            shards: 15,
            // The budget of an undisturbed run: another one moves the last bits.
            worker: ["--batch-tokens", "4096"].map(str::to_owned).to_vec(),
            undisturbed: Box::new(move || sample::baseline(&shared)),
        }
    }
}

/// Texts of several lengths, items with missing images, and some that cannot be embedded.
pub fn write_items(folder: &Path, items: u64) {
    let item = |number: u64| match number % 16 {
        5 => serde_json::json!({"id": number, "text": format!("문항 {number}"), "images": ["none.png"]}),
        11 => serde_json::json!({"id": number, "text": "", "images": ["none.png"]}),
        kind => {
            serde_json::json!({"id": number, "text": format!("문항 {number} {}", "가나다 ".repeat(kind as usize))})
        }
    };
    let lines: Vec<String> = (0..items).map(|number| item(number).to_string()).collect();
    std::fs::write(folder.join("items.jsonl"), lines.join("\n")).unwrap();
}

/// What `coordinator run` makes of the same items, computed once.
fn undisturbed() -> &'static Arrays {
    static ARRAYS: OnceLock<Arrays> = OnceLock::new();
    ARRAYS.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        write_items(folder.path(), ITEMS);
        let out = folder.path().join("e.npz");
        let _ = Program::coordinator(folder.path())
            .args(["run", "--items", "items.jsonl", "--model", "hash:64", "--device", "cpu"])
            .args(["--shard-size", &SHARD_SIZE.to_string()])
            .flag("--out", &out)
            .output()
            .expect(0);
        npz::read(&out)
    })
}
