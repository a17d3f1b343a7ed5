//! The object store: the record of a run.
//!
//! One type over local folders, S3, GCS, Azure and memory, by URL ([`open`](Store::open)). Objects are
//! written once and never changed ([`crate::laws::Law::ObjectsAreImmutable`]): [`Store::put_new`]
//! reads back what a refused conditional write met, since the first try of a repeated request may
//! have landed. Keys are laid out in [`layout`].

mod error;
pub mod layout;
mod open;
mod parts;
pub mod signed;
pub mod signing;

use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, WriteMultipart};
use tokio::io::AsyncReadExt as _;

pub use error::{StoreError, StoreErrorKind};
use parts::Scattered;
pub use parts::{MOST_PARTS, PartsUpload, SMALLEST_PART, UploadedPart};

/// Files above this size are sent in several requests.
const MULTIPART_ABOVE: u64 = 64 << 20;

/// Bytes of one request of a multipart upload.
const MULTIPART_CHUNK: usize = 16 << 20;

/// Requests of one multipart upload in flight.
const MULTIPART_IN_FLIGHT: usize = 4;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, relative to the store's URL.
    pub key: String,
    /// The last segment of the key.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What became of a write that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    Created,
    /// The same bytes were there already.
    Same,
}

/// A store opened by URL. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    signed: bool,
    scattered: Scattered,
}

impl Store {
    /// Opens a store: a path, `file:`, `s3://`, `gs://`, `az://`, `memory:`, or the signed URL of a worker's
    /// rights ([`signed`]). A local folder must exist.
    ///
    /// Credentials come from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`), S3's endpoint from
    /// `AWS_ENDPOINT_URL`. An unknown scheme or an option in the URL is an error.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        open::open(url, open::MissingFolder::Refuse)
    }

    /// Opens a store; a local folder that is missing is made by the first object written.
    pub fn open_or_create(url: &str) -> Result<Self, StoreError> {
        open::open(url, open::MissingFolder::Create)
    }

    /// Whether this store is a worker's signed rights, which hold the model of the run too.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// A store in this process's memory.
    pub fn memory() -> Self {
        let backend = Arc::new(object_store::memory::InMemory::new());
        Self {
            scattered: Scattered::Parts(backend.clone()),
            backend,
            prefix: Path::default(),
            url: "memory:".to_owned(),
            signed: false,
        }
    }

    /// The URL as it may be printed: without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The printable URL of an object.
    pub fn url_of(&self, key: &str) -> String {
        format!("{}/{key}", self.url.trim_end_matches('/'))
    }

    /// The whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let fetch = async { self.backend.get(&self.path(key)).await?.bytes().await };
        fetch.await.map_err(|error| self.error("read", key, error))
    }

    /// The whole object, appended to a buffer that comes back: for who reads many objects and would give back
    /// memory only to ask for it again. Dropped half way, it loses the buffer.
    pub async fn read_into(&self, key: &str, mut buffer: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let failed = |error| self.error("read", key, error);
        let result = self.backend.get(&self.path(key)).await.map_err(failed)?;
        // On the word of a server no more than a part of any sane size.
        buffer.reserve_exact(result.meta.size.min(1 << 30) as usize);
        if let GetResultPayload::File(mut file, _) = result.payload {
            let read = move || std::io::Read::read_to_end(&mut file, &mut buffer).map(|_| buffer);
            let read = tokio::task::spawn_blocking(read).await.map_err(|error| failed(error.into()))?;
            let other = |error| object_store::Error::Generic { store: "file", source: Box::new(error) };
            return read.map_err(|error| failed(other(error)));
        }
        let mut chunks = result.into_stream();
        while let Some(chunk) = chunks.next().await {
            buffer.extend_from_slice(&chunk.map_err(failed)?);
        }
        Ok(buffer)
    }

    /// The whole object, or `None` where there is none.
    pub async fn get_if_exists(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.get(key).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object as a stream of chunks.
    pub async fn stream(
        &self,
        key: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let result =
            self.backend.get(&self.path(key)).await.map_err(|error| self.error("read", key, error))?;
        let (store, key) = (self.clone(), key.to_owned());
        Ok(result
            .into_stream()
            .map(move |chunk| chunk.map_err(|error| store.error("read", &key, error)))
            .boxed())
    }

    /// Bytes `range` of the object.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        // Stores refuse a range of no bytes, such as the tail of an empty object.
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.backend.get_range(&self.path(key), range).await.map_err(|error| self.error("read", key, error))
    }

    /// The last `length` bytes of the object (fewer where it is smaller) and its size.
    pub async fn tail(&self, key: &str, length: u64) -> Result<(Bytes, u64), StoreError> {
        let size = self.size(key).await?.ok_or_else(|| self.missing(key))?;
        let bytes = self.get_range(key, size.saturating_sub(length)..size).await?;
        Ok((bytes, size))
    }

    /// The object's size, or `None` where there is none.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.backend.head(&self.path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("look up", key, error)),
        }
    }

    /// Writes an object that must not exist with other content; a second write of the same bytes is fine.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        // A conflict (S3 answers 409 while another write of the same key runs) can mean that nothing
        // landed: look, and try again.
        for _ in 0..5 {
            match self.backend.put_opts(&self.path(key), bytes.clone().into(), options.clone()).await {
                Ok(_) => return Ok(Put::Created),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    match self.get_if_exists(key).await? {
                        Some(present) if present == bytes => return Ok(Put::Same),
                        Some(_) => return Err(self.conflict(key)),
                        None => {}
                    }
                }
                Err(error) => return Err(self.error("write", key, error)),
            }
        }
        Err(self.conflict(key))
    }

    /// Writes a file as an object named by its content: one that exists with the same size is taken
    /// to be the same. Memory is bounded whatever the file's size.
    pub async fn put_new_file(&self, key: &str, file: &FilePath) -> Result<Put, StoreError> {
        let size =
            tokio::fs::metadata(file).await.map_err(|error| StoreError::local_file(file, error))?.len();
        if size <= MULTIPART_ABOVE {
            let bytes = tokio::fs::read(file).await.map_err(|error| StoreError::local_file(file, error))?;
            return self.put_new(key, bytes.into()).await;
        }
        match self.size(key).await? {
            Some(present) if present == size => return Ok(Put::Same),
            Some(_) => return Err(self.conflict(key)),
            None => {}
        }
        self.put_multipart(key, file).await?;
        Ok(Put::Created)
    }

    /// Writes a file under a name that may be replaced, in several requests. The object appears whole
    /// or not at all.
    pub async fn replace_with_file(&self, key: &str, file: &FilePath) -> Result<(), StoreError> {
        self.put_multipart(key, file).await
    }

    /// Writes or replaces an object. Only `failed.jsonl` and merged files are ever replaced.
    pub async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.backend
            .put(&self.path(key), bytes.into())
            .await
            .map(|_| ())
            .map_err(|error| self.error("write", key, error))
    }

    /// Every object below a folder, page by page, in no promised order.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<Listed, StoreError>> {
        let (store, folder) = (self.clone(), folder.to_owned());
        let prefix = self.path(&folder);
        self.backend
            .list(Some(&prefix))
            .map(move |entry| match entry {
                Ok(meta) => Ok(store.listed(&meta)),
                Err(error) => Err(store.error("list", &folder, error)),
            })
            .boxed()
    }

    /// The names of the folders directly below a folder, sorted.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let prefix = self.path(folder);
        let result = self
            .backend
            .list_with_delimiter(Some(&prefix))
            .await
            .map_err(|error| self.error("list", folder, error))?;
        let mut names: Vec<String> =
            result.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    fn path(&self, key: &str) -> Path {
        Self::path_below(&self.prefix, key)
    }

    fn path_below(prefix: &Path, key: &str) -> Path {
        key.split('/')
            .filter(|segment| !segment.is_empty())
            .fold(prefix.clone(), object_store::path::Path::join)
    }

    fn listed(&self, meta: &object_store::ObjectMeta) -> Listed {
        let key = meta
            .location
            .prefix_match(&self.prefix)
            .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
        Listed {
            key: key.unwrap_or_else(|| meta.location.to_string()),
            name: meta.location.filename().unwrap_or_default().to_owned(),
            size: meta.size,
        }
    }

    async fn put_multipart(&self, key: &str, file: &FilePath) -> Result<(), StoreError> {
        let mut source =
            tokio::fs::File::open(file).await.map_err(|error| StoreError::local_file(file, error))?;
        let upload = self
            .backend
            .put_multipart_opts(&self.path(key), object_store::PutMultipartOptions::default())
            .await
            .map_err(|error| self.error("write", key, error))?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, MULTIPART_CHUNK);
        let mut buffer = vec![0; MULTIPART_CHUNK];
        loop {
            let count = match source.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    // S3 keeps the chunks of an upload that is merely dropped, and bills them.
                    let _ = writer.abort().await;
                    return Err(StoreError::local_file(file, error));
                }
            };
            if let Err(error) = writer.wait_for_capacity(MULTIPART_IN_FLIGHT).await {
                let _ = writer.abort().await;
                return Err(self.error("write", key, error));
            }
            writer.write(&buffer[..count]);
        }
        // `finish` aborts the upload itself when it fails.
        writer.finish().await.map(|_| ()).map_err(|error| self.error("write", key, error))
    }

    fn error(&self, what: &'static str, key: &str, source: object_store::Error) -> StoreError {
        StoreError::backend(what, self.url_of(key), source)
    }

    fn missing(&self, key: &str) -> StoreError {
        StoreError {
            kind: StoreErrorKind::NotFound,
            message: format!("{} does not exist", self.url_of(key)),
            source: None,
        }
    }

    fn conflict(&self, key: &str) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Conflict,
            message: format!(
                "{} exists with other content; nothing was overwritten. Look at it, and remove it if it is not yours",
                self.url_of(key)
            ),
            source: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    async fn holds_the_contract(store: &Store) {
        assert_eq!(store.put_new("runs/a/x", Bytes::from_static(b"one")).await.unwrap(), Put::Created);
        assert_eq!(store.put_new("runs/a/x", Bytes::from_static(b"one")).await.unwrap(), Put::Same);
        let error = store.put_new("runs/a/x", Bytes::from_static(b"two")).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Conflict);
        assert_eq!(store.get("runs/a/x").await.unwrap(), "one");
        assert_eq!(store.tail("runs/a/x", 2).await.unwrap(), (Bytes::from_static(b"ne"), 3));
        assert_eq!(store.tail("runs/a/x", 20).await.unwrap().1, 3);
        store.replace("empty", Bytes::new()).await.unwrap();
        assert_eq!(store.tail("empty", 9).await.unwrap(), (Bytes::new(), 0));
        assert_eq!(store.size("runs/a/y").await.unwrap(), None);
        assert_eq!(store.get_if_exists("runs/a/y").await.unwrap(), None);
        assert_eq!(store.get("runs/a/y").await.unwrap_err().kind, StoreErrorKind::NotFound);
        store.replace("runs/b/parts/z", Bytes::from_static(b"1")).await.unwrap();
        store.replace("runs/b/parts/z", Bytes::from_static(b"22")).await.unwrap();
        let mut listed: Vec<Listed> = store.list("runs").try_collect().await.unwrap();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        let expected = [("runs/a/x", "x", 3), ("runs/b/parts/z", "z", 2)];
        assert_eq!(
            listed,
            expected.map(|(key, name, size)| Listed { key: key.into(), name: name.into(), size })
        );
        assert_eq!(store.folders("runs").await.unwrap(), ["a", "b"]);
        let chunks: Vec<Bytes> = store.stream("runs/a/x").await.unwrap().try_collect().await.unwrap();
        assert_eq!(chunks.concat(), b"one");
    }

    #[tokio::test]
    async fn memory_holds_the_contract() {
        holds_the_contract(&Store::memory()).await;
    }

    #[tokio::test]
    async fn a_local_folder_holds_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        holds_the_contract(&store).await;
        let large = folder.path().join("large");
        std::fs::write(&large, vec![7; (MULTIPART_ABOVE + 1) as usize]).unwrap();
        assert_eq!(store.put_new_file("big", &large).await.unwrap(), Put::Created);
        assert_eq!(store.put_new_file("big", &large).await.unwrap(), Put::Same);
        assert_eq!(store.size("big").await.unwrap(), Some(MULTIPART_ABOVE + 1));
    }

    #[tokio::test]
    async fn a_missing_folder_is_named_and_made_by_the_first_object() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("deep/store");
        let error = Store::open(missing.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains("deep/store"), "{error}");
        assert!(!missing.exists());
        let store = Store::open_or_create(missing.to_str().unwrap()).unwrap();
        assert_eq!(store.size("runs/a").await.unwrap(), None);
        assert_eq!(store.folders("runs").await.unwrap(), Vec::<String>::new());
        assert!(!missing.exists());
        holds_the_contract(&store).await;
        assert!(missing.join("runs/a/x").is_file());
    }
}
