//! Reading item files: JSON arrays and JSON Lines, streamed one item at a time.
//!
//! | module | what lies there |
//! |---|---|
//! | [`mapping`] | which field is what |
//! | [`template`] | `--text "{question}\n{choices}"` |
//! | [`order`] | files by name, numbers in names as numbers |
//! | [`scan`] | the bytes of one item after the other |
//! | [`parse`] | bytes to an [`Item`] |
//! | [`read`] | items of several files, with their places |
//! | [`spread`] | the same on all cores, in order |
//! | [`unique`] | no id twice, in 16 bytes an item |

pub mod error;
pub mod mapping;
pub mod order;
pub mod parse;
pub mod read;
pub mod scan;
pub mod spread;
pub mod template;
pub mod unique;

pub use error::{InputError, Place};
pub use mapping::FieldMapping;
pub use order::order_files;
pub use read::{ItemReader, ReadItem};
pub use spread::read_items;
pub use template::{Template, TemplateError};
pub use unique::{IdDigest, UniqueIds};

use std::collections::BTreeMap;

/// An item as a person's file has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// Its text; absent is not the same as empty.
    pub text: Option<String>,
    /// Paths of its images, as written.
    pub images: Vec<String>,
    /// What the item says of itself, for the report only.
    pub has_image: Option<bool>,
    /// Other fields that were asked for, rendered as text.
    pub fields: BTreeMap<String, String>,
}
