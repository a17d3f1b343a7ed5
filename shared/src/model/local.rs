//! A worker's verified copy of the plan's model.

use std::path::{Path, PathBuf};

use super::download::{self, Source, Target};
use super::hub::{Hub, is_commit, is_sha256};
use super::resolve::hash_folder;
use super::{HubId, ModelError, ModelRecord, Places, RecordKind, digest_of, files};
use crate::store::Store;

/// What a worker loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalModel {
    /// The hash embedder of that dimension.
    Hash(u32),
    /// A folder that holds the record's files with their recorded SHA-256.
    Folder(PathBuf),
}

/// Finds or fetches the plan's model on this machine.
///
/// `own` is the worker's `--model`: a folder, which must have the plan's digest. Without it: a model
/// that was pushed comes from the run's store, a hub model from the hub at its pinned commit, a store URL from
/// that store, and a folder must be visible here. Fetched files go to the hub's cache (or to
/// `embed-fleet/models/<digest16>` below it), resume after a break, and are used only once their SHA-256 is
/// the record's. Without network, files that are there are enough.
pub async fn local_copy(
    record: &ModelRecord,
    own: Option<&Path>,
    places: &Places,
) -> Result<LocalModel, ModelError> {
    check(record)?;
    let kind = record.kind();
    if let RecordKind::Hash(dimension) = kind {
        return Ok(LocalModel::Hash(dimension));
    }
    if let Some(own) = own {
        return same_model(own, record, places).await.map(LocalModel::Folder);
    }
    let folder = match (&record.stored, kind) {
        (Some(folder), _) => fetch_pushed(record, folder, places).await?,
        (None, RecordKind::Hub(id)) => fetch_from_hub(record, &id, places).await?,
        (None, RecordKind::Store(url)) => fetch_from_url(record, &url, places).await?,
        (None, RecordKind::Folder(folder)) => visible(record, folder, places).await?,
        (None, RecordKind::Hash(_)) => {
            return Err(ModelError::BadRecord("a hash embedder with files".to_owned()));
        }
    };
    Ok(LocalModel::Folder(folder))
}

/// The record comes from a store that others write: nothing in it may name a file elsewhere.
fn check(record: &ModelRecord) -> Result<(), ModelError> {
    let bad = |what: String| Err(ModelError::BadRecord(what));
    if let Some(file) =
        record.files.iter().find(|file| !files::is_plain_name(&file.name) || !is_sha256(&file.sha256))
    {
        return bad(format!("file {:?} with sha256 {:?}", file.name, file.sha256));
    }
    let digest = match record.kind() {
        RecordKind::Hash(dimension) => super::hash_digest(dimension),
        _ if record.files.is_empty() => return bad(format!("{:?} has no files", record.name)),
        _ => digest_of(&record.files),
    };
    if digest != record.digest {
        return bad(format!("its digest is {}, its files have {digest}", record.digest));
    }
    match &record.revision {
        Some(revision) if !is_commit(revision) => bad(format!("revision {revision:?} is not a commit")),
        _ => Ok(()),
    }
}

/// `folder`, if it holds the record's model.
async fn same_model(folder: &Path, record: &ModelRecord, places: &Places) -> Result<PathBuf, ModelError> {
    let found = digest_of(&hash_folder(folder, places).await?);
    if found == record.digest {
        return Ok(folder.to_owned());
    }
    Err(ModelError::OtherModel { folder: folder.to_owned(), expected: record.digest.clone(), found })
}

async fn visible(record: &ModelRecord, folder: PathBuf, places: &Places) -> Result<PathBuf, ModelError> {
    if !folder.is_dir() {
        return Err(ModelError::NotVisible { folder });
    }
    same_model(&folder, record, places).await
}

async fn fetch_pushed(record: &ModelRecord, folder: &str, places: &Places) -> Result<PathBuf, ModelError> {
    // The machine that planned has the folder itself: nothing to fetch.
    if let RecordKind::Folder(own) = record.kind()
        && own.is_dir()
        && let Ok(folder) = same_model(&own, record, places).await
    {
        return Ok(folder);
    }
    let Some(store) = &places.store else {
        return Err(ModelError::BadRecord(format!("the model lies in {folder} of a store that is not open")));
    };
    let source = Source::Store { store: store.clone(), folder: folder.to_owned() };
    download::fetch(record, &source, &own_cache(record, places), places).await
}

async fn fetch_from_url(record: &ModelRecord, url: &str, places: &Places) -> Result<PathBuf, ModelError> {
    if let Some(path) = url.strip_prefix("file://").or_else(|| url.strip_prefix("file:")) {
        return visible(record, PathBuf::from(path), places).await;
    }
    // Signed rights reach the model whatever store it lies in.
    let source = match places.store.as_ref().filter(|store| store.is_signed()) {
        Some(store) => {
            Source::Store { store: store.clone(), folder: crate::store::layout::model_folder(&record.digest) }
        }
        None => Source::Store { store: Store::open(url)?, folder: String::new() },
    };
    download::fetch(record, &source, &own_cache(record, places), places).await
}

async fn fetch_from_hub(record: &ModelRecord, id: &HubId, places: &Places) -> Result<PathBuf, ModelError> {
    let commit = id.revision.clone().unwrap_or_default();
    // The layout of the hub's own tools, so that either finds what the other downloaded.
    let repository = places.hub.cache.join(format!("models--{}", id.repository.replace('/', "--")));
    let target = Target {
        folder: repository.join("snapshots").join(&commit),
        blobs: Some(repository.join("blobs")),
        lock: repository.join(".embed-fleet.lock"),
    };
    let source = Source::Hub { hub: Hub::new(&places.hub)?, repository: id.repository.clone(), commit };
    download::fetch(record, &source, &target, places).await
}

fn own_cache(record: &ModelRecord, places: &Places) -> Target {
    let models = places.hub.cache.join("embed-fleet");
    let folder = models.join(crate::store::layout::model_folder(&record.digest));
    let lock = folder.join(".lock");
    Target { folder, blobs: None, lock }
}
