//! Where the bytes of a merged file go, in any order: a file under a temporary name, or the parts of an object
//! that is not there yet.
//!
//! Memory of an object on its way: the parts that are not full yet, about six whatever its size, since a file
//! grows at three places and waits for three headers; and those being sent.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use shared::store::{MOST_PARTS, PartsUpload, SMALLEST_PART, StoreError, UploadedPart};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::MergeError;
use super::file_writer::FileWriter;

/// Parts being sent.
const IN_FLIGHT: usize = 3;

/// A file that is being written.
#[derive(Debug)]
pub(super) enum Target {
    /// On this machine.
    File(FileWriter),
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

    /// From its first byte on, as a writer that may go back. Blocks.
    pub(super) fn writer(&mut self) -> TargetWriter<'_> {
        TargetWriter { target: self, at: 0 }
    }
}

/// Writes one byte after the other.
pub(super) struct TargetWriter<'a> {
    target: &'a mut Target,
    at: u64,
}

impl Write for TargetWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.target.write_at(self.at, bytes).map_err(io::Error::other)?;
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

/// Gathers bytes into parts, and sends each once it is full.
#[derive(Debug)]
pub(super) struct ObjectWriter {
    upload: Arc<PartsUpload>,
    runtime: Handle,
    part_size: usize,
    /// Parts that are not full, by number.
    open: BTreeMap<usize, OpenPart>,
    sending: JoinSet<(usize, Result<UploadedPart, StoreError>)>,
    sent: BTreeMap<usize, UploadedPart>,
    /// The first byte after all that were written.
    end: u64,
    /// Where an upload that is given up is ended.
    given_up: TaskTracker,
}

#[derive(Debug)]
struct OpenPart {
    bytes: Vec<u8>,
    filled: usize,
}

impl ObjectWriter {
    /// Gathers an object of about `size` bytes.
    pub(super) fn new(upload: PartsUpload, runtime: Handle, size: u64, given_up: TaskTracker) -> Self {
        Self::with_parts(upload, runtime, part_size(size), given_up)
    }

    fn with_parts(upload: PartsUpload, runtime: Handle, part_size: usize, given_up: TaskTracker) -> Self {
        let upload = Arc::new(upload);
        let (open, sending, sent) = (BTreeMap::new(), JoinSet::new(), BTreeMap::new());
        Self { upload, runtime, part_size, open, sending, sent, end: 0, given_up }
    }

    fn write_at(&mut self, mut at: u64, mut bytes: &[u8]) -> Result<(), MergeError> {
        self.end = self.end.max(at + bytes.len() as u64);
        while !bytes.is_empty() {
            let size = self.part_size;
            let (number, start) = ((at / size as u64) as usize, (at % size as u64) as usize);
            let (now, later) = bytes.split_at(bytes.len().min(size - start));
            let part =
                self.open.entry(number).or_insert_with(|| OpenPart { bytes: vec![0; size], filled: 0 });
            part.bytes[start..start + now.len()].copy_from_slice(now);
            part.filled += now.len();
            if part.filled == size
                && let Some(full) = self.open.remove(&number)
            {
                while self.sending.len() >= IN_FLIGHT {
                    let runtime = self.runtime.clone();
                    runtime.block_on(self.take_sent())?;
                }
                self.send(number, full.bytes);
            }
            at += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Sends what is left and makes the object appear. Returns its size.
    pub(super) async fn finish(mut self) -> Result<u64, MergeError> {
        for (number, mut part) in std::mem::take(&mut self.open) {
            let size = (self.end - number as u64 * self.part_size as u64).min(self.part_size as u64) as usize;
            if part.filled != size {
                let what = format!("{} of the {size} bytes of part {number} were written", part.filled);
                return Err(MergeError::Thread(what));
            }
            part.bytes.truncate(size);
            self.send(number, part.bytes);
        }
        while !self.sending.is_empty() {
            self.take_sent().await?;
        }
        self.upload.finish(std::mem::take(&mut self.sent).into_values().collect()).await?;
        Ok(self.end)
    }

    fn send(&mut self, number: usize, bytes: Vec<u8>) {
        let upload = Arc::clone(&self.upload);
        let send = async move { (number, upload.put(number, bytes.into()).await) };
        self.sending.spawn_on(send, &self.runtime);
    }

    async fn take_sent(&mut self) -> Result<(), MergeError> {
        if let Some(sent) = self.sending.join_next().await {
            let (number, part) = sent.map_err(|error| MergeError::Thread(error.to_string()))?;
            self.sent.insert(number, part?);
        }
        Ok(())
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        if !self.upload.is_open() {
            return;
        }
        self.sending.abort_all();
        let upload = Arc::clone(&self.upload);
        // What ended the merge is what its caller is told; a lifecycle rule is left for what fails here.
        let abort = async move {
            let _ = upload.abort().await;
        };
        self.given_up.spawn_on(abort, &self.runtime);
    }
}

/// Bytes of a part: the least that stores take, or more where there would be too many parts. A tenth of them is
/// left for what the size does not yet count.
fn part_size(size: u64) -> usize {
    size.div_ceil(MOST_PARTS / 10 * 9).next_multiple_of(1 << 20).max(SMALLEST_PART) as usize
}

#[cfg(test)]
mod tests {
    use shared::store::Store;

    use super::*;

    #[test]
    fn parts_are_large_enough_and_not_too_many() {
        for size in [0, 1 << 30, 100 << 30, 5 << 40] {
            let part = part_size(size) as u64;
            assert!(part >= SMALLEST_PART && (size * 11 / 10).div_ceil(part) <= MOST_PARTS, "{size}: {part}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bytes_in_any_order_are_one_object() {
        let store = Store::memory();
        let upload = store.begin_parts("F").await.unwrap();
        let mut writer = ObjectWriter::with_parts(upload, Handle::current(), 10, TaskTracker::new());
        let expected: Vec<u8> = (0..95).collect();
        let whole = expected.clone();
        let writer = tokio::task::spawn_blocking(move || {
            for range in [30..71, 7..30, 71..95, 0..7] {
                writer.write_at(range.start as u64, &whole[range]).unwrap();
            }
            writer
        })
        .await
        .unwrap();
        assert_eq!(store.size("F").await.unwrap(), None, "nothing is there before the end");
        assert_eq!(writer.finish().await.unwrap(), 95);
        assert_eq!(store.get("F").await.unwrap(), expected);
    }

    #[tokio::test]
    async fn an_object_with_a_hole_does_not_appear() {
        let store = Store::memory();
        let upload = store.begin_parts("F").await.unwrap();
        let mut writer = ObjectWriter::with_parts(upload, Handle::current(), 10, TaskTracker::new());
        writer.write_at(0, b"abc").unwrap();
        writer.write_at(5, b"fgh").unwrap();
        let given_up = writer.given_up.clone();
        assert!(writer.finish().await.is_err());
        given_up.close();
        given_up.wait().await;
        assert_eq!(store.size("F").await.unwrap(), None);
    }
}
