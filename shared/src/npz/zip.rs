//! The few zip structures that an npz needs (APPNOTE 6.3.10: 4.3.7 local header, 4.3.12 central
//! directory, 4.3.14 to 4.3.16 its end, 4.5.3 Zip64).
//!
//! Written here and not by a zip library because parts must be the same bytes on every machine
//! ([`crate::laws::Law::SameBytesAgain`]), because every member's place must be known before its
//! bytes (`merge` writes all members side by side), and because a reader of foreign bytes must bound
//! what it allocates.

use super::{MEMBERS, NpzError};

/// Sizes and offsets from here on need Zip64.
pub const ZIP64_LIMIT: u64 = 0xffff_ffff;

/// The system in "version made by": 3, Unix.
const MADE_ON_UNIX: u16 = 0x0300;
/// 1980-01-01, the first day that a zip can tell.
const DATE: u16 = 0x0021;
const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
pub(super) const LOCAL_SIZE: u64 = 30;
const CENTRAL_SIZE: usize = 46;
const END_SIZE: usize = 22;
const END64_SIZE: usize = 56;
const LOCATOR_SIZE: usize = 20;
/// The most bytes of a directory that are read: four entries take about 300.
const MAX_DIRECTORY: u64 = 4096;
/// Bytes that a byte of deflate gives at most, with room for the odd start: a member that says it holds
/// more is refused before anything is read or reserved for it.
const MOST_DEFLATED: u64 = 1040;
/// The largest file: positions in one are signed 64-bit numbers.
const LARGEST_FILE: u64 = i64::MAX as u64;
/// Bits that may be set: 1 and 2 are hints of the compressor, 11 says that the name is UTF-8.
const LEGAL_FLAGS: u16 = 1 << 1 | 1 << 2 | 1 << 11;

/// How a member is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As it is.
    Stored,
    /// Deflated.
    Deflated,
}

impl Method {
    fn code(self) -> u16 {
        match self {
            Self::Stored => 0,
            Self::Deflated => 8,
        }
    }
}

/// A member of the zip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How it is stored.
    pub method: Method,
    /// CRC-32 of its bytes.
    pub crc: u32,
    /// Bytes in the file.
    pub compressed: u64,
    /// Bytes once read.
    pub uncompressed: u64,
    /// Where its local header begins.
    pub offset: u64,
    /// Whether the local header has room for 64-bit sizes: fixed before they are known.
    pub wide: bool,
}

impl Entry {
    /// Bytes of the local header as this module writes it.
    pub(super) fn local_size(&self) -> u64 {
        LOCAL_SIZE + self.name.len() as u64 + if self.wide { 20 } else { 0 }
    }

    /// The local header.
    pub(super) fn local_header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.local_size() as usize);
        put32(&mut bytes, LOCAL_SIGNATURE);
        put16(&mut bytes, if self.wide { 45 } else { 20 });
        self.put_common(&mut bytes, self.wide, self.wide);
        put16(&mut bytes, if self.wide { 20 } else { 0 });
        bytes.extend_from_slice(self.name.as_bytes());
        if self.wide {
            put16(&mut bytes, 1);
            put16(&mut bytes, 16);
            put64(&mut bytes, self.uncompressed);
            put64(&mut bytes, self.compressed);
        }
        bytes
    }

    fn central_header(&self, limit: u64, bytes: &mut Vec<u8>) {
        let wide: Vec<u64> = [self.uncompressed, self.compressed, self.offset]
            .into_iter()
            .filter(|value| *value >= limit)
            .collect();
        let version = if wide.is_empty() && !self.wide { 20 } else { 45 };
        put32(bytes, CENTRAL_SIGNATURE);
        // Made by "Unix", so that the mode below counts.
        put16(bytes, MADE_ON_UNIX + version);
        put16(bytes, version);
        self.put_common(bytes, self.uncompressed >= limit, self.compressed >= limit);
        put16(bytes, if wide.is_empty() { 0 } else { 4 + 8 * wide.len() as u16 });
        // Comment, disk, internal attributes.
        bytes.extend_from_slice(&[0; 6]);
        put32(bytes, 0o100_644 << 16);
        put32(bytes, if self.offset >= limit { u32::MAX } else { self.offset as u32 });
        bytes.extend_from_slice(self.name.as_bytes());
        if !wide.is_empty() {
            put16(bytes, 1);
            put16(bytes, 8 * wide.len() as u16);
            for value in &wide {
                put64(bytes, *value);
            }
        }
    }

    /// Flags to name length, the same in both headers.
    fn put_common(&self, bytes: &mut Vec<u8>, wide_uncompressed: bool, wide_compressed: bool) {
        put16(bytes, 0);
        put16(bytes, self.method.code());
        put16(bytes, 0);
        put16(bytes, DATE);
        put32(bytes, self.crc);
        put32(bytes, if wide_compressed { u32::MAX } else { self.compressed as u32 });
        put32(bytes, if wide_uncompressed { u32::MAX } else { self.uncompressed as u32 });
        put16(bytes, self.name.len() as u16);
    }

    /// Checks a local header against the directory. `header` is everything from the member's offset
    /// on that is at hand: 30 bytes tell how long it is. Returns its length.
    pub(super) fn check_local(&self, header: &[u8]) -> Result<u64, NpzError> {
        let wrong =
            |what: &str| NpzError::zip(self.offset, format!("the local header of {} {what}", self.name));
        let fields = Fields(header);
        if fields.u32(0) != Some(LOCAL_SIGNATURE) {
            return Err(wrong("is missing"));
        }
        let (Some(name), Some(extra)) = (fields.u16(26), fields.u16(28)) else {
            return Err(wrong("is cut off"));
        };
        let length = LOCAL_SIZE + u64::from(name) + u64::from(extra);
        let Some(rest) = header.get(LOCAL_SIZE as usize..length as usize) else {
            // The caller holds only the fixed part so far.
            return Ok(length);
        };
        let (found_name, extra) = rest.split_at(usize::from(name));
        if found_name != self.name.as_bytes() {
            return Err(wrong("has another name"));
        }
        let narrow = |at| fields.u32(at).map_or(0, u64::from);
        let mut sizes = [narrow(22), narrow(18)];
        widen(&mut sizes, extra).ok_or_else(|| wrong("has broken extra fields"))?;
        let same = fields.u16(6).is_some_and(|flags| flags & !LEGAL_FLAGS == 0)
            && fields.u16(8) == Some(self.method.code())
            && fields.u32(14) == Some(self.crc)
            && sizes == [self.uncompressed, self.compressed];
        if same { Ok(length) } else { Err(wrong("says otherwise than the directory")) }
    }
}

/// What comes after the members, given them all: directory and end. `limit` is [`ZIP64_LIMIT`]
/// except in tests of the wide structures.
pub(super) fn directory_bytes(entries: &[Entry], offset: u64, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        entry.central_header(limit, &mut bytes);
    }
    let size = bytes.len() as u64;
    let count = entries.len() as u16;
    let wide = offset >= limit;
    if wide {
        put32(&mut bytes, END64_SIGNATURE);
        put64(&mut bytes, END64_SIZE as u64 - 12);
        put16(&mut bytes, MADE_ON_UNIX + 45);
        put16(&mut bytes, 45);
        bytes.extend_from_slice(&[0; 8]);
        put64(&mut bytes, u64::from(count));
        put64(&mut bytes, u64::from(count));
        put64(&mut bytes, size);
        put64(&mut bytes, offset);
        put32(&mut bytes, LOCATOR_SIGNATURE);
        put32(&mut bytes, 0);
        put64(&mut bytes, offset + size);
        put32(&mut bytes, 1);
    }
    put32(&mut bytes, END_SIGNATURE);
    put32(&mut bytes, 0);
    put16(&mut bytes, count);
    put16(&mut bytes, count);
    put32(&mut bytes, size as u32);
    put32(&mut bytes, if wide { u32::MAX } else { offset as u32 });
    put16(&mut bytes, 0);
    bytes
}

/// The zip's directory: the four members of an npz, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The members.
    pub entries: Vec<Entry>,
    /// Where the directory begins, which is where the last member ends.
    pub offset: u64,
    /// Bytes of the file.
    pub total: u64,
}

impl Directory {
    /// Reads the directory from the last bytes of a file of `total` bytes. 8 KiB always suffice.
    pub fn from_tail(tail: &[u8], total: u64) -> Result<Self, NpzError> {
        if total > LARGEST_FILE {
            return Err(NpzError::zip(0, format!("a file of {total} bytes cannot be")));
        }
        let start = total.saturating_sub(tail.len() as u64);
        let end_at = tail
            .len()
            .checked_sub(END_SIZE)
            .ok_or_else(|| NpzError::zip(0, "it is too short to be a zip"))?;
        let (size, offset, count, directory_end) = read_end(tail, end_at, start)?;
        let wrong = |what: &str| NpzError::zip(start + end_at as u64, what);
        if count != MEMBERS.len() as u64 {
            return Err(wrong(&format!(
                "it has {count} members, and an npz of this project has {}",
                MEMBERS.len()
            )));
        }
        if size > MAX_DIRECTORY || offset.checked_add(size) != Some(directory_end) {
            return Err(wrong("its directory is not where its end says"));
        }
        let begin =
            offset.checked_sub(start).ok_or_else(|| wrong("its directory is not among the bytes read"))?;
        let bytes = tail
            .get(begin as usize..(begin + size) as usize)
            .ok_or_else(|| wrong("its directory is cut off"))?;
        let directory = Self { entries: read_entries(bytes, offset)?, offset, total };
        directory.check_members()?;
        Ok(directory)
    }

    /// The member at a position of [`MEMBERS`].
    pub fn entry(&self, position: usize) -> &Entry {
        &self.entries[position]
    }

    /// Where the member at a position ends: where the next begins, or the directory.
    pub(super) fn end_of(&self, position: usize) -> u64 {
        self.entries.get(position + 1).map_or(self.offset, |next| next.offset)
    }

    fn check_members(&self) -> Result<(), NpzError> {
        let wrong = |what: String| NpzError::new(None, self.offset, super::NpzErrorKind::Members(what));
        let names: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        if names != MEMBERS {
            return Err(wrong(format!("found {names:?}, and they must be {MEMBERS:?} in this order")));
        }
        let mut end = 0;
        for (position, entry) in self.entries.iter().enumerate() {
            let least =
                entry.offset.checked_add(LOCAL_SIZE).and_then(|start| start.checked_add(entry.compressed));
            // Between a member's fixed header and its bytes lie its name and extra fields, and nothing more: a
            // directory alone tells how large a file may be that is then fetched whole.
            let variable = entry.name.len() as u64 + u64::from(u16::MAX);
            let gap = least.and_then(|least| self.end_of(position).checked_sub(least));
            let fits = entry.offset >= end
                && (position > 0 || entry.offset == 0)
                && gap.is_some_and(|gap| gap <= variable);
            if !fits {
                return Err(wrong(format!("{} does not lie between its neighbours", entry.name)));
            }
            if entry.method == Method::Stored && entry.compressed != entry.uncompressed {
                return Err(wrong(format!("{} is stored and has two sizes", entry.name)));
            }
            let most = entry.compressed.saturating_add(1).saturating_mul(MOST_DEFLATED);
            if entry.uncompressed > most {
                return Err(wrong(format!(
                    "{} cannot hold its {} bytes in {}",
                    entry.name, entry.uncompressed, entry.compressed
                )));
            }
            end = entry.offset + LOCAL_SIZE;
        }
        Ok(())
    }
}

/// Reads the end records: size, offset and members of the directory, and where it must end.
fn read_end(tail: &[u8], at: usize, start: u64) -> Result<(u64, u64, u64, u64), NpzError> {
    let wrong = |what: &str| NpzError::zip(start + at as u64, what);
    let end = Fields(&tail[at..]);
    if end.u32(0) != Some(END_SIGNATURE) || end.u16(20) != Some(0) {
        return Err(wrong("it does not end as an npz does: it is cut off, or no npz"));
    }
    let one_disk = end.u32(4) == Some(0) && end.u16(8) == end.u16(10);
    let (Some(count), Some(size), Some(offset), true) = (end.u16(8), end.u32(12), end.u32(16), one_disk)
    else {
        return Err(wrong("its end record is broken"));
    };
    if count != u16::MAX && size != u32::MAX && offset != u32::MAX {
        return Ok((size.into(), offset.into(), count.into(), start + at as u64));
    }
    let broken = || wrong("its Zip64 end record is missing or broken");
    let locator_at = at.checked_sub(LOCATOR_SIZE).ok_or_else(broken)?;
    let record_at = locator_at.checked_sub(END64_SIZE).ok_or_else(broken)?;
    let (locator, record) = (Fields(&tail[locator_at..]), Fields(&tail[record_at..]));
    let legal = locator.u32(0) == Some(LOCATOR_SIGNATURE)
        && locator.u64(8) == Some(start + record_at as u64)
        && record.u32(0) == Some(END64_SIGNATURE)
        && record.u64(4) == Some(END64_SIZE as u64 - 12)
        && record.u64(24) == record.u64(32);
    match (record.u64(40), record.u64(48), record.u64(24), legal) {
        (Some(size), Some(offset), Some(count), true) => Ok((size, offset, count, start + record_at as u64)),
        _ => Err(broken()),
    }
}

fn read_entries(mut bytes: &[u8], offset: u64) -> Result<Vec<Entry>, NpzError> {
    let mut entries = Vec::with_capacity(MEMBERS.len());
    while !bytes.is_empty() {
        let (entry, size) = read_entry(bytes).map_err(|what| NpzError::zip(offset, what))?;
        entries.push(entry);
        bytes = &bytes[size..];
        if entries.len() > MEMBERS.len() {
            return Err(NpzError::zip(offset, "its directory has more members than its end says"));
        }
    }
    Ok(entries)
}

fn read_entry(bytes: &[u8]) -> Result<(Entry, usize), String> {
    let broken = || "its directory is broken".to_owned();
    let fields = Fields(bytes);
    if fields.u32(0) != Some(CENTRAL_SIGNATURE) {
        return Err(broken());
    }
    let number = |at| fields.u16(at).map(usize::from).ok_or_else(broken);
    let narrow = |at| fields.u32(at).map(u64::from).ok_or_else(broken);
    let (name, extra, comment) = (number(28)?, number(30)?, number(32)?);
    let size = CENTRAL_SIZE + name + extra + comment;
    let rest = bytes.get(CENTRAL_SIZE..size).ok_or_else(broken)?;
    let mut values = [narrow(24)?, narrow(20)?, narrow(42)?];
    widen(&mut values, &rest[name..name + extra]).ok_or_else(broken)?;
    let name = std::str::from_utf8(&rest[..name]).map_err(|_| broken())?.to_owned();
    let method = match number(10)? {
        0 => Method::Stored,
        8 => Method::Deflated,
        other => {
            return Err(format!("{name} uses compression method {other}; only stored and deflated are read"));
        }
    };
    if number(8)? & !usize::from(LEGAL_FLAGS) != 0 {
        return Err(format!("{name} is encrypted or has its sizes after its bytes"));
    }
    let [uncompressed, compressed, offset] = values;
    let crc = fields.u32(16).ok_or_else(broken)?;
    Ok((Entry { name, method, crc, compressed, uncompressed, offset, wide: false }, size))
}

/// Replaces each value that says "see the Zip64 extra field" by what that field says.
fn widen(values: &mut [u64], mut extra: &[u8]) -> Option<()> {
    let mut wide: &[u8] = &[];
    while !extra.is_empty() {
        let fields = Fields(extra);
        let (id, size) = (fields.u16(0)?, usize::from(fields.u16(2)?));
        let body = extra.get(4..4 + size)?;
        if id == 1 {
            wide = body;
        }
        extra = &extra[4 + size..];
    }
    for value in values.iter_mut().filter(|value| **value == u64::from(u32::MAX)) {
        *value = Fields(wide).u64(0)?;
        wide = &wide[8..];
    }
    Some(())
}

/// Little-endian numbers at positions of bytes that may be too few.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }
}

fn put16(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}
