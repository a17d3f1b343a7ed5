//! The entries of one root by path. Text in arenas and 40 bytes an entry, so that millions of
//! images fit beside a run.

use std::hash::{BuildHasher as _, RandomState};

use super::path::fold;

/// An entry as it is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewEntry {
    /// Bytes of the image.
    pub size: u64,
    /// What the root needs to find it again.
    pub locator: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its path starts: the number of the arena times [`ARENA`], plus the place in it.
    start: u64,
    size: u64,
    locator: u64,
    length: u32,
}

/// Entries sorted by path.
#[derive(Debug, Default)]
pub struct Index {
    names: Vec<String>,
    entries: Vec<Entry>,
    /// Half a hash of the folded path, and the entry, sorted.
    folded: Vec<(u32, u32)>,
    /// Drawn anew for each index: nobody can name entries that all have one hash.
    hasher: RandomState,
    common_top: Option<String>,
}

/// Entries of one folded path that are told: two make it ambiguous, and a zip may have a million.
const MOST_ALIKE: usize = 16;

/// Bytes of names in one arena: a longer text would be moved whole when it grows.
const ARENA: usize = 1 << 26;

impl Index {
    /// Adds an entry under its normalised path.
    pub fn add(&mut self, path: &str, entry: NewEntry) {
        if self.names.last().is_none_or(|arena| arena.len() + path.len() > ARENA) {
            self.names.push(String::new());
        }
        let number = self.names.len() - 1;
        if let Some(arena) = self.names.last_mut() {
            let start = (number * ARENA + arena.len()) as u64;
            arena.push_str(path);
            let NewEntry { size, locator } = entry;
            self.entries.push(Entry { start, size, locator, length: path.len() as u32 });
        }
    }

    /// Sorts; to be called once, behind the last `add`.
    pub fn finish(&mut self) {
        // In place: a second list of entries would double the index.
        let mut entries = std::mem::take(&mut self.entries);
        entries
            .sort_unstable_by(|a, b| self.text(a).cmp(self.text(b)).then_with(|| a.locator.cmp(&b.locator)));
        entries.shrink_to_fit();
        self.entries = entries;
        self.common_top = self.find_common_top();
        self.folded = Vec::with_capacity(self.entries.len());
        for at in 0..self.entries.len() as u32 {
            self.folded.push((self.hash(&fold(self.path(at))), at));
        }
        self.folded.sort_unstable();
    }

    /// The one top folder that all entries share, where there is one.
    pub fn common_top(&self) -> Option<&str> {
        self.common_top.as_deref()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry with this very path.
    pub fn exact(&self, path: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.entries.len() as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.path(middle) < path {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        ((low as usize) < self.entries.len() && self.path(low) == path).then_some(low)
    }

    /// Entries whose folded path is that of `path`, the first [`MOST_ALIKE`] of them.
    pub fn folded(&self, path: &str) -> Vec<u32> {
        let wanted = fold(path);
        let hash = self.hash(&wanted);
        let first = self.folded.partition_point(|(other, _)| *other < hash);
        self.folded[first..]
            .iter()
            .take_while(|(other, _)| *other == hash)
            .map(|(_, at)| *at)
            .filter(|at| fold(self.path(*at)) == wanted)
            .take(MOST_ALIKE)
            .collect()
    }

    /// The path of an entry.
    pub fn path(&self, at: u32) -> &str {
        self.text(&self.entries[at as usize])
    }

    fn text(&self, entry: &Entry) -> &str {
        let (arena, first) = (entry.start as usize / ARENA, entry.start as usize % ARENA);
        &self.names[arena][first..first + entry.length as usize]
    }

    /// Bytes of an entry.
    pub fn size(&self, at: u32) -> u64 {
        self.entries[at as usize].size
    }

    /// What the root needs to find it.
    pub fn locator(&self, at: u32) -> u64 {
        self.entries[at as usize].locator
    }

    /// Half a hash: candidates are compared in full.
    fn hash(&self, folded: &str) -> u32 {
        self.hasher.hash_one(folded) as u32
    }

    fn find_common_top(&self) -> Option<String> {
        let (first, _) = self.path_of_first()?.split_once('/')?;
        let prefix = format!("{first}/");
        let shared = (0..self.entries.len() as u32).all(|at| self.path(at).starts_with(&prefix));
        shared.then_some(prefix)
    }

    fn path_of_first(&self) -> Option<&str> {
        (!self.entries.is_empty()).then(|| self.path(0))
    }
}
