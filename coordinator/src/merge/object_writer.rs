//! An object on its way to a store, written in any order: bytes are gathered into parts, and each is sent once it
//! is full.
//!
//! Memory: the parts that are not full yet, about six whatever the size of the object, since a file grows at
//! three places and waits for three headers; and those being sent. Stores take a limited number of parts, so that
//! one of more than 44 GiB has larger ones: nine parts of 5 MiB are 45 MiB, and nine of the largest object that is
//! written at all 576 MiB.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::store::{MOST_PARTS, PartsUpload, SMALLEST_PART, StoreError, UploadedPart};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::MergeError;
use super::buffers::Buffers;
use super::ending::Ending;
use super::volume::Shape;

/// Parts being sent.
const IN_FLIGHT: usize = 3;
/// Parts that the size tells; a tenth of them is left for what it does not yet count.
const COUNTED_PARTS: u64 = MOST_PARTS / 10 * 9;
/// The most bytes of a part: several of them are in memory.
const LARGEST_PART: u64 = 64 << 20;

/// The most bytes of an object that is written in bounded memory.
pub(super) const LARGEST_OBJECT: u64 = COUNTED_PARTS * LARGEST_PART;

/// Gathers bytes into parts, and sends them.
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
    /// How it ends before its time.
    ending: Ending,
    /// Room for parts, which all objects of a merge share.
    buffers: Buffers,
}

#[derive(Debug)]
struct OpenPart {
    bytes: Vec<u8>,
    filled: usize,
}

impl ObjectWriter {
    /// Gathers an object of about `size` bytes.
    pub(super) fn new(upload: PartsUpload, runtime: Handle, size: u64, shape: &Shape) -> Self {
        Self::with_parts(upload, runtime, part_size(size), shape.ending.clone(), shape.buffers.clone())
    }

    fn with_parts(
        upload: PartsUpload,
        runtime: Handle,
        part_size: usize,
        ending: Ending,
        buffers: Buffers,
    ) -> Self {
        let upload = Arc::new(upload);
        let (open, sending, sent) = (BTreeMap::new(), JoinSet::new(), BTreeMap::new());
        Self { upload, runtime, part_size, open, sending, sent, end: 0, ending, buffers }
    }

    /// Writes bytes to their place, each place once. Blocks.
    pub(super) fn write_at(&mut self, mut at: u64, mut bytes: &[u8]) -> Result<(), MergeError> {
        self.end = self.end.max(at + bytes.len() as u64);
        while !bytes.is_empty() {
            let size = self.part_size;
            let (number, start) = ((at / size as u64) as usize, (at % size as u64) as usize);
            let (now, later) = bytes.split_at(bytes.len().min(size - start));
            let part = self.open.entry(number).or_insert_with(|| {
                let mut bytes = self.buffers.take();
                bytes.resize(size, 0);
                OpenPart { bytes, filled: 0 }
            });
            part.bytes[start..start + now.len()].copy_from_slice(now);
            part.filled += now.len();
            if part.filled == size
                && let Some(full) = self.open.remove(&number)
            {
                self.wait_for_sending(IN_FLIGHT - 1)?;
                self.send(number, full.bytes);
            }
            at += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Sends what is left once all bytes are written, so that an object that waits to appear takes no memory.
    /// Blocks.
    pub(super) fn flush(&mut self) -> Result<(), MergeError> {
        for (number, mut part) in std::mem::take(&mut self.open) {
            let size = (self.end - number as u64 * self.part_size as u64).min(self.part_size as u64) as usize;
            if part.filled != size {
                let what = format!("{} of the {size} bytes of part {number} were written", part.filled);
                return Err(MergeError::Thread(what));
            }
            part.bytes.truncate(size);
            self.wait_for_sending(IN_FLIGHT - 1)?;
            self.send(number, part.bytes);
        }
        self.wait_for_sending(0)
    }

    /// Makes a flushed object appear. Returns its size.
    pub(super) async fn finish(mut self) -> Result<u64, MergeError> {
        let parts = self.end.div_ceil(self.part_size as u64);
        // Each number is below, so that as many are all of them.
        if self.sent.len() as u64 != parts {
            let what = format!("{} of the {parts} parts of an object were written", self.sent.len());
            return Err(MergeError::Thread(what));
        }
        self.upload.finish(std::mem::take(&mut self.sent).into_values().collect()).await?;
        Ok(self.end)
    }

    fn send(&mut self, number: usize, bytes: Vec<u8>) {
        let upload = Arc::clone(&self.upload);
        let bytes = self.buffers.lend(bytes);
        let send = async move { (number, upload.put(number, bytes).await) };
        self.sending.spawn_on(send, &self.runtime);
    }

    /// Waits until no more than `most` parts are being sent. Blocks.
    fn wait_for_sending(&mut self, most: usize) -> Result<(), MergeError> {
        let (runtime, ending) = (self.runtime.clone(), self.ending.clone());
        while self.sending.len() > most {
            runtime.block_on(ending.unless_stopped(self.take_sent()))?;
        }
        Ok(())
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
        let (upload, mut sending) = (Arc::clone(&self.upload), std::mem::take(&mut self.sending));
        let abort = async move {
            // A part that arrives after the abort would stay.
            sending.shutdown().await;
            // What ended the merge is what its caller is told; a lifecycle rule is left for what fails here.
            let _ = upload.abort().await;
        };
        self.ending.take_back(&self.runtime, abort);
    }
}

/// Bytes of a part: the least that stores take, or more where there would be too many parts.
fn part_size(size: u64) -> usize {
    size.div_ceil(COUNTED_PARTS).next_multiple_of(1 << 20).max(SMALLEST_PART) as usize
}

#[cfg(test)]
mod tests {
    use shared::store::Store;

    use super::*;

    async fn writer(store: &Store) -> ObjectWriter {
        let upload = store.begin_parts("F").await.unwrap();
        ObjectWriter::with_parts(upload, Handle::current(), 10, Ending::default(), Buffers::default())
    }

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[test]
    fn parts_are_large_enough_and_not_too_many() {
        for size in [0, 1 << 30, 100 << 30, LARGEST_OBJECT] {
            let part = part_size(size) as u64;
            assert!((SMALLEST_PART..=LARGEST_PART).contains(&part), "{size}: {part}");
            assert!((size * 11 / 10).div_ceil(part) <= MOST_PARTS, "{size}: {part}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bytes_in_any_order_are_one_object() {
        let store = Store::memory();
        let mut writer = writer(&store).await;
        let expected: Vec<u8> = (0..95).collect();
        let whole = expected.clone();
        let writer = blocking(move || {
            for range in [30..71, 7..30, 71..95, 0..7] {
                writer.write_at(range.start as u64, &whole[range]).unwrap();
            }
            writer.flush().unwrap();
            writer
        })
        .await;
        assert_eq!(store.size("F").await.unwrap(), None, "nothing is there before the end");
        assert_eq!(writer.finish().await.unwrap(), 95);
        assert_eq!(store.get("F").await.unwrap(), expected);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_object_with_a_hole_does_not_appear() {
        let store = Store::memory();
        // A hole in a part, and a part of which nothing was written.
        for pieces in [[(0, 3), (5, 3)], [(0, 10), (20, 10)]] {
            let mut writer = writer(&store).await;
            let (ending, upload) = (writer.ending.clone(), Arc::clone(&writer.upload));
            let flushed = blocking(move || {
                pieces.into_iter().try_for_each(|(at, length)| writer.write_at(at, &[1; 10][..length]))?;
                writer.flush().map(|()| writer)
            })
            .await;
            let finished = match flushed {
                Ok(writer) => writer.finish().await,
                Err(error) => Err(error),
            };
            assert!(finished.is_err(), "{pieces:?}");
            ending.wait().await;
            assert!(!upload.is_open());
            assert_eq!(store.size("F").await.unwrap(), None);
        }
    }

    /// Grows at three places and gets its beginnings last, as a merged file does.
    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_parts_are_open_than_places_grow_and_none_once_it_is_flushed() {
        const MEMBER: u64 = 5_000;
        let store = Store::memory();
        let mut waiting = Vec::new();
        for _ in 0..20 {
            let mut writer = writer(&store).await;
            let written = move || {
                for row in 0..(MEMBER - 3) / 7 {
                    for member in 0..3 {
                        writer.write_at(member * MEMBER + 3 + row * 7, &[7; 7]).unwrap();
                    }
                    assert!(writer.open.len() <= 6, "{} open", writer.open.len());
                    assert!(writer.sending.len() <= IN_FLIGHT, "{} being sent", writer.sending.len());
                }
                for member in 0..3 {
                    writer.write_at(member * MEMBER, &[3; 3]).unwrap();
                    writer.write_at((member + 1) * MEMBER - 6, &[6; 6]).unwrap();
                }
                writer.flush().unwrap();
                writer
            };
            waiting.push(blocking(written).await);
        }
        assert!(waiting.iter().all(|writer| writer.open.is_empty() && writer.sending.is_empty()));
        for writer in waiting {
            assert_eq!(writer.finish().await.unwrap(), 3 * MEMBER);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_writer_that_is_stopped_gives_its_upload_up() {
        let store = Store::memory();
        let stop = tokio_util::sync::CancellationToken::new();
        let upload = store.begin_parts("F").await.unwrap();
        let ending = Ending::new(stop.clone());
        let mut writer =
            ObjectWriter::with_parts(upload, Handle::current(), 10, ending.clone(), Buffers::default());
        let upload = Arc::clone(&writer.upload);
        stop.cancel();
        drop(blocking(move || writer.write_at(0, &[1; 25]).map(|()| writer)).await);
        ending.wait().await;
        assert!(!upload.is_open());
    }
}
