//! Members of an npz that lies in memory, as slices.

use std::ops::Range;

use super::header::ArrayHeader;
use super::zip::{Directory, Method};
use super::{Crc, NpzError, NpzErrorKind};

/// An array inside the bytes of an npz.
#[derive(Debug, Clone)]
pub struct ArraySlice {
    /// Its type and shape.
    pub header: ArrayHeader,
    /// Where its rows lie, from the first byte of the npz.
    pub rows: Range<usize>,
    /// The checksum of the rows alone: of what several parts hold it is made without another look.
    pub rows_crc: Crc,
}

/// Finds a stored member in `bytes`, the whole npz or its end (`directory.total` says how much is
/// missing in front), and checks its local header, checksum, type and shape.
pub fn slice_array(bytes: &[u8], directory: &Directory, position: usize) -> Result<ArraySlice, NpzError> {
    let entry = directory.entry(position);
    let name = entry.name.as_str();
    if entry.method != Method::Stored {
        return Err(NpzError::zip(
            entry.offset,
            format!("{name} is compressed; parts are stored as they are"),
        ));
    }
    let before = directory.total.saturating_sub(bytes.len() as u64);
    let truncated = || NpzError::new(Some(name), entry.offset, NpzErrorKind::Truncated);
    let local =
        entry.offset.checked_sub(before).and_then(|at| bytes.get(at as usize..)).ok_or_else(truncated)?;
    let length = entry.check_local(local)?;
    if entry.offset + length + entry.compressed != directory.end_of(position) {
        return Err(NpzError::zip(entry.offset, format!("{name} does not end where the next member begins")));
    }
    let end = (length + entry.compressed) as usize;
    let member = local.get(length as usize..end).ok_or_else(truncated)?;
    let data_at = entry.offset + length;
    let read = ArrayHeader::read(&mut &member[..], name, data_at);
    let header_end = read.as_ref().map_or(0, |(_, length)| (*length as usize).min(member.len()));
    let (mut crc, mut rows_crc) = (Crc::new(), Crc::new());
    crc.update(&member[..header_end]);
    rows_crc.update(&member[header_end..]);
    crc.combine(&rows_crc);
    let found = crc.value();
    // Damage first: what a damaged header says is nobody's mistake.
    if found != entry.crc {
        let kind = NpzErrorKind::Checksum { expected: entry.crc, found };
        return Err(NpzError::new(Some(name), data_at, kind));
    }
    let (header, header_length) = read?;
    header.check_kind(name).map_err(|what| NpzError::array(name, data_at, what))?;
    if header_length.saturating_add(header.data_bytes()) != entry.uncompressed {
        return Err(NpzError::array(
            name,
            data_at,
            format!("{header} does not fill its {} bytes", entry.uncompressed),
        ));
    }
    let start = (data_at - before + header_length) as usize;
    Ok(ArraySlice { rows: start..start + header.data_bytes() as usize, header, rows_crc })
}
