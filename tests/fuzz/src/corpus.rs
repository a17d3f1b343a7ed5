//! Seeds of a target into a folder, and bytes into a file.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::NamedTempFile;

/// Names the folder that a target writes its seeds to, instead of running.
const SEEDS: &str = "EMBED_FLEET_SEEDS";

/// Writes a target's seeds where [`SEEDS`] asks for them and ends the process; does nothing otherwise.
pub fn write_seeds(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os(SEEDS) else { return };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("the folder of seeds can be made");
    for (number, seed) in seeds().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a seed can be written");
    }
    std::process::exit(0);
}

/// A file that holds the bytes of one run after the other, for readers that want a path.
pub struct Scratch(Mutex<Option<NamedTempFile>>);

impl Scratch {
    /// No file yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Calls `work` with the path of a file of these bytes.
    pub fn with<T>(&self, bytes: &[u8], work: impl FnOnce(&Path) -> T) -> T {
        let mut file = self.0.lock().expect("no run panicked before");
        let file = file.get_or_insert_with(|| new_file().expect("a file can be made"));
        file.as_file().set_len(0).expect("the file can be cut");
        file.seek(SeekFrom::Start(0)).expect("the file can be rewound");
        file.write_all(bytes).expect("the file can be written");
        work(file.path())
    }
}

fn new_file() -> std::io::Result<NamedTempFile> {
    NamedTempFile::new_in(scratch_folder())
}

/// Where files lie that are written for every input: in memory where there is such a folder.
pub fn scratch_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
