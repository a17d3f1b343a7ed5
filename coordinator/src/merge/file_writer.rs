//! A file of gigabytes on its way to the disk: what is written is synced while more is, so that the disk works
//! from the start and the last sync has little left.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tempfile::{NamedTempFile, TempPath};

/// Bytes between two syncs.
const SYNC_EVERY: u64 = 64 << 20;

/// A file under a temporary name.
#[derive(Debug)]
pub(super) struct FileWriter {
    file: NamedTempFile,
    unsynced: u64,
    syncer: Option<Syncer>,
}

/// A file that lies on the disk with all its bytes, closed. It goes when it is dropped.
#[derive(Debug)]
pub(super) struct SealedFile {
    pub(super) path: TempPath,
    pub(super) size: u64,
}

/// A thread that syncs whenever it is asked to.
#[derive(Debug)]
struct Syncer {
    ask: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl FileWriter {
    /// Writes into an empty file.
    pub(super) fn new(file: NamedTempFile) -> Self {
        Self { file, unsynced: 0, syncer: None }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Writes bytes to their place. Blocks.
    pub(super) fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.sync_soon()?;
        }
        Ok(())
    }

    /// The file once nobody syncs it any more. Blocks.
    pub(super) fn into_file(mut self) -> io::Result<NamedTempFile> {
        self.end_syncs()?;
        Ok(self.file)
    }

    /// Brings everything to the disk and closes the file. Blocks.
    pub(super) fn seal(self) -> io::Result<SealedFile> {
        let file = self.into_file()?;
        file.as_file().sync_all()?;
        let size = file.as_file().metadata()?.len();
        Ok(SealedFile { path: file.into_temp_path(), size })
    }

    fn sync_soon(&mut self) -> io::Result<()> {
        let syncer = match &self.syncer {
            Some(syncer) => syncer,
            None => self.syncer.insert(Syncer::start(self.file.as_file().try_clone()?)),
        };
        match syncer.ask.try_send(()) {
            // One that is busy looks again when it is through.
            Ok(()) | Err(TrySendError::Full(())) => Ok(()),
            // Only a failure ends it.
            Err(TrySendError::Disconnected(())) => self.end_syncs(),
        }
    }

    /// Waits for the thread that syncs. A system tells the failure of a write to one sync alone, so that each of
    /// them must be heard.
    fn end_syncs(&mut self) -> io::Result<()> {
        match self.syncer.take() {
            Some(syncer) => syncer.end(),
            None => Ok(()),
        }
    }
}

impl Syncer {
    fn start(file: std::fs::File) -> Self {
        let (ask, asked) = sync_channel(1);
        let thread = std::thread::spawn(move || asked.into_iter().try_for_each(|()| file.sync_data()));
        Self { ask, thread }
    }

    fn end(self) -> io::Result<()> {
        drop(self.ask);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_any_order_are_there_after_many_syncs() {
        let mut writer = FileWriter::new(NamedTempFile::new().unwrap());
        let block = vec![7; 40 << 20];
        for place in [2, 0, 3, 1] {
            writer.write_at(place * block.len() as u64, &block).unwrap();
        }
        assert!(writer.syncer.is_some());
        let sealed = writer.seal().unwrap();
        let bytes = std::fs::read(&sealed.path).unwrap();
        assert_eq!((bytes.len(), sealed.size), (4 * block.len(), 4 * block.len() as u64));
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
    #[test]
    fn a_failed_sync_is_told_at_the_next_one() {
        let mut writer = FileWriter::new(NamedTempFile::new().unwrap());
        let (ask, asked) = sync_channel(1);
        drop(asked);
        let thread = std::thread::spawn(|| Err(io::Error::other("the disk is gone")));
        writer.syncer = Some(Syncer { ask, thread });
        writer.unsynced = SYNC_EVERY - 1;
        let error = writer.write_at(0, b"a").unwrap_err();
        assert_eq!(error.to_string(), "the disk is gone");
    }
}
