//! Where the sample and the reference lie: `EMBED_FLEET_SHARED`, or `../shared` beside the repository.

use std::path::{Path, PathBuf};

/// The folder with `sample/` and `reference/`, or `None` with a visible line where it is missing.
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
///
/// # Panics
/// When they are not there.
pub fn items(shared: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(shared.join("sample/items")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}
