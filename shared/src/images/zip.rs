//! The entries of a zip, read in place. Only the central directory is walked, entry by entry, so that
//! memory stays at what the index keeps; an image is read when it is asked for, from any thread.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use encoding_rs::EUC_KR;
use flate2::read::DeflateDecoder;
use oem_cp::code_table::DECODING_TABLE_CP437;

use super::LARGEST_IMAGE;
use super::error::ImagesError;
use super::index::{Index, NewEntry};
use super::path::normalise;
use crate::excerpt::excerpt;

const END_SIGNATURE: u32 = 0x0605_4b50;
const END_64_SIGNATURE: u32 = 0x0606_4b50;
const END_64_LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const END_LENGTH: u64 = 22;
const LONGEST_COMMENT: u64 = 65_535;
/// Bytes that one byte of deflate gives at most.
const MOST_DEFLATED: u64 = 1040;
/// Bytes allocated on the word of a directory; more grows with what is really read.
const LARGEST_FIRST_READ: u64 = 16 << 20;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// General purpose flags: encrypted, and names in UTF-8.
const ENCRYPTED: u16 = 1;
const UTF8: u16 = 1 << 11;

/// A zip read in place.
#[derive(Debug)]
pub struct Zip {
    path: PathBuf,
    file: File,
    /// Bytes before the archive, where a program that unpacks itself stands in front of it.
    shift: u64,
}

/// Where the central directory lies.
struct Directory {
    offset: u64,
    size: u64,
    entries: u64,
    shift: u64,
}

/// What an entry's local header tells.
struct Local {
    data: u64,
    method: u16,
}

impl Zip {
    /// Lists a zip.
    pub fn open(path: &Path) -> Result<(Self, Index), ImagesError> {
        let read_error = |source| ImagesError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read_error)?;
        let size = file.metadata().map_err(read_error)?.len();
        let mut zip = Self { path: path.to_owned(), file: file.try_clone().map_err(read_error)?, shift: 0 };
        let directory = zip.find_directory(size)?;
        zip.shift = directory.shift;
        file.seek(SeekFrom::Start(directory.offset + directory.shift)).map_err(read_error)?;
        let index =
            zip.read_directory(BufReader::with_capacity(1 << 16, file.take(directory.size)), &directory)?;
        Ok((zip, index))
    }

    /// The bytes of an entry, checked against its size and CRC.
    pub fn read(&self, entry: &str, locator: u64, size: u64) -> Result<Vec<u8>, ImagesError> {
        let wrong = |what| self.entry_error(entry, what);
        let central = self.central_at(locator).map_err(wrong)?;
        // No deflate stream holds more: a directory cannot make us allocate what no file can fill.
        if size > central.packed.saturating_mul(MOST_DEFLATED).saturating_add(MOST_DEFLATED) {
            return Err(wrong(format!(
                "{} packed bytes cannot hold the {size} its directory says",
                central.packed
            )));
        }
        let mut bytes = Vec::with_capacity(size.min(LARGEST_FIRST_READ) as usize);
        let unpacked = self.unpacked(&central).map_err(wrong)?;
        let read = unpacked.take(size.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| wrong(error.to_string()))?;
        if bytes.len() as u64 != size {
            return Err(wrong(format!("it does not have the {size} bytes its directory says")));
        }
        if crc32fast::hash(&bytes) != central.crc {
            return Err(wrong("its checksum is wrong".to_owned()));
        }
        Ok(bytes)
    }

    /// The first `most` bytes of an entry, unchecked.
    pub fn read_start(&self, entry: &str, locator: u64, most: usize) -> Result<Vec<u8>, ImagesError> {
        let wrong = |what| self.entry_error(entry, what);
        let central = self.central_at(locator).map_err(wrong)?;
        let mut bytes = Vec::new();
        let unpacked = self.unpacked(&central).map_err(wrong)?;
        let read = unpacked.take(most as u64).read_to_end(&mut bytes);
        read.map_err(|error| wrong(error.to_string()))?;
        Ok(bytes)
    }

    /// The bytes of an entry as they come.
    fn unpacked(&self, central: &Central) -> Result<Box<dyn Read + '_>, String> {
        if central.flags & ENCRYPTED != 0 {
            return Err("it is encrypted".to_owned());
        }
        let offset = central.offset.checked_add(self.shift).ok_or("its place is absurd")?;
        let local = self.local_at(offset, central.method)?;
        let packed = self.section(local.data, central.packed);
        match local.method {
            STORED => Ok(Box::new(packed)),
            DEFLATED => Ok(Box::new(DeflateDecoder::new(packed))),
            method => Err(format!("its compression method {method} is not known; use stored or deflated")),
        }
    }

    fn entry_error(&self, entry: &str, what: String) -> ImagesError {
        ImagesError::Entry { path: self.path.clone(), entry: excerpt(entry).into_owned(), what }
    }

    fn zip_error(&self, what: impl Into<String>) -> ImagesError {
        ImagesError::Zip { path: self.path.clone(), what: what.into() }
    }

    /// Finds the end record, searching backwards over a comment.
    fn find_directory(&self, size: u64) -> Result<Directory, ImagesError> {
        let length = size.min(END_LENGTH + LONGEST_COMMENT);
        let mut tail = vec![0; length as usize];
        self.file
            .read_exact_at(&mut tail, size - length)
            .map_err(|source| ImagesError::Read { path: self.path.clone(), source })?;
        let end = (0..tail.len().saturating_sub(END_LENGTH as usize - 1))
            .rev()
            .find(|at| u32_at(&tail, *at) == Some(END_SIGNATURE) && comment_fits(&tail, *at))
            .ok_or_else(|| self.zip_error("it has no end of central directory; it may be truncated"))?;
        let end_offset = size - length + end as u64;
        let mut directory = Directory {
            entries: u64::from(u16_at(&tail, end + 10).unwrap_or(0)),
            size: u64::from(u32_at(&tail, end + 12).unwrap_or(0)),
            offset: u64::from(u32_at(&tail, end + 16).unwrap_or(0)),
            shift: 0,
        };
        let mut directory_end = end_offset;
        if let Some((record, at)) = self.find_zip64(end_offset)? {
            directory = record;
            directory_end = at;
        }
        directory.shift = directory_end
            .checked_sub(directory.size)
            .and_then(|start| start.checked_sub(directory.offset))
            .ok_or_else(|| self.zip_error("its central directory lies outside the file"))?;
        // 46 bytes an entry at least: a count that cannot be true is refused before anything is read.
        if directory.entries > directory.size / 46 {
            return Err(self.zip_error("its central directory is too small for its entries"));
        }
        Ok(directory)
    }

    /// The Zip64 end record, where its locator stands before the end record.
    fn find_zip64(&self, end_offset: u64) -> Result<Option<(Directory, u64)>, ImagesError> {
        let Some(locator_offset) = end_offset.checked_sub(20) else { return Ok(None) };
        let mut locator = [0; 20];
        if self.file.read_exact_at(&mut locator, locator_offset).is_err()
            || u32_at(&locator, 0) != Some(END_64_LOCATOR_SIGNATURE)
        {
            return Ok(None);
        }
        let broken = || self.zip_error("its Zip64 end record is damaged");
        let mut record = [0; 56];
        // The record usually stands right before its locator; what the locator says can be shifted.
        for at in [locator_offset.checked_sub(56), u64_at(&locator, 8)].into_iter().flatten() {
            if self.file.read_exact_at(&mut record, at).is_ok()
                && u32_at(&record, 0) == Some(END_64_SIGNATURE)
            {
                let field = |offset| u64_at(&record, offset).ok_or_else(broken);
                let directory =
                    Directory { entries: field(32)?, size: field(40)?, offset: field(48)?, shift: 0 };
                return Ok(Some((directory, at)));
            }
        }
        Err(broken())
    }

    fn read_directory(&self, mut reader: impl Read, directory: &Directory) -> Result<Index, ImagesError> {
        let mut index = Index::default();
        let mut at = directory.offset + directory.shift;
        let mut name = Vec::new();
        let mut packed = 0u64;
        for _ in 0..directory.entries {
            let mut fixed = [0; 46];
            reader
                .read_exact(&mut fixed)
                .map_err(|_| self.zip_error("its central directory is truncated"))?;
            if u32_at(&fixed, 0) != Some(CENTRAL_SIGNATURE) {
                return Err(self.zip_error("its central directory is damaged"));
            }
            let lengths = [28, 30, 32].map(|offset| u16_at(&fixed, offset).unwrap_or(0) as usize);
            let variable: usize = lengths.iter().sum();
            name.resize(variable, 0);
            reader.read_exact(&mut name).map_err(|_| self.zip_error("its central directory is truncated"))?;
            let entry = Central::parse(&fixed, &name[lengths[0]..lengths[0] + lengths[1]]);
            let written = decode_name(&name[..lengths[0]], entry.flags & UTF8 != 0);
            packed = packed.saturating_add(entry.packed);
            if !written.ends_with(['/', '\\']) && entry.size <= LARGEST_IMAGE {
                index.add(&normalise(&written), NewEntry { size: entry.size, locator: at });
            }
            at += 46 + variable as u64;
        }
        // Entries that share bytes let a small file unpack to any size.
        if packed > directory.offset {
            return Err(self.zip_error(format!(
                "its entries overlap: they say they take {packed} bytes where there are {}",
                directory.offset
            )));
        }
        index.finish();
        Ok(index)
    }

    /// Reads one entry of the central directory again.
    fn central_at(&self, at: u64) -> Result<Central, String> {
        let mut fixed = [0; 46];
        self.file.read_exact_at(&mut fixed, at).map_err(|error| error.to_string())?;
        if u32_at(&fixed, 0) != Some(CENTRAL_SIGNATURE) {
            return Err("the zip changed while it was read; run the command again".to_owned());
        }
        let name = u64::from(u16_at(&fixed, 28).unwrap_or(0));
        let mut extra = vec![0; u16_at(&fixed, 30).unwrap_or(0).into()];
        self.file.read_exact_at(&mut extra, at + 46 + name).map_err(|error| error.to_string())?;
        Ok(Central::parse(&fixed, &extra))
    }

    fn local_at(&self, at: u64, method: u16) -> Result<Local, String> {
        let mut fixed = [0; 30];
        self.file.read_exact_at(&mut fixed, at).map_err(|error| error.to_string())?;
        if u32_at(&fixed, 0) != Some(LOCAL_SIGNATURE) {
            return Err("its local header is damaged".to_owned());
        }
        let lengths = [26, 28].map(|offset| u64::from(u16_at(&fixed, offset).unwrap_or(0)));
        Ok(Local { data: at.saturating_add(30 + lengths[0] + lengths[1]), method })
    }

    fn section(&self, first: u64, length: u64) -> Section<'_> {
        Section { file: &self.file, at: first, end: first.saturating_add(length) }
    }
}

/// What the central directory says of an entry.
struct Central {
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
}

impl Central {
    fn parse(fixed: &[u8], extra: &[u8]) -> Self {
        let word = |offset| u32_at(fixed, offset).unwrap_or(0);
        let mut entry = Self {
            flags: u16_at(fixed, 8).unwrap_or(0),
            method: u16_at(fixed, 10).unwrap_or(0),
            crc: word(16),
            packed: word(20).into(),
            size: word(24).into(),
            offset: word(42).into(),
        };
        let Some(mut wide) = zip64_field(extra) else { return entry };
        // Only fields that do not fit 32 bits stand there, in this order.
        for field in [&mut entry.size, &mut entry.packed, &mut entry.offset] {
            if *field == u64::from(u32::MAX)
                && let Some(value) = u64_at(wide, 0)
            {
                *field = value;
                wide = &wide[8..];
            }
        }
        entry
    }
}

/// The data of the Zip64 extra field.
fn zip64_field(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (id, length) = (u16_at(extra, 0)?, u16_at(extra, 2)? as usize);
        let data = extra.get(4..4 + length)?;
        if id == 1 {
            return Some(data);
        }
        extra = &extra[4 + length..];
    }
}

fn comment_fits(tail: &[u8], at: usize) -> bool {
    u16_at(tail, at + 20).is_some_and(|length| at + END_LENGTH as usize + length as usize <= tail.len())
}

/// Names without the UTF-8 flag are CP949 if that decodes, else CP437.
fn decode_name(name: &[u8], utf8: bool) -> String {
    if utf8 || name.is_ascii() {
        return String::from_utf8_lossy(name).into_owned();
    }
    match EUC_KR.decode_without_bom_handling_and_without_replacement(name) {
        Some(text) => text.into_owned(),
        None => oem_cp::decode_string_complete_table(name, &DECODING_TABLE_CP437),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A range of a file, read without moving the file's own place.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = (self.end - self.at).min(buffer.len() as u64) as usize;
        let count = self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_the_encoding_they_have() {
        assert_eq!(decode_name("그림.png".as_bytes(), true), "그림.png");
        assert_eq!(decode_name(b"\xb1\xd7\xb8\xb2.png", false), "그림.png");
        assert_eq!(decode_name(b"caf\x82.png", false), "café.png");
    }

    /// A zip of stored entries of one byte, each with the size and packed size its directory says, and
    /// the offset.
    fn zip(entries: &[(u32, u32, u32)]) -> (tempfile::TempDir, PathBuf) {
        let mut bytes = Vec::new();
        let mut directory = Vec::new();
        for (number, (size, packed, offset)) in (b'a'..).zip(entries) {
            let mut local = [0; 30];
            local[..4].copy_from_slice(&LOCAL_SIGNATURE.to_le_bytes());
            local[26] = 1;
            bytes.extend([local.as_slice(), &[number, 0]].concat());
            let mut central = [0; 46];
            central[..4].copy_from_slice(&CENTRAL_SIGNATURE.to_le_bytes());
            central[16..20].copy_from_slice(&crc32fast::hash(&[0]).to_le_bytes());
            central[20..24].copy_from_slice(&packed.to_le_bytes());
            central[24..28].copy_from_slice(&size.to_le_bytes());
            central[28] = 1;
            central[42..].copy_from_slice(&offset.to_le_bytes());
            directory.extend([central.as_slice(), &[number]].concat());
        }
        let mut end = [0; 22];
        end[..4].copy_from_slice(&END_SIGNATURE.to_le_bytes());
        end[10] = entries.len() as u8;
        end[12..16].copy_from_slice(&(directory.len() as u32).to_le_bytes());
        end[16..20].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        bytes.extend([directory.as_slice(), &end].concat());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn read(zip: &Zip, index: &Index, path: &str) -> Result<Vec<u8>, ImagesError> {
        let at = index.exact(path).unwrap();
        zip.read(path, index.locator(at), index.size(at))
    }

    #[test]
    fn an_entry_that_says_it_is_huge_is_not_listed() {
        let (_folder, path) = zip(&[(1, 1, 0), (LARGEST_IMAGE as u32 + 1, 1, 32), (4096, 1, 64)]);
        let (zip, index) = Zip::open(&path).unwrap();
        assert_eq!((index.len(), index.exact("b")), (2, None));
        assert_eq!(read(&zip, &index, "a").unwrap(), [0]);
        let error = read(&zip, &index, "c").unwrap_err().to_string();
        assert!(error.contains("cannot hold the 4096") && error.contains("a.zip"), "{error}");
    }

    #[test]
    fn entries_that_share_bytes_are_refused() {
        let (_folder, path) = zip(&[(1, 40, 0), (1, 40, 0)]);
        let error = Zip::open(&path).unwrap_err().to_string();
        assert!(error.contains("overlap") && error.contains("a.zip"), "{error}");
    }

    #[test]
    fn absurd_places_are_errors() {
        let (_folder, path) = zip(&[(1, 1, u32::MAX)]);
        let (zip, index) = Zip::open(&path).unwrap();
        assert!(read(&zip, &index, "a").is_err());
        let at = index.exact("a").unwrap();
        assert!(zip.read_start("a", index.locator(at), 10).is_err());
    }
}
