//! The file that is verified: on this machine or in a store, read from front to back once, and its
//! end before.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use shared::store::{Store, StoreError};
use tokio::runtime::Handle;

use crate::merge::Destination;

/// Where a merged file lies.
#[derive(Debug, Clone)]
pub enum Source {
    /// On this machine.
    File(PathBuf),
    /// In a store.
    Object {
        /// The store.
        store: Store,
        /// The key.
        key: String,
    },
}

impl Source {
    /// As a person knows it.
    pub fn describe(&self) -> String {
        self.as_destination().describe()
    }

    /// File `number` of several.
    pub(super) fn volume(&self, number: u64) -> Self {
        match self.as_destination().volume(number) {
            Destination::File(path) => Self::File(path),
            Destination::Object { store, key } => Self::Object { store, key },
        }
    }

    /// Bytes of the file, or `None` where there is none. Blocks.
    pub(super) fn size(&self, runtime: &Handle) -> io::Result<Option<u64>> {
        match self {
            Self::File(path) => match std::fs::metadata(path) {
                Ok(metadata) => Ok(Some(metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Self::Object { store, key } => runtime.block_on(store.size(key)).map_err(io::Error::other),
        }
    }

    /// The last `length` bytes of `size`. Blocks.
    pub(super) fn tail(&self, runtime: &Handle, size: u64, length: u64) -> io::Result<Vec<u8>> {
        let start = size.saturating_sub(length);
        if start == size {
            return Ok(Vec::new());
        }
        match self {
            Self::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = vec![0; (size - start) as usize];
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
            Self::Object { store, key } => {
                let bytes = runtime.block_on(store.get_range(key, start..size)).map_err(io::Error::other)?;
                Ok(bytes.to_vec())
            }
        }
    }

    /// The file from its first byte on. Reading blocks.
    pub(super) fn open(&self, runtime: &Handle) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::File(path) => Ok(Box::new(File::open(path)?)),
            Self::Object { store, key } => Ok(Box::new(ObjectReader::open(runtime, store, key)?)),
        }
    }

    fn as_destination(&self) -> Destination {
        match self {
            Self::File(path) => Destination::File(path.clone()),
            Self::Object { store, key } => Destination::Object { store: store.clone(), key: key.clone() },
        }
    }
}

/// An object's stream as a blocking reader. Lives on threads that may block.
pub(super) struct ObjectReader {
    runtime: Handle,
    stream: BoxStream<'static, Result<bytes::Bytes, StoreError>>,
    chunk: bytes::Bytes,
}

impl ObjectReader {
    pub(super) fn open(runtime: &Handle, store: &Store, key: &str) -> io::Result<Self> {
        let stream = runtime.block_on(store.stream(key)).map_err(io::Error::other)?;
        Ok(Self { runtime: runtime.clone(), stream, chunk: bytes::Bytes::new() })
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
