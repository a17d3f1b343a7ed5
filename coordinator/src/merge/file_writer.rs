//! A file of gigabytes on its way to the disk: what is written is synced while more is, so that the disk works
//! from the start and the last sync has little left.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use tempfile::NamedTempFile;

/// Bytes between two syncs.
const SYNC_EVERY: u64 = 64 << 20;

/// A file under a temporary name.
#[derive(Debug)]
pub(super) struct FileWriter {
    file: NamedTempFile,
    unsynced: u64,
    syncer: Option<Syncer>,
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

    /// The file once nobody syncs it any more. A system tells the failure of a write to one sync alone, so that
    /// each of them must be heard. Blocks.
    pub(super) fn into_file(self) -> io::Result<NamedTempFile> {
        if let Some(Syncer { ask, thread }) = self.syncer {
            drop(ask);
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.file)
    }

    fn sync_soon(&mut self) -> io::Result<()> {
        let syncer = match &self.syncer {
            Some(syncer) => syncer,
            None => self.syncer.insert(Syncer::start(self.file.as_file().try_clone()?)),
        };
        // One that is busy looks again when it is through; one that failed says why in the end.
        let _ = syncer.ask.try_send(());
        Ok(())
    }
}

impl Syncer {
    fn start(file: std::fs::File) -> Self {
        let (ask, asked) = sync_channel(1);
        let thread = std::thread::spawn(move || asked.into_iter().try_for_each(|()| file.sync_data()));
        Self { ask, thread }
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
        let file = writer.into_file().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(bytes.len(), 4 * block.len());
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}
