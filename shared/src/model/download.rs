//! Fetching a record's files into a folder: resumed after a break, verified before use.
//!
//! A file grows as `<name>.partial`, is compared with the record's SHA-256 when it is complete, and only
//! then gets its name. So whatever has its name was verified once, and a note
//! ([`super::verified`]) keeps it from being read again at every start.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::hub::{self, ATTEMPTS, Hub};
use super::verified::Verified;
use super::{HubProblem, ModelError, ModelFile, ModelRecord, Places, files, lock};
use crate::store::Store;

/// Files fetched at the same time.
const FILES_IN_FLIGHT: usize = 4;

/// Bytes of one request to a store, and requests of one file in flight.
const STORE_CHUNK: u64 = 8 << 20;
const STORE_CHUNKS_IN_FLIGHT: usize = 4;

/// Where the bytes come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Hub { hub: Hub, repository: String, commit: String },
    Store { store: Store, folder: String },
}

/// Where the files go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The folder that a loader reads.
    pub(super) folder: PathBuf,
    /// Where the content lies, named by its SHA-256, if `folder` only links to it (the hub's cache).
    pub(super) blobs: Option<PathBuf>,
    /// The file that serialises downloads of the same model.
    pub(super) lock: PathBuf,
}

impl Target {
    fn content(&self, file: &ModelFile) -> PathBuf {
        self.blobs.as_ref().map_or_else(|| self.folder.join(&file.name), |blobs| blobs.join(&file.sha256))
    }
}

/// Makes `target.folder` hold the record's files, each with its recorded SHA-256. What is there
/// already is verified and kept.
pub(super) async fn fetch(
    record: &ModelRecord,
    source: &Source,
    target: &Target,
    places: &Places,
) -> Result<PathBuf, ModelError> {
    for folder in [Some(&target.folder), target.blobs.as_ref()].into_iter().flatten() {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|error| ModelError::local("create", folder, error))?;
    }
    let _lock = lock::lock(&target.lock).await?;
    let verified = Verified::new(&places.hub.cache);
    futures::stream::iter(&record.files)
        .map(|file| ensure(file, source, target, &verified, places))
        .buffer_unordered(FILES_IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(target.folder.clone())
}

async fn ensure(
    file: &ModelFile,
    source: &Source,
    target: &Target,
    verified: &Verified,
    places: &Places,
) -> Result<(), ModelError> {
    let (named, content) = (target.folder.join(&file.name), target.content(file));
    if holds(verified, &named, file).await? {
        places.report(file, file.size);
        return Ok(());
    }
    if named == content || !holds(verified, &content, file).await? {
        download(file, source, &content, places).await?;
    }
    places.report(file, file.size);
    if named == content { Ok(()) } else { link(&content, &named) }
}

/// Whether a file is there and has the recorded bytes.
async fn holds(verified: &Verified, path: &Path, file: &ModelFile) -> Result<bool, ModelError> {
    let size = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    if size != Some(file.size) {
        return Ok(false);
    }
    let (verified, name) = (verified.clone(), file.name.clone());
    let found = blocking(path, move |path| verified.hash_file(path, &name)).await?;
    Ok(found.sha256 == file.sha256)
}

/// Runs what reads gigabytes on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ModelError> {
    let owned = path.to_owned();
    tokio::task::spawn_blocking(move || work(&owned))
        .await
        .unwrap_or_else(|error| Err(ModelError::local("read", path, std::io::Error::other(error))))
}

/// Fetches, verifies, and gives the file its name. Wrong bytes are fetched a second time, from the
/// start: a resumed file may have begun with another version.
async fn download(
    file: &ModelFile,
    source: &Source,
    content: &Path,
    places: &Places,
) -> Result<(), ModelError> {
    let mut partial = content.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut found = String::new();
    for _ in 0..2 {
        complete(file, source, &partial, places).await?;
        let name = file.name.clone();
        found = blocking(&partial, move |path| files::hash_file(path, &name)).await?.sha256;
        if found == file.sha256 {
            return std::fs::rename(&partial, content)
                .map_err(|error| ModelError::local("write", content, error));
        }
        tracing::warn!("{} has sha256 {found} and not the recorded one", source.url_of(file));
        std::fs::remove_file(&partial).map_err(|error| ModelError::local("remove", &partial, error))?;
    }
    Err(ModelError::WrongBytes { url: source.url_of(file), expected: file.sha256.clone(), found })
}

/// Makes the partial file as long as the record says, going on where an earlier attempt ended.
async fn complete(
    file: &ModelFile,
    source: &Source,
    partial: &Path,
    places: &Places,
) -> Result<(), ModelError> {
    let mut output = Output::open(partial, file, places).await?;
    let mut failures = 0;
    while output.length < file.size {
        let before = output.length;
        let Err(error) = source.append(file, &mut output).await else {
            continue;
        };
        if !error.is_transient() {
            return Err(error);
        }
        failures = if output.length > before { 1 } else { failures + 1 };
        if failures >= ATTEMPTS {
            return Err(error);
        }
        tracing::info!("{error}; going on at byte {} of {}", output.length, file.size);
        tokio::time::sleep(places.hub.pause_after(failures)).await;
    }
    output.close().await
}

/// A partial file that grows.
struct Output<'a> {
    handle: File,
    path: &'a Path,
    length: u64,
    file: &'a ModelFile,
    places: &'a Places,
}

impl<'a> Output<'a> {
    async fn open(path: &'a Path, file: &'a ModelFile, places: &'a Places) -> Result<Self, ModelError> {
        let opened = OpenOptions::new().create(true).append(true).open(path).await;
        let handle = opened.map_err(|error| ModelError::local("write", path, error))?;
        let length = handle.metadata().await.map_err(|error| ModelError::local("read", path, error))?.len();
        let mut output = Self { handle, path, length, file, places };
        if length > file.size {
            output.restart().await?;
        }
        Ok(output)
    }

    async fn restart(&mut self) -> Result<(), ModelError> {
        self.handle.set_len(0).await.map_err(|error| ModelError::local("write", self.path, error))?;
        self.length = 0;
        Ok(())
    }

    /// Appends, but never more than the file's size.
    async fn write(&mut self, chunk: &[u8]) -> Result<(), ModelError> {
        let room = usize::try_from(self.file.size - self.length).unwrap_or(usize::MAX);
        let chunk = &chunk[..chunk.len().min(room)];
        self.handle.write_all(chunk).await.map_err(|error| ModelError::local("write", self.path, error))?;
        self.length += chunk.len() as u64;
        self.places.report(self.file, self.length);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ModelError> {
        self.handle.flush().await.map_err(|error| ModelError::local("write", self.path, error))
    }

    async fn close(mut self) -> Result<(), ModelError> {
        self.flush().await?;
        self.handle.sync_all().await.map_err(|error| ModelError::local("write", self.path, error))
    }
}

impl Source {
    /// The printable address of a file.
    fn url_of(&self, file: &ModelFile) -> String {
        match self {
            Self::Hub { hub, repository, commit } => hub.url_of(repository, commit, &file.name),
            Self::Store { store, folder } => store.url_of(&key(folder, &file.name)),
        }
    }

    /// Appends what is missing. An error leaves what arrived before it.
    async fn append(&self, file: &ModelFile, output: &mut Output<'_>) -> Result<(), ModelError> {
        match self {
            Self::Hub { hub, .. } => append_from_hub(hub, &self.url_of(file), file, output).await,
            Self::Store { store, folder } => {
                append_from_store(store, &key(folder, &file.name), file, output).await
            }
        }
    }
}

async fn append_from_hub(
    hub: &Hub,
    url: &str,
    file: &ModelFile,
    output: &mut Output<'_>,
) -> Result<(), ModelError> {
    let (mut response, resumes) = hub.get_from(url, output.length).await?;
    if !resumes {
        output.restart().await?;
    }
    while output.length < file.size {
        match response.chunk().await {
            Ok(Some(chunk)) => output.write(&chunk).await?,
            Ok(None) => {
                let problem = HubProblem::Unreachable("the answer ended early".to_owned());
                return Err(ModelError::Hub { url: url.to_owned(), problem });
            }
            Err(error) => {
                output.flush().await?;
                return Err(hub::failed(url, error));
            }
        }
    }
    Ok(())
}

async fn append_from_store(
    store: &Store,
    key: &str,
    file: &ModelFile,
    output: &mut Output<'_>,
) -> Result<(), ModelError> {
    let starts = (output.length..file.size).step_by(STORE_CHUNK as usize);
    let mut chunks = futures::stream::iter(starts)
        .map(|start| store.get_range(key, start..(start + STORE_CHUNK).min(file.size)))
        .buffered(STORE_CHUNKS_IN_FLIGHT);
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk?;
        if chunk.is_empty() {
            break;
        }
        output.write(&chunk).await?;
    }
    if output.length == file.size { Ok(()) } else { Err(ModelError::missing(store.url_of(key), "bytes")) }
}

fn key(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Makes `named` stand for `content`, replacing a link that was there.
fn link(content: &Path, named: &Path) -> Result<(), ModelError> {
    let failed = |error| ModelError::local("link", named, error);
    match std::fs::remove_file(named) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    link_new(content, named).map_err(failed)
}

#[cfg(unix)]
fn link_new(content: &Path, named: &Path) -> std::io::Result<()> {
    // Relative, so that the cache can be moved: snapshots/<commit>/<name> -> ../../blobs/<sha256>.
    let blob = content.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(Path::new("../../blobs").join(blob), named)
}

#[cfg(not(unix))]
fn link_new(content: &Path, named: &Path) -> std::io::Result<()> {
    std::fs::hard_link(content, named)
}
