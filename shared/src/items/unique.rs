//! No id twice, in 16 bytes an item: 128-bit digests in chunks, sorted at the end. A repeated digest is
//! looked up in the files again, to name both places.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::error::{InputError, Place};
use super::mapping::FieldMapping;
use super::read::ItemReader;

/// Digests a chunk: chunks are never moved when more come.
const CHUNK: usize = 1 << 16;

/// Half the SHA-256 of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdDigest(u128);

impl IdDigest {
    /// The digest of an id.
    pub fn of(id: &str) -> Self {
        let digest = Sha256::digest(id.as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Self(u128::from_le_bytes(first))
    }

    /// The bits.
    pub fn bits(self) -> u128 {
        self.0
    }
}

/// Digests of all ids seen.
#[derive(Debug, Default)]
pub struct UniqueIds {
    chunks: Vec<Vec<IdDigest>>,
}

impl UniqueIds {
    /// Notes an id.
    pub fn note(&mut self, id: IdDigest) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(id);
        }
    }

    /// Fails with both places of an id that stands twice in the files.
    pub fn check(self, files: &[PathBuf], mapping: &FieldMapping) -> Result<(), InputError> {
        match self.repeated() {
            None => Ok(()),
            Some(repeated) => Err(find(repeated, files, mapping)?),
        }
    }

    /// A digest that stands twice: sorted chunks are merged, looking at neighbours.
    fn repeated(mut self) -> Option<IdDigest> {
        for chunk in &mut self.chunks {
            chunk.sort_unstable();
            if let Some(pair) = chunk.windows(2).find(|pair| pair[0] == pair[1]) {
                return Some(pair[0]);
            }
        }
        let mut heads: std::collections::BinaryHeap<_> = self
            .chunks
            .iter()
            .enumerate()
            .filter_map(|(number, chunk)| Some(std::cmp::Reverse((*chunk.first()?, number, 0usize))))
            .collect();
        let mut before = None;
        while let Some(std::cmp::Reverse((digest, number, at))) = heads.pop() {
            if before == Some(digest) {
                return Some(digest);
            }
            before = Some(digest);
            if let Some(next) = self.chunks[number].get(at + 1) {
                heads.push(std::cmp::Reverse((*next, number, at + 1)));
            }
        }
        None
    }
}

/// Reads the files again up to the second item with this digest.
fn find(repeated: IdDigest, files: &[PathBuf], mapping: &FieldMapping) -> Result<InputError, InputError> {
    let mut reader = ItemReader::new(files, mapping);
    let mut first: Option<Place> = None;
    while let Some(read) = reader.next_item()? {
        if IdDigest::of(&read.item.id) != repeated {
            continue;
        }
        match first {
            None => first = Some(read.place),
            Some(first) => {
                return Ok(InputError::DuplicateId { id: read.item.id, first, second: read.place });
            }
        }
    }
    let file = files.first().cloned().unwrap_or_default();
    Ok(InputError::Changed { file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_found_within_and_across_chunks() {
        let with = |ids: &mut dyn Iterator<Item = u64>| {
            let mut unique = UniqueIds::default();
            ids.for_each(|id| unique.note(IdDigest::of(&id.to_string())));
            unique.repeated()
        };
        let many = CHUNK as u64 * 2 + 5;
        assert_eq!(with(&mut (0..many)), None);
        assert_eq!(with(&mut (0..many).chain([3])), Some(IdDigest::of("3")));
        assert_eq!(with(&mut [1, 2, 1].into_iter()), Some(IdDigest::of("1")));
    }
}
