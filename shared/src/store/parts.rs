//! An object written in parts, in any order, in bounded memory: for a file whose beginning is known last.
//!
//! The object appears whole when the upload is finished, or not at all. An upload that is dropped is aborted,
//! since stores keep and bill the parts of one that is not. Where the process is killed first, a lifecycle rule
//! of the bucket (`AbortIncompleteMultipartUpload`) removes them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::MultipartId;
use object_store::local::LocalFileSystem;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use tokio::runtime::Handle;

use super::{Store, StoreError, StoreErrorKind};

/// The least that stores take as a part, the last one excepted.
pub const SMALLEST_PART: u64 = 5 << 20;

/// The most parts of an object.
pub const MOST_PARTS: u64 = 10_000;

/// How bytes get to their places in any order, which the library's general interface does not offer.
#[derive(Clone)]
pub(super) enum Scattered {
    /// Into a file.
    Files(Arc<LocalFileSystem>),
    /// As parts that have numbers.
    Parts(Arc<dyn MultipartStore>),
    /// Not at all.
    No,
}

impl fmt::Debug for Scattered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files(_) => "Files",
            Self::Parts(_) => "Parts",
            Self::No => "No",
        })
    }
}

/// A part that the store has.
#[derive(Debug, Clone)]
pub struct UploadedPart(PartId);

/// An object on its way.
pub struct PartsUpload {
    backend: Arc<dyn MultipartStore>,
    path: Path,
    url: String,
    id: MultipartId,
    runtime: Handle,
    is_open: AtomicBool,
}

impl Store {
    /// Where an object of a store on this machine's disk lies; `None` for another store.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        match &self.scattered {
            Scattered::Files(files) => files.path_to_filesystem(&self.path(key)).ok(),
            Scattered::Parts(_) | Scattered::No => None,
        }
    }

    /// Begins an object, which may replace one. Parts are numbered from 0, all but the last of one size of at
    /// least [`SMALLEST_PART`], and [`MOST_PARTS`] at most.
    pub async fn begin_parts(&self, key: &str) -> Result<PartsUpload, StoreError> {
        let (path, url) = (self.path(key), self.url_of(key));
        let Scattered::Parts(backend) = &self.scattered else {
            let message = format!("{url} cannot be written in parts; choose another place");
            return Err(StoreError { kind: StoreErrorKind::BadUrl, message, source: None });
        };
        let id = backend.create_multipart(&path).await.map_err(|error| self.error("write", key, error))?;
        let (backend, runtime) = (Arc::clone(backend), Handle::current());
        Ok(PartsUpload { backend, path, url, id, runtime, is_open: AtomicBool::new(true) })
    }
}

impl PartsUpload {
    /// Sends a part; several at once and in any order.
    pub async fn put(&self, number: usize, bytes: Bytes) -> Result<UploadedPart, StoreError> {
        let sent = self.backend.put_part(&self.path, &self.id, number, bytes.into()).await;
        sent.map(UploadedPart).map_err(|error| self.error(error))
    }

    /// Makes the object appear, given all parts in order.
    pub async fn finish(&self, parts: Vec<UploadedPart>) -> Result<(), StoreError> {
        let parts = parts.into_iter().map(|part| part.0).collect();
        let finished = self.backend.complete_multipart(&self.path, &self.id, parts).await;
        finished.map_err(|error| self.error(error))?;
        self.is_open.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether it was neither finished nor given up.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Gives the upload up: the store forgets its parts.
    pub async fn abort(&self) -> Result<(), StoreError> {
        self.is_open.store(false, Ordering::Release);
        self.backend.abort_multipart(&self.path, &self.id).await.map_err(|error| self.error(error))
    }

    fn error(&self, source: object_store::Error) -> StoreError {
        StoreError::backend("write", self.url.clone(), source)
    }
}

impl Drop for PartsUpload {
    fn drop(&mut self) {
        if !self.is_open.swap(false, Ordering::AcqRel) {
            return;
        }
        let (backend, path, id) = (Arc::clone(&self.backend), self.path.clone(), self.id.clone());
        self.runtime.spawn(async move {
            // Nobody is left to be told.
            let _ = backend.abort_multipart(&path, &id).await;
        });
    }
}

impl fmt::Debug for PartsUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartsUpload").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_appears_whole_and_only_when_it_is_finished() {
        let store = Store::memory();
        store.replace("out/F", Bytes::from_static(b"old")).await.unwrap();
        let upload = store.begin_parts("out/F").await.unwrap();
        let second = upload.put(1, Bytes::from_static(b"two")).await.unwrap();
        let first = upload.put(0, Bytes::from_static(b"one ")).await.unwrap();
        assert_eq!(store.get("out/F").await.unwrap(), "old");
        upload.finish(vec![first, second]).await.unwrap();
        assert_eq!(store.get("out/F").await.unwrap(), "one two");
    }

    #[tokio::test]
    async fn an_upload_that_is_given_up_leaves_nothing() {
        let store = Store::memory();
        let upload = store.begin_parts("F").await.unwrap();
        upload.put(0, Bytes::from_static(b"half")).await.unwrap();
        upload.abort().await.unwrap();
        assert!(upload.put(1, Bytes::from_static(b"more")).await.is_err(), "the store has forgotten it");
        assert_eq!(store.size("F").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_folder_says_where_its_objects_lie() {
        let folder = tempfile::tempdir().unwrap();
        for missing in ["", "new"] {
            let root = folder.path().join(missing);
            let store = Store::open_or_create(root.to_str().unwrap()).unwrap();
            let path = store.local_path("out/F.npz").unwrap();
            assert!(path.ends_with("out/F.npz") && path.is_absolute());
            assert!(store.begin_parts("F").await.is_err());
            store.replace("out/F.npz", Bytes::from_static(b"x")).await.unwrap();
            assert_eq!(std::fs::read(path).unwrap(), b"x");
        }
        assert_eq!(Store::memory().local_path("F"), None);
    }
}
