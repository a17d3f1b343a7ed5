//! The sample and the reference: where they lie, and the baseline every other way of computing it is
//! held against.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::npz::{self, Arrays};
use crate::program::Program;

/// Items of a shard in the tests.
pub const SHARD_SIZE: &str = "16";

/// The folder with `sample/` and `reference/` (`EMBED_FLEET_SHARED`, or `../shared` beside the
/// repository), or `None` with a visible line where it is missing.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("EMBED_FLEET_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if folder.join("sample").is_dir() && folder.join("reference").is_dir() {
        folder.canonicalize().ok()
    } else {
        eprintln!(
            "skipped: {} has no sample and reference (EMBED_FLEET_SHARED names another place)",
            folder.display()
        );
        None
    }
}

/// The item files of the sample.
pub fn items(shared: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(shared.join("sample/items")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Adds items, images, model and shard size of the sample to a command.
#[must_use]
pub fn with_sample(program: Program, shared: &Path) -> Program {
    with_input(program, shared, &shared.join("sample/images"))
}

/// The same with another image root.
#[must_use]
pub fn with_input(program: Program, shared: &Path, images: &Path) -> Program {
    program
        .args(["--items"])
        .args(items(shared))
        .flag("--images", images)
        .flag("--model", shared.join("reference/model"))
        .flag("--shard-size", SHARD_SIZE)
}

/// What `coordinator run` makes of the sample, computed once for all tests of a process.
pub fn baseline(shared: &Path) -> &'static Arrays {
    static BASELINE: OnceLock<Arrays> = OnceLock::new();
    BASELINE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let out = folder.path().join("e.npz");
        let _ = with_sample(Program::coordinator(folder.path()).args(["run"]), shared)
            .flag("--out", &out)
            .args(["--workers", "2", "--device", "cpu"])
            .output()
            .expect(0);
        npz::read(&out)
    })
}
