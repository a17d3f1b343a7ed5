//! An npz read from front to back: members as bounded streams whose checksums are checked.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};

use flate2::bufread::DeflateDecoder;

use super::header::ArrayHeader;
use super::zip::{Directory, Entry, LOCAL_SIZE, Method};
use super::{Crc, NpzError, NpzErrorKind};

/// Bytes of the end that hold any legal directory.
const TAIL: u64 = 8192;

/// Reads the members of an npz one after the other, in their order.
#[derive(Debug)]
pub struct NpzReader<R> {
    directory: Directory,
    reader: R,
    at: u64,
    next: usize,
}

impl<R: Read + Seek> NpzReader<R> {
    /// Reads the directory from the end and goes back to the front.
    pub fn open(mut reader: R) -> Result<Self, NpzError> {
        let io = |error| NpzError::io(None, 0, error);
        let total = reader.seek(SeekFrom::End(0)).map_err(io)?;
        let length = total.min(TAIL);
        reader.seek(SeekFrom::Start(total - length)).map_err(io)?;
        let mut tail = vec![0; length as usize];
        reader.read_exact(&mut tail).map_err(io)?;
        reader.seek(SeekFrom::Start(0)).map_err(io)?;
        Ok(Self::new(Directory::from_tail(&tail, total)?, reader))
    }
}

impl<R: Read> NpzReader<R> {
    /// Reads from a stream that stands at the first byte, the directory having been read from the end.
    pub fn new(directory: Directory, reader: R) -> Self {
        Self { directory, reader, at: 0, next: 0 }
    }

    /// Reads the last member alone, from a stream that stands at its local header.
    pub(super) fn last(directory: Directory, reader: R) -> Self {
        let next = directory.entries.len() - 1;
        Self { at: directory.entry(next).offset, directory, reader, next }
    }

    /// The directory, the reader being done.
    pub(super) fn into_directory(self) -> Directory {
        self.directory
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The next member, its header read and checked; `None` after the last. The one before must have
    /// been finished.
    pub fn next_member(&mut self) -> Result<Option<MemberReader<'_, R>>, NpzError> {
        let Some(entry) = self.directory.entries.get(self.next).cloned() else {
            return Ok(None);
        };
        if self.at != entry.offset {
            return Err(NpzError::zip(
                self.at,
                format!("there are bytes between the members, before {}", entry.name),
            ));
        }
        let io = |error| NpzError::io(Some(&entry.name), entry.offset, error);
        let mut local = vec![0; LOCAL_SIZE as usize];
        self.reader.read_exact(&mut local).map_err(io)?;
        let length = entry.check_local(&local)?;
        local.resize(length as usize, 0);
        self.reader.read_exact(&mut local[LOCAL_SIZE as usize..]).map_err(io)?;
        entry.check_local(&local)?;
        let data_at = entry.offset + length;
        self.at = data_at + entry.compressed;
        if self.at != self.directory.end_of(self.next) {
            return Err(NpzError::zip(
                data_at,
                format!("{} does not end where the next member begins", entry.name),
            ));
        }
        self.next += 1;
        MemberReader::begin(&mut self.reader, entry, data_at).map(Some)
    }
}

#[derive(Debug)]
enum Data<'a, R> {
    Stored(Take<&'a mut R>),
    Deflated(Box<DeflateDecoder<BufReader<Take<&'a mut R>>>>),
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(data) => data.read(buffer),
            Self::Deflated(data) => data.read(buffer),
        }
    }
}

/// One member: its header, then its rows.
#[derive(Debug)]
pub struct MemberReader<'a, R> {
    header: ArrayHeader,
    entry: Entry,
    data: Data<'a, R>,
    data_at: u64,
    crc: Crc,
    passed: u64,
}

impl<'a, R: Read> MemberReader<'a, R> {
    fn begin(reader: &'a mut R, entry: Entry, data_at: u64) -> Result<Self, NpzError> {
        let taken = reader.take(entry.compressed);
        let data = match entry.method {
            Method::Stored => Data::Stored(taken),
            Method::Deflated => {
                Data::Deflated(Box::new(DeflateDecoder::new(BufReader::with_capacity(1 << 18, taken))))
            }
        };
        let header = ArrayHeader::vector(super::Element::I32, 0);
        let mut member = Self { header, entry, data, data_at, crc: Crc::new(), passed: 0 };
        let name = member.entry.name.clone();
        let wrong = |what: String| NpzError::array(&name, data_at, what);
        let (header, length) = ArrayHeader::read(&mut Counted(&mut member), &name, data_at)?;
        header.check_kind(&name).map_err(wrong)?;
        if length.saturating_add(header.data_bytes()) != member.entry.uncompressed {
            return Err(wrong(format!("{header} does not fill its {} bytes", member.entry.uncompressed)));
        }
        member.header = header;
        Ok(member)
    }

    /// Type and shape.
    pub fn header(&self) -> &ArrayHeader {
        &self.header
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Fills `rows` with as many of the next whole rows as fit, and returns their bytes; 0 after the
    /// last row.
    pub fn read_rows(&mut self, rows: &mut [u8]) -> Result<usize, NpzError> {
        let row = self.header.row_bytes().max(1);
        let left = self.entry.uncompressed.saturating_sub(self.passed);
        let fitting = (rows.len() as u64 / row * row).min(left) as usize;
        let (data_at, passed) = (self.data_at, self.passed);
        let name = self.entry.name.clone();
        Counted(self)
            .read_exact(&mut rows[..fitting])
            .map_err(|error| NpzError::io(Some(&name), data_at + passed, error))?;
        Ok(fitting)
    }

    /// An error about a value among the rows read last.
    pub fn wrong_value(&self, what: String) -> NpzError {
        NpzError::new(Some(&self.entry.name), self.data_at + self.passed, NpzErrorKind::Value(what))
    }

    /// Reads what is left and checks the checksum. A member that is not finished leaves the reader
    /// in its middle.
    pub fn finish(mut self) -> Result<(), NpzError> {
        let mut rest = vec![0; 1 << 16];
        loop {
            let (data_at, passed) = (self.data_at, self.passed);
            let name = self.entry.name.clone();
            let count = Counted(&mut self)
                .read(&mut rest)
                .map_err(|error| NpzError::io(Some(&name), data_at + passed, error))?;
            if count == 0 {
                break;
            }
            if self.passed > self.entry.uncompressed {
                return Err(NpzError::array(&name, data_at, "it holds more bytes than the directory says"));
            }
        }
        let at = self.data_at;
        let name = self.entry.name.as_str();
        if self.passed < self.entry.uncompressed {
            return Err(NpzError::new(Some(name), at + self.passed, NpzErrorKind::Truncated));
        }
        let unread = match &mut self.data {
            Data::Stored(_) => false,
            Data::Deflated(decoder) => {
                let rest =
                    decoder.get_mut().fill_buf().map_err(|error| NpzError::io(Some(name), at, error))?;
                !rest.is_empty()
            }
        };
        if unread {
            return Err(NpzError::array(name, at, "there are bytes after its compressed data"));
        }
        let found = self.crc.value();
        if found == self.entry.crc {
            return Ok(());
        }
        let kind = NpzErrorKind::Checksum { expected: self.entry.crc, found };
        Err(NpzError::new(Some(name), at, kind))
    }
}

/// Reads a member's bytes, counting and summing them.
struct Counted<'m, 'a, R>(&'m mut MemberReader<'a, R>);

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.data.read(buffer)?;
        self.0.crc.update(&buffer[..count]);
        self.0.passed += count as u64;
        Ok(count)
    }
}
