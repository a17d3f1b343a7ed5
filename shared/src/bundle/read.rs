//! A tar back to items and image bytes. Whatever the bytes are, the answer is a bundle or an error.

use std::io::Cursor;
use std::ops::Range;

use bytes::Bytes;

use super::{BundleItem, IMAGES_FOLDER, ITEMS_ENTRY};
use crate::excerpt::excerpt;
use crate::npz::MAX_ID_CHARACTERS;

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
        // Raw: long names, sparse files and other extensions, which a bundle never has, are entries of a
        // foreign type here, and not instructions.
        let entries = archive.entries().map_err(BundleError::Tar)?.raw(true);
        for (number, entry) in entries.enumerate() {
            let entry = entry.map_err(BundleError::Tar)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let wrong =
                |what: &str| BundleError::Entry { entry: excerpt(&name).into_owned(), what: what.to_owned() };
            if number >= MOST_ENTRIES {
                return Err(wrong("is one too many"));
            }
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(wrong("is not a regular file"));
            }
            let first = entry.raw_file_position() as usize;
            let size = usize::try_from(entry.size()).ok();
            let end = size.and_then(|size| size.checked_add(first)).filter(|end| *end <= bytes.len());
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
        let digits = entry.strip_prefix(IMAGES_FOLDER)?;
        let number: usize = digits.parse().ok()?;
        let range = self.images.get(number)?;
        // One spelling per entry: "+0" and "00" are no names of the first.
        (digits == number.to_string()).then(|| &self.bytes[range.clone()])
    }

    /// Indexes follow each other, and every image an item names is there.
    fn check(&self) -> Result<(), BundleError> {
        let wrong =
            |entry: &str, what: String| BundleError::Entry { entry: excerpt(entry).into_owned(), what };
        let mut expected = self.items.first().map(|item| item.index);
        for item in &self.items {
            if expected != Some(item.index) {
                return Err(wrong(ITEMS_ENTRY, format!("has the index {} out of its order", item.index)));
            }
            expected = item.index.checked_add(1);
            check_id(&item.id).map_err(|what| wrong(ITEMS_ENTRY, what))?;
            if let Some(image) = item.images.iter().find(|image| self.image(&image.entry).is_none()) {
                let id = excerpt(&item.id);
                return Err(wrong(&image.entry, format!("is named by item {id:?} and missing")));
            }
        }
        Ok(())
    }
}

/// An id that a part could not hold would fail the whole shard once it is embedded.
fn check_id(id: &str) -> Result<(), String> {
    let what = if id.is_empty() {
        "is empty"
    } else if id.contains('\0') {
        "holds a NUL"
    } else if id.chars().count() as u64 > MAX_ID_CHARACTERS {
        "is longer than a part can hold"
    } else {
        return Ok(());
    };
    Err(format!("has an item whose id {:?} {what}", excerpt(id)))
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

    fn tar_of(items: &str, images: &[&str]) -> Bytes {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in
            std::iter::once((ITEMS_ENTRY, items)).chain(images.iter().map(|name| (*name, "x")))
        {
            let mut header = tar::Header::new_ustar();
            header.set_path(name).unwrap();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            tar.append(&header, bytes.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().into()
    }

    fn line(index: u64, id: &str, entry: &str) -> String {
        let images = if entry.is_empty() { vec![] } else { vec![BundleImage::new(entry.into(), "p".into())] };
        let item = BundleItem { index, id: id.into(), text: None, images, missing: vec![] };
        serde_json::to_string(&item).unwrap() + "\n"
    }

    #[test]
    fn the_last_index_of_all_is_no_overflow() {
        let last = line(u64::MAX, "a", "");
        assert_eq!(Bundle::read(tar_of(&last, &[])).unwrap().items().len(), 1);
        let error = Bundle::read(tar_of(&(last + &line(0, "b", "")), &[])).unwrap_err().to_string();
        assert!(error.contains("index 0"), "{error}");
    }

    #[test]
    fn an_image_has_one_spelling() {
        let read = |entry| Bundle::read(tar_of(&line(0, "a", entry), &["images/0"]));
        assert!(read("images/0").is_ok());
        for entry in ["images/+0", "images/00", "images/1", "images/", "0"] {
            assert!(read(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn an_id_that_no_part_can_hold_is_refused() {
        for id in [String::new(), "a\0b".into(), "x".repeat(MAX_ID_CHARACTERS as usize + 1)] {
            let error = Bundle::read(tar_of(&line(0, &id, ""), &[])).unwrap_err().to_string();
            assert!(error.contains("whose id") && error.len() < 500, "{error}");
        }
    }

    #[test]
    fn a_size_beyond_the_file_and_extensions_of_tar_are_refused() {
        let mut large = sample().to_vec();
        // The base-256 form of sizes: 2^63 - 1 bytes.
        large[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
        assert!(Bundle::read(checksummed(large)).is_err());
        for kind in [b'L', b'S', b'x', b'g', b'1', b'2', b'5'] {
            let mut foreign = sample().to_vec();
            foreign[156] = kind;
            let error = Bundle::read(checksummed(foreign)).unwrap_err().to_string();
            assert!(error.contains("regular file"), "{error}");
        }
    }

    fn checksummed(mut tar: Vec<u8>) -> Bytes {
        let mut header = tar::Header::from_byte_slice(&tar[..512]).clone();
        header.set_cksum();
        tar[..512].copy_from_slice(header.as_bytes());
        tar.into()
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
