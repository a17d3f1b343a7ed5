//! One shard's items and images in one tar: `items.jsonl`, then `images/<n>`.
//!
//! A bundle is a pure function of its items and image bytes (uid, gid and mtime are 0, the mode is
//! 0644), so that the same input gives the same name. It is written and read in memory bounded by
//! the shard ([`crate::laws::Law::MemoryIsBounded`]).

mod build;
mod read;

pub use build::BundleBuilder;
pub use read::{Bundle, BundleError};

use serde::{Deserialize, Serialize};

/// The entry that holds the items, the first of the tar.
const ITEMS_ENTRY: &str = "items.jsonl";

/// The folder of the images.
const IMAGES_FOLDER: &str = "images/";

/// An image inside a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleImage {
    /// The tar entry that holds its bytes: `images/<n>`.
    pub entry: String,
    /// The path as the item named it.
    pub path: String,
}

/// A line of `items.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleItem {
    /// Its position in the whole input, from 0.
    pub index: u64,
    /// Its id.
    pub id: String,
    /// Its text; absent (null) is not the same as empty.
    pub text: Option<String>,
    /// Its images that were found, in the order named.
    pub images: Vec<BundleImage>,
    /// Its images that were not, as named.
    pub missing: Vec<String>,
}
