//! Where each member lies, before its bytes are known; and the two ways to write members there.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::ZIP64_LIMIT;
use super::deflate::deflate;
use super::zip::{Entry, Method, directory_bytes};

/// A running CRC-32, as a zip records it.
#[derive(Debug, Clone, Default)]
pub struct Crc(crc32fast::Hasher);

impl Crc {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> u32 {
        crc32fast::hash(bytes)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds the bytes that `next` is the sum of, without looking at them again.
    pub fn combine(&mut self, next: &Self) {
        self.0.combine(&next.0);
    }

    /// The sum so far.
    pub fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

/// The places of stored members whose sizes are known and whose bytes are not yet: several members
/// can be written side by side, and the headers once their checksums are known.
#[derive(Debug, Clone)]
pub struct Layout {
    entries: Vec<Entry>,
    limit: u64,
    end: u64,
}

impl Layout {
    /// Lays out stored members of the given sizes one after the other.
    pub fn stored(members: &[(&str, u64)]) -> Self {
        Self::stored_within(members, ZIP64_LIMIT)
    }

    /// The same with another Zip64 limit, so that the wide structures can be tested on small files.
    pub(super) fn stored_within(members: &[(&str, u64)], limit: u64) -> Self {
        let mut layout = Self { entries: Vec::with_capacity(members.len()), limit, end: 0 };
        for (name, size) in members {
            layout.push(name, *size);
        }
        layout
    }

    /// Adds a stored member behind the others. Returns its position.
    pub fn push(&mut self, name: &str, size: u64) -> usize {
        let entry = Entry {
            name: name.to_owned(),
            method: Method::Stored,
            crc: 0,
            compressed: size,
            uncompressed: size,
            offset: self.end,
            wide: size >= self.limit,
        };
        self.end += entry.local_size() + size;
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// Where the bytes of a member begin.
    pub fn data_offset(&self, member: usize) -> u64 {
        self.entries[member].offset + self.entries[member].local_size()
    }

    /// Bytes of a member.
    pub fn size(&self, member: usize) -> u64 {
        self.entries[member].uncompressed
    }

    /// The name of a member.
    pub fn name(&self, member: usize) -> &str {
        &self.entries[member].name
    }

    /// Records a member's checksum, and returns its local header and where it belongs.
    pub fn seal(&mut self, member: usize, crc: u32) -> (u64, Vec<u8>) {
        let entry = &mut self.entries[member];
        entry.crc = crc;
        (entry.offset, entry.local_header())
    }

    /// Directory and end, once all members are sealed, and where they belong.
    pub fn directory(&self) -> (u64, Vec<u8>) {
        (self.end, directory_bytes(&self.entries, self.end, self.limit))
    }
}

/// An npz of stored members, in memory. Each member is given as the pieces it consists of.
pub fn write_stored(members: &[(&str, &[&[u8]])]) -> Vec<u8> {
    write_stored_within(members, ZIP64_LIMIT)
}

pub(super) fn write_stored_within(members: &[(&str, &[&[u8]])], limit: u64) -> Vec<u8> {
    let size = |pieces: &[&[u8]]| pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
    let sizes: Vec<(&str, u64)> = members.iter().map(|(name, pieces)| (*name, size(pieces))).collect();
    let mut layout = Layout::stored_within(&sizes, limit);
    let mut bytes = Vec::with_capacity(layout.end as usize + 512);
    for (position, (_, pieces)) in members.iter().enumerate() {
        let mut crc = Crc::new();
        pieces.iter().for_each(|piece| crc.update(piece));
        bytes.extend_from_slice(&layout.seal(position, crc.value()).1);
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    }
    bytes.extend_from_slice(&layout.directory().1);
    bytes
}

/// A member that was deflated into a file.
#[derive(Debug, Clone)]
pub struct DeflatedMember(Entry);

impl DeflatedMember {
    /// Directory and end of a file of deflated members, to be written after the last.
    pub fn directory(members: &[Self], offset: u64) -> Vec<u8> {
        let entries: Vec<Entry> = members.iter().map(|member| member.0.clone()).collect();
        directory_bytes(&entries, offset, ZIP64_LIMIT)
    }
}

/// Deflates `size` bytes of `source`, on all cores, as a member at the current end of `file`, which stays there.
pub fn write_deflated_member<W: Write + Seek>(
    file: &mut W,
    name: &str,
    size: u64,
    source: &mut (impl Read + Send),
) -> io::Result<DeflatedMember> {
    let offset = file.stream_position()?;
    let mut entry = Entry {
        name: name.to_owned(),
        method: Method::Deflated,
        crc: 0,
        compressed: 0,
        uncompressed: size,
        offset,
        // Deflate makes what it cannot compress at most 5 bytes in 16 KiB larger.
        wide: size + size / 2048 + 64 >= ZIP64_LIMIT,
    };
    let start = offset + entry.local_size();
    file.seek(SeekFrom::Start(start))?;
    let deflated = deflate(source, size, |piece| file.write_all(piece))?;
    let end = start + deflated.compressed;
    entry.crc = deflated.crc;
    entry.compressed = deflated.compressed;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&entry.local_header())?;
    file.seek(SeekFrom::Start(end))?;
    Ok(DeflatedMember(entry))
}
