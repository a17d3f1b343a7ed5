//! Items and image bytes to a tar.

use std::io;

use bytes::Bytes;

use super::{BundleImage, BundleItem, IMAGES_FOLDER, ITEMS_ENTRY};
use crate::digest::Hasher;

/// Collects one shard.
#[derive(Debug, Default)]
pub struct BundleBuilder {
    items: Vec<BundleItem>,
    images: Vec<Bytes>,
    ids: Hasher,
}

impl BundleBuilder {
    /// An empty bundle.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the bytes of an image and answers with its entry. An image that several items name is
    /// added once, by the caller's choice.
    pub fn add_image(&mut self, bytes: Bytes) -> String {
        self.images.push(bytes);
        format!("{IMAGES_FOLDER}{}", self.images.len() - 1)
    }

    /// Adds an item whose images were added before.
    pub fn add_item(&mut self, item: BundleItem) {
        self.ids.update(item.id.as_bytes());
        self.ids.update(b"\n");
        self.items.push(item);
    }

    /// How many items were added.
    pub fn items(&self) -> u64 {
        self.items.len() as u64
    }

    /// The tar, and the digest over each id followed by a newline.
    pub fn finish(self) -> io::Result<(Vec<u8>, String)> {
        let mut lines = Vec::new();
        for item in &self.items {
            serde_json::to_writer(&mut lines, item)?;
            lines.push(b'\n');
        }
        let images: usize = self.images.iter().map(|image| image.len() + 1024).sum();
        let mut tar = tar::Builder::new(Vec::with_capacity(lines.len() + images + 4096));
        append(&mut tar, ITEMS_ENTRY, &lines)?;
        for (number, image) in self.images.iter().enumerate() {
            append(&mut tar, &format!("{IMAGES_FOLDER}{number}"), image)?;
        }
        Ok((tar.into_inner()?, self.ids.finish_hex()))
    }
}

/// An entry that says nothing of who wrote it or when.
fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    tar.append(&header, bytes)
}

impl BundleImage {
    /// An image under `entry` that the item names by `path`.
    pub fn new(entry: String, path: String) -> Self {
        Self { entry, path }
    }
}
