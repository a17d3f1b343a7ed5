//! Image roots (folders and zips, read in place) and the rules that match a path to an entry.
//!
//! | module | what lies there |
//! |---|---|
//! | [`path`] | how a path is written: slashes, NFC, dates, what is refused |
//! | [`folder`] | a folder's files |
//! | [`size`] | how large a picture is, from its first bytes |
//! | `walk` | a folder's files, listed by several threads |
//! | [`zip`] | a zip's entries |
//! | [`index`] | the entries of one root: 40 bytes each beside the path |
//! | [`roots`] | all roots, the rules in order, and reading an entry |

pub mod error;
pub mod folder;
pub mod index;
pub mod path;
pub mod roots;
pub mod size;
mod walk;
pub mod zip;

pub use error::ImagesError;
pub use path::check_path;
pub use roots::{FoundImage, ImageRoots, Match};

/// The largest file that counts as an image: the 100 megapixels that are decoded have at most 800 MB in
/// 16-bit RGBA, stored as they are. A larger one is a bomb (a sparse file, zeros that a zip packs a
/// thousandfold) and is not listed, so that an item that names it goes on without it.
pub const LARGEST_IMAGE: u64 = 1 << 30;
