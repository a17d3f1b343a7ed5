//! Where the bytes of a merged file go, in any order: a file under a temporary name, or the parts of an object
//! that is not there yet.

use std::io::{self, Seek, SeekFrom, Write};

use super::MergeError;
use super::ending::Ending;
use super::file_writer::{FileWriter, SealedFile};
use super::object_writer::ObjectWriter;

/// A file that is being written.
#[derive(Debug)]
pub(super) enum Target {
    /// On this machine.
    File(FileWriter),
    /// In a store.
    Object(Box<ObjectWriter>),
}

/// A file with all its bytes, not yet under its name. Many of them may wait: they hold no memory to speak of, no
/// thread and no descriptor.
#[derive(Debug)]
pub(super) enum Sealed {
    /// On this machine's disk.
    File(SealedFile),
    /// In a store.
    Object(Box<ObjectWriter>),
}

impl Target {
    /// Writes bytes to their place, each place once. Blocks.
    pub(super) fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), MergeError> {
        match self {
            Self::File(file) => {
                let written = file.write_at(at, bytes);
                written.map_err(|error| MergeError::write(file.path(), error))
            }
            Self::Object(object) => object.write_at(at, bytes),
        }
    }

    /// Brings all bytes to where they stay. Blocks.
    pub(super) fn seal(self) -> Result<Sealed, MergeError> {
        match self {
            Self::File(file) => {
                let path = file.path().to_owned();
                file.seal().map(Sealed::File).map_err(|error| MergeError::write(&path, error))
            }
            Self::Object(mut object) => {
                object.flush()?;
                Ok(Sealed::Object(object))
            }
        }
    }

    /// From its first byte on, as a writer that may go back. Blocks.
    pub(super) fn writer<'a>(&'a mut self, ending: &'a Ending) -> TargetWriter<'a> {
        TargetWriter { target: self, at: 0, ending }
    }
}

/// Writes one byte after the other, until the merge is stopped. Its errors hold a [`MergeError`].
pub(super) struct TargetWriter<'a> {
    target: &'a mut Target,
    at: u64,
    ending: &'a Ending,
}

impl Write for TargetWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.ending.check().and_then(|()| self.target.write_at(self.at, bytes));
        written.map_err(io::Error::other)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for TargetWriter<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.at = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
