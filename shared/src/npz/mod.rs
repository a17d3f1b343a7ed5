//! npy and npz streams, written and read in bounded memory ([`crate::laws::Law::MemoryIsBounded`]).
//!
//! An npz of this project has four members, in this order:
//!
//! | member | array | what a row is |
//! |---|---|---|
//! | [`ITEM_IDS`] | `<U[n]` | an id in UCS-4, padded with NUL |
//! | [`EMBEDDINGS`] | `<f4` or `<f2`, `[n, d]`, C order | a vector of norm 1 |
//! | [`IMAGE_COUNTS`] | `<i4[n]` | images really used |
//! | [`METADATA`] | `<U[1]` | one JSON object, see [`crate::part::Metadata`] |
//!
//! The metadata is last, so that one ranged read of the tail holds it and the zip's directory.
//!
//! | module | what lies there |
//! |---|---|
//! | `header` | the npy header: element type and shape |
//! | `zip` | the few zip structures that an npz needs, written and read |
//! | `layout` | where each member lies, before its bytes are known |
//! | `deflate` | deflate on all cores, the same bytes on any number of them |
//! | `read` | members as bounded streams, checksums checked |
//! | `slices` | members as slices of an npz in memory |
//! | `tail` | directory and metadata from the end of a file |
//! | `rows` | text, half precision, norms |
//!
//! Deliberately absent: object arrays, Fortran order, big-endian numbers, encryption, data
//! descriptors, zip comments. Each is refused by an [`NpzError`] that names member and byte. Nothing
//! here panics on any bytes, and no size read from a file is allocated before it is bounded.

mod deflate;
mod error;
mod header;
mod layout;
mod read;
mod rows;
mod slices;
mod tail;
#[cfg(test)]
mod tests;
mod zip;

pub use error::{NpzError, NpzErrorKind};
pub use header::{ArrayHeader, Element};
pub use layout::{Crc, DeflatedMember, Layout, write_deflated_member, write_stored};
pub use read::{MemberReader, NpzReader};
pub use rows::{
    cosine, decode_text, decode_vector, encode_f16_rows, encode_text, f16_vector, norm, norm_f16, text_width,
};
pub use slices::{ArraySlice, slice_array};
pub use tail::{Tail, metadata_text, tail_metadata, tail_size};
pub use zip::{Directory, Entry, Method, ZIP64_LIMIT};

/// The first member: ids, `<U[n]`.
pub const ITEM_IDS: &str = "item_ids.npy";
/// The second member: vectors, `[n, d]`.
pub const EMBEDDINGS: &str = "embeddings.npy";
/// The third member: images used, `<i4[n]`.
pub const IMAGE_COUNTS: &str = "image_counts.npy";
/// The last member: one JSON object.
pub const METADATA: &str = "metadata.npy";
/// The members in their order.
pub const MEMBERS: [&str; 4] = [ITEM_IDS, EMBEDDINGS, IMAGE_COUNTS, METADATA];

/// The most characters an id may have in an npz. Each row is as wide as the longest id, so one
/// absurd id would make the whole file absurd.
pub const MAX_ID_CHARACTERS: u64 = 65_536;
/// The most characters of a metadata object: room for the reasons of tens of thousands of items.
pub const MAX_METADATA_CHARACTERS: u64 = 16 << 20;
/// The most components of a vector.
pub const MAX_DIM: u64 = 1 << 20;
