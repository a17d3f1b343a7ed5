//! The entries of one root by path. One arena of text and 32 bytes an entry, so that millions of
//! images fit beside a run.

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
    offset: u32,
    length: u32,
    size: u64,
    locator: u64,
}

/// Entries sorted by path.
#[derive(Debug, Default)]
pub struct Index {
    names: Vec<String>,
    entries: Vec<Entry>,
    arenas: Vec<u8>,
    /// Hash of the folded path and the entry, sorted.
    folded: Vec<(u64, u32)>,
    common_top: Option<String>,
}

/// Bytes of names in one arena: offsets are 32 bits.
const ARENA: usize = 1 << 30;

impl Index {
    /// Adds an entry under its normalised path.
    pub fn add(&mut self, path: &str, entry: NewEntry) {
        if self.names.last().is_none_or(|arena| arena.len() + path.len() > ARENA) {
            self.names.push(String::new());
        }
        let number = self.names.len() - 1;
        if let Some(arena) = self.names.last_mut() {
            let offset = arena.len() as u32;
            arena.push_str(path);
            self.entries.push(Entry {
                offset,
                length: path.len() as u32,
                size: entry.size,
                locator: entry.locator,
            });
            self.arenas.push(number as u8);
        }
    }

    /// Sorts; to be called once, behind the last `add`.
    pub fn finish(&mut self) {
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        order.sort_by(|a, b| self.path(*a).cmp(self.path(*b)).then(a.cmp(b)));
        self.entries = order.iter().map(|at| self.entries[*at as usize]).collect::<Vec<_>>();
        self.arenas = order.iter().map(|at| self.arenas[*at as usize]).collect();
        self.common_top = self.find_common_top();
        self.folded = (0..self.entries.len() as u32).map(|at| (hash(&fold(self.path(at))), at)).collect();
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

    /// All entries whose folded path is that of `path`.
    pub fn folded(&self, path: &str) -> Vec<u32> {
        let wanted = fold(path);
        let hash = hash(&wanted);
        let first = self.folded.partition_point(|(other, _)| *other < hash);
        self.folded[first..]
            .iter()
            .take_while(|(other, _)| *other == hash)
            .map(|(_, at)| *at)
            .filter(|at| fold(self.path(*at)) == wanted)
            .collect()
    }

    /// The path of an entry.
    pub fn path(&self, at: u32) -> &str {
        let entry = &self.entries[at as usize];
        let (first, length) = (entry.offset as usize, entry.length as usize);
        &self.names[self.arenas[at as usize] as usize][first..first + length]
    }

    /// Bytes of an entry.
    pub fn size(&self, at: u32) -> u64 {
        self.entries[at as usize].size
    }

    /// What the root needs to find it.
    pub fn locator(&self, at: u32) -> u64 {
        self.entries[at as usize].locator
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

/// FNV-1a: candidates are compared in full.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
