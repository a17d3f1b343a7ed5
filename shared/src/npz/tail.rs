//! Directory and metadata from the end of a file: one ranged read tells what a part is.

use std::io::Read;

use super::header::Element;
use super::read::{MemberReader, NpzReader};
use super::zip::Directory;
use super::{MAX_METADATA_CHARACTERS, MEMBERS, METADATA, NpzError, NpzErrorKind, decode_text};

/// The position of the metadata.
const LAST: usize = MEMBERS.len() - 1;

/// The most bytes from a file's end to the start of its metadata: the text, an npy header, the two
/// headers of a zip with their extra fields, and the directory. A file that asks for more gets no
/// second read.
const LARGEST_TAIL: u64 = MAX_METADATA_CHARACTERS * 4 + (1 << 20);

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

/// Directory and metadata text from the last bytes of a file of `total` bytes. The metadata's
/// checksum, type and shape are checked.
pub fn tail_metadata(tail: &[u8], total: u64) -> Result<Tail<(Directory, String)>, NpzError> {
    let directory = Directory::from_tail(tail, total)?;
    let entry = directory.entry(LAST);
    let (offset, size) = (entry.offset, entry.uncompressed);
    if size > MAX_METADATA_CHARACTERS * 4 {
        return Err(NpzError::array(
            METADATA,
            offset,
            format!("its {size} bytes are more than metadata can have"),
        ));
    }
    let wanted = total - offset;
    if wanted > LARGEST_TAIL {
        return Err(NpzError::zip(
            offset,
            format!("{METADATA} and what follows take {wanted} bytes; {LARGEST_TAIL} are the most"),
        ));
    }
    let Some(start) = (tail.len() as u64).checked_sub(wanted) else {
        return Ok(Tail::NeedMore(wanted));
    };
    let mut reader = NpzReader::last(directory, &tail[start as usize..]);
    let text = match reader.next_member()? {
        Some(member) => member_text(member, offset)?,
        None => return Err(NpzError::zip(offset, "it has no metadata")),
    };
    Ok(Tail::Complete((reader.into_directory(), text)))
}

fn member_text<R: Read>(mut member: MemberReader<'_, R>, offset: u64) -> Result<String, NpzError> {
    let mut row = vec![0; member.header().row_bytes() as usize];
    member.read_rows(&mut row)?;
    let element = member.header().element;
    member.finish()?;
    metadata_text(element, &row, offset)
}

/// The one row of the metadata member as text.
pub fn metadata_text(element: Element, row: &[u8], at: u64) -> Result<String, NpzError> {
    let wrong = |what: String| NpzError::new(Some(METADATA), at, NpzErrorKind::Value(what));
    match element {
        Element::Text { .. } => decode_text(row).map_err(wrong),
        _ => Err(wrong("it is not text".to_owned())),
    }
}
