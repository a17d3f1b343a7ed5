//! Name, size and metadata of a part: what one ranged read of its end tells.

use super::validate::PartExpectation;
use super::{Metadata, PartError, PartErrorKind, decode_null_embedding};
use crate::excerpt::excerpt;
use crate::ids::ContentName;
use crate::npz::{self, ArrayHeader, Directory, Element, Method, Tail};

/// A part whose name, size and metadata are as they must be. Its rows were not looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct PartSummary {
    /// Its name.
    pub name: ContentName,
    /// Its metadata.
    pub metadata: Metadata,
    /// Characters of a row of its ids.
    pub id_width: u64,
}

/// Validates a part of `size` bytes by name, size and its last bytes. [`crate::npz::tail_size`] bytes
/// suffice for most; the answer may ask for more.
pub fn validate_tail(
    name: &str,
    size: u64,
    tail: &[u8],
    expectation: PartExpectation<'_>,
) -> Result<Tail<PartSummary>, PartError> {
    let content = check_name(name, expectation)?;
    let read = npz::tail_metadata(tail, size).map_err(|error| PartError::damaged(name, error))?;
    let (directory, text) = match read {
        Tail::NeedMore(bytes) => return Ok(Tail::NeedMore(bytes)),
        Tail::Complete(read) => read,
    };
    let metadata = check_metadata(name, &text, expectation)?;
    let id_width = check_sizes(name, &directory, &metadata)?;
    Ok(Tail::Complete(PartSummary { name: content, metadata, id_width }))
}

/// Checks that the name is that of a part of this shard.
pub(super) fn check_name(name: &str, expectation: PartExpectation<'_>) -> Result<ContentName, PartError> {
    let foreign = |what: String| PartError::new(name, PartErrorKind::Foreign(what));
    let content = ContentName::parse_part(name).map_err(|error| foreign(error.to_string()))?;
    if content.shard == expectation.shard.id {
        Ok(content)
    } else {
        Err(foreign(format!("it is of shard {}, not {}", content.shard, expectation.shard.id)))
    }
}

/// Reads the metadata and checks all that needs no rows.
pub(super) fn check_metadata(
    name: &str,
    text: &str,
    expectation: PartExpectation<'_>,
) -> Result<Metadata, PartError> {
    let wrong = |what: String| PartError::wrong(name, what);
    let metadata: Metadata =
        serde_json::from_str(text).map_err(|error| wrong(format!("its metadata cannot be read: {error}")))?;
    if let Some((what, found, expected)) = metadata.differs_from_plan(expectation.plan) {
        return Err(match what {
            "fingerprint" | "run" => {
                let found = excerpt(&found).into_owned();
                PartError::new(name, PartErrorKind::OtherRun { what, found, expected })
            }
            _ => wrong(format!("its metadata says {what} {:?}, the plan says {expected:?}", excerpt(&found))),
        });
    }
    let shard = expectation.shard;
    if metadata.shard != Some(shard.id) {
        return Err(wrong(format!("its metadata is not of shard {}", shard.id)));
    }
    let (Some(failures), Some(dropped)) = (&metadata.failures, &metadata.dropped_images) else {
        return Err(wrong("its metadata lists no failures or dropped images".to_owned()));
    };
    if metadata.failed != failures.len() as u64
        || metadata.count.checked_add(metadata.failed) != Some(shard.items)
    {
        return Err(wrong(format!(
            "{} rows and {} of {} failures do not account for the {} items of the shard",
            metadata.count,
            failures.len(),
            metadata.failed,
            shard.items
        )));
    }
    let Some(end) = expectation.first_index.checked_add(shard.items) else {
        return Err(wrong("its shard lies past the last possible index".to_owned()));
    };
    let range = expectation.first_index..end;
    if let Some(reason) = failures.iter().chain(dropped).find(|reason| !range.contains(&reason.index)) {
        let id = excerpt(&reason.id);
        return Err(wrong(format!("item {id:?} with index {} is not in this shard", reason.index)));
    }
    if failures.windows(2).any(|pair| pair[0].index >= pair[1].index) {
        return Err(wrong("its failures are not in order, each once".to_owned()));
    }
    if metadata.devices.len() != 1 || metadata.batch_tokens.len() != 1 {
        return Err(wrong("its metadata names no single device and batch budget".to_owned()));
    }
    decode_null_embedding(&metadata).map_err(wrong)?;
    Ok(metadata)
}

/// Checks the members' sizes against rows and dimension, and finds how wide the ids are: the size
/// of their member allows one width.
fn check_sizes(name: &str, directory: &Directory, metadata: &Metadata) -> Result<u64, PartError> {
    let wrong = |what: String| PartError::wrong(name, what);
    let rows = metadata.count;
    if let Some(entry) = directory.entries.iter().find(|entry| entry.method != Method::Stored) {
        return Err(wrong(format!("{} is compressed; parts are stored as they are", entry.name)));
    }
    for (position, header) in [
        (1, ArrayHeader::matrix(Element::F32, rows, metadata.dim.into())),
        (2, ArrayHeader::vector(Element::I32, rows)),
    ] {
        let entry = directory.entry(position);
        let expected = (header.to_bytes().len() as u64).saturating_add(header.data_bytes());
        if entry.uncompressed != expected {
            return Err(wrong(format!(
                "{} has {} bytes, not the {expected} of {header}",
                entry.name, entry.uncompressed
            )));
        }
    }
    let size = directory.entry(0).uncompressed;
    let fits = |width: &u64| {
        let header = ArrayHeader::vector(Element::Text { width: *width }, rows);
        (header.to_bytes().len() as u64).saturating_add(header.data_bytes()) == size
    };
    let row = rows.max(1).saturating_mul(4);
    // A header has 64 to 192 bytes.
    let candidates = size.saturating_sub(192) / row..=(size / row).min(npz::MAX_ID_CHARACTERS);
    let width = candidates.into_iter().find(fits);
    match width {
        Some(width) => Ok(width.max(1)),
        None if rows == 0 => Ok(1),
        None => Err(wrong(format!("{} has {size} bytes, which {rows} ids cannot have", npz::ITEM_IDS))),
    }
}
