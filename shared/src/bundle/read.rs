//! A tar back to items and image bytes. Whatever the bytes are, the answer is a bundle or an error.

use std::io::Cursor;
use std::ops::Range;

use bytes::Bytes;

use super::{BundleItem, IMAGES_FOLDER, ITEMS_ENTRY};

/// Entries a bundle may have: far more than a shard has.
const MOST_ENTRIES: usize = 1 << 20;

/// A bundle that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The tar is damaged.
    #[error("the bundle is not a tar we can read")]
    Tar(#[source] std::io::Error),
    /// An entry is not what it should be.
    #[error("the bundle's entry {entry:?} {what}")]
    Entry {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
    /// A line of `items.jsonl` is not an item.
    #[error("line {line} of the bundle's {ITEMS_ENTRY} is not an item")]
    Item {
        /// The line, from 1.
        line: usize,
        /// The cause.
        source: serde_json::Error,
    },
}

/// The items of a shard and the bytes of their images, held once.
#[derive(Debug, Clone)]
pub struct Bundle {
    bytes: Bytes,
    items: Vec<BundleItem>,
    images: Vec<Range<usize>>,
}

impl Bundle {
    /// Reads a whole tar.
    pub fn read(bytes: Bytes) -> Result<Self, BundleError> {
        let mut items = None;
        let mut images = Vec::new();
        let mut archive = tar::Archive::new(Cursor::new(bytes.as_ref()));
        for (number, entry) in archive.entries().map_err(BundleError::Tar)?.enumerate() {
            let entry = entry.map_err(BundleError::Tar)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let wrong = |what: &str| BundleError::Entry { entry: name.clone(), what: what.to_owned() };
            if number >= MOST_ENTRIES {
                return Err(wrong("is one too many"));
            }
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(wrong("is not a regular file"));
            }
            let first = entry.raw_file_position() as usize;
            let end = (entry.size() as usize).checked_add(first).filter(|end| *end <= bytes.len());
            let range = first..end.ok_or_else(|| wrong("is truncated"))?;
            if number == 0 && name == ITEMS_ENTRY {
                items = Some(parse_items(&bytes[range])?);
            } else if name == format!("{IMAGES_FOLDER}{}", images.len()) && items.is_some() {
                images.push(range);
            } else {
                return Err(wrong("does not belong here"));
            }
        }
        let items = items.ok_or_else(|| BundleError::Entry {
            entry: ITEMS_ENTRY.to_owned(),
            what: "is missing".to_owned(),
        })?;
        let bundle = Self { bytes, items, images };
        bundle.check()?;
        Ok(bundle)
    }

    /// The items in order.
    pub fn items(&self) -> &[BundleItem] {
        &self.items
    }

    /// The bytes of an image entry.
    pub fn image(&self, entry: &str) -> Option<&[u8]> {
        let number: usize = entry.strip_prefix(IMAGES_FOLDER)?.parse().ok()?;
        self.images.get(number).map(|range| &self.bytes[range.clone()])
    }

    /// Indexes follow each other, and every image an item names is there.
    fn check(&self) -> Result<(), BundleError> {
        let wrong = |entry: &str, what: String| BundleError::Entry { entry: entry.to_owned(), what };
        let first = self.items.first().map_or(0, |item| item.index);
        for (item, index) in self.items.iter().zip(first..) {
            if item.index != index {
                return Err(wrong(
                    ITEMS_ENTRY,
                    format!("has the index {} where {index} should stand", item.index),
                ));
            }
            if let Some(image) = item.images.iter().find(|image| self.image(&image.entry).is_none()) {
                return Err(wrong(&image.entry, format!("is named by item {:?} and missing", item.id)));
            }
        }
        Ok(())
    }
}

fn parse_items(bytes: &[u8]) -> Result<Vec<BundleItem>, BundleError> {
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| {
            serde_json::from_slice(line).map_err(|source| BundleError::Item { line: at + 1, source })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{BundleBuilder, BundleImage};

    fn sample() -> Bytes {
        let mut builder = BundleBuilder::new();
        let entry = builder.add_image(Bytes::from_static(b"picture"));
        for index in 5..8 {
            builder.add_item(BundleItem {
                index,
                id: format!("항목 {index}"),
                text: (index != 6).then(String::new),
                images: vec![BundleImage::new(entry.clone(), "a/b.png".to_owned())],
                missing: vec!["c.png".to_owned()],
            });
        }
        builder.finish().unwrap().0.into()
    }

    #[test]
    fn a_bundle_reads_as_it_was_built_and_builds_the_same_bytes() {
        let bundle = Bundle::read(sample()).unwrap();
        assert_eq!(bundle.items().len(), 3);
        assert_eq!(bundle.items()[1].text, None);
        assert_eq!(bundle.image("images/0"), Some(b"picture".as_slice()));
        assert_eq!(bundle.image("images/1"), None);
        assert_eq!(sample(), sample());
        let tar = sample();
        let header = tar::Header::from_byte_slice(&tar[..512]);
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        assert_eq!(header.mode().unwrap(), 0o644);
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let tar = sample();
        for length in 0..tar.len() {
            let _ = Bundle::read(tar.slice(..length));
        }
        for at in (0..tar.len()).step_by(3) {
            let mut damaged = tar.to_vec();
            damaged[at] ^= 0x41;
            let _ = Bundle::read(damaged.into());
        }
        assert!(Bundle::read(tar.slice(..1024)).is_err(), "the images are cut off");
        assert!(Bundle::read(Bytes::new()).is_err());
    }
}
