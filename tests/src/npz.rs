//! Reads the arrays of an npz with the zip crate and `ndarray-npy`'s header: no code of ours that
//! wrote the file helps to read it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ndarray_npy::npy::header::Header;

/// The arrays of a merged file or a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrays {
    /// `item_ids`.
    pub ids: Vec<String>,
    /// `embeddings`, row by row.
    pub embeddings: Vec<f32>,
    /// Components of a row.
    pub dim: usize,
    /// `image_counts`.
    pub image_counts: Vec<i32>,
    /// `metadata`.
    pub metadata: String,
}

/// Reads a file.
///
/// # Panics
/// When it is not such a file.
pub fn read(path: &Path) -> Arrays {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let (_, ids) = member(&mut zip, "item_ids");
    let (shape, embeddings) = member(&mut zip, "embeddings");
    let (_, counts) = member(&mut zip, "image_counts");
    let (_, metadata) = member(&mut zip, "metadata");
    let rows = counts.len() / 4;
    Arrays {
        ids: texts(&ids, rows),
        embeddings: words(&embeddings).map(f32::from_le_bytes).collect(),
        dim: shape[1],
        image_counts: words(&counts).map(i32::from_le_bytes).collect(),
        metadata: texts(&metadata, 1).remove(0),
    }
}

impl Arrays {
    /// The largest absolute difference of any component.
    ///
    /// # Panics
    /// When the shapes differ.
    pub fn max_abs_difference(&self, other: &Self) -> f32 {
        assert_eq!(self.embeddings.len(), other.embeddings.len());
        self.embeddings.iter().zip(&other.embeddings).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Asserts equality of ids, vectors (bit for bit) and image counts.
    ///
    /// # Panics
    /// When anything differs.
    pub fn assert_same_bits(&self, other: &Self) {
        assert_eq!(self.ids, other.ids);
        assert_eq!(self.image_counts, other.image_counts);
        let bits = |arrays: &Self| arrays.embeddings.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert!(bits(self) == bits(other), "the vectors differ by up to {}", self.max_abs_difference(other));
    }
}

fn member(zip: &mut zip::ZipArchive<File>, name: &str) -> (Vec<usize>, Vec<u8>) {
    let mut bytes = Vec::new();
    zip.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    let mut rest = bytes.as_slice();
    let header = Header::from_reader(&mut rest).unwrap();
    assert!(!header.layout.is_fortran());
    (header.shape, rest.to_vec())
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]])
}

fn texts(bytes: &[u8], rows: usize) -> Vec<String> {
    if rows == 0 {
        return Vec::new();
    }
    let character = |word: [u8; 4]| char::from_u32(u32::from_le_bytes(word)).unwrap();
    bytes
        .chunks_exact(bytes.len() / rows)
        .map(|row| words(row).map(character).collect::<String>().trim_end_matches('\0').to_owned())
        .collect()
}
