//! A rehearsal of the real job at any size: made-up exam items with images, the same on every machine.
//!
//! At full size it has the figures of the real set (DESIGN, section 4): 176,443 items in 18 files, 45,368 of
//! them marked as having an image and 41,322 with images that are found, 62,658 image files in 218 `YYYYMMDD`
//! folders and 12 `YYYY/MM/DD` trees. Any smaller size keeps the proportions. `truth.json` says what a program
//! that reads it must find; [`Truth`] is its form.
//!
//! | module | what lies there |
//! |---|---|
//! | [`size`] | how many of everything |
//! | [`layout`] | which item has which images, and where each lies |
//! | [`text`] | what an item says |
//! | [`pictures`] | small valid image files, no two alike |
//! | [`write`] | the files on disk |
//! | [`floors`] | the least that `check` can do |
//! | [`fleet`] | from its files to a verified npz, by a fleet of worker processes |
//! | [`stages`] | every stage against its floor on the same disk |
//! | [`process`] | how long a program takes, and how much memory |

pub mod fleet;
pub mod floors;
pub mod layout;
pub mod pictures;
pub mod process;
pub mod size;
pub mod stages;
pub mod text;
pub mod write;

use serde::{Deserialize, Serialize};

pub use write::{Form, make};

/// What a rehearsal holds: counted while it is written, by code that reads nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Items.
    pub items: u64,
    /// Item files.
    pub item_files: u64,
    /// Bytes of the item files.
    pub item_bytes: u64,
    /// Items marked as having an image.
    pub marked: u64,
    /// Items with images that are found.
    pub marked_found: u64,
    /// Of these, items that name one more, which does not exist.
    pub marked_partly: u64,
    /// Items that are not the same as another: each with images that are found, and each text of the others once.
    pub different: u64,
    /// Images that items name.
    pub images_named: u64,
    /// Images that are named and exist.
    pub images_found: u64,
    /// Image files.
    pub image_files: u64,
    /// Image files that no item names.
    pub image_files_unused: u64,
    /// Of the image files, those that are PNG; the others are JPEG.
    pub png_files: u64,
    /// Bytes of all image files.
    pub image_bytes: u64,
    /// Bytes of the image files that are found.
    pub image_bytes_found: u64,
    /// Folders `YYYYMMDD`.
    pub day_folders: u64,
    /// Trees `YYYY/MM/DD`.
    pub year_trees: u64,
    /// SHA-256 over the item files, one after the other.
    pub items_sha256: String,
}

/// A number that is random to look at and the same on every machine: splitmix64 of `seed` and `number`.
pub(crate) fn hash(seed: u64, number: u64) -> u64 {
    let mut mixed = (seed ^ number.wrapping_mul(0xd134_2543_de82_ef95)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The same as a fraction in [0, 1).
pub(crate) fn fraction(seed: u64, number: u64) -> f64 {
    (hash(seed, number) >> 11) as f64 / (1_u64 << 53) as f64
}
