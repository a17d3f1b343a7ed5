//! Directory and metadata from the end of a file: one ranged read tells what a part is.

use super::header::Element;
use super::slices::slice_array;
use super::zip::Directory;
use super::{METADATA, NpzError, NpzErrorKind, decode_text};

/// What the end of a file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail<T> {
    /// Everything asked for.
    Complete(T),
    /// The metadata begins further in front: read this many bytes from the end.
    NeedMore(u64),
}

/// How many bytes from the end hold directory and metadata of most parts: the NULL vector in base64
/// takes 16/3 characters of 4 bytes a component, reasons and the rest the other half.
pub fn tail_size(dim: u32) -> u64 {
    65_536 + u64::from(dim) * 22
}

/// Directory and metadata text from the last bytes of a file of `total` bytes. The metadata must be
/// stored, as it is in parts; its checksum, type and shape are checked.
pub fn tail_metadata(tail: &[u8], total: u64) -> Result<Tail<(Directory, String)>, NpzError> {
    let directory = Directory::from_tail(tail, total)?;
    let position = directory.entries.len() - 1;
    let wanted = total - directory.entry(position).offset;
    if wanted > tail.len() as u64 {
        return Ok(Tail::NeedMore(wanted));
    }
    let slice = slice_array(tail, &directory, position)?;
    let text = metadata_text(
        slice.header.element,
        &tail[slice.rows],
        directory.entry(position).offset,
    )?;
    Ok(Tail::Complete((directory, text)))
}

/// The one row of the metadata member as text.
pub fn metadata_text(element: Element, row: &[u8], at: u64) -> Result<String, NpzError> {
    let wrong = |what: String| NpzError::new(Some(METADATA), at, NpzErrorKind::Value(what));
    match element {
        Element::Text { .. } => decode_text(row).map_err(wrong),
        _ => Err(wrong("it is not text".to_owned())),
    }
}
