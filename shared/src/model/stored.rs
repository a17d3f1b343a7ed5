//! Models in a store: pushing a folder, and naming a folder of a store.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use std::path::Path;

use super::files::{self, CONFIG, INDEX};
use super::resolve::{Resolved, record};
use super::{ModelError, ModelFile, ModelRecord, Places, digest_of};
use crate::digest::Hasher;
use crate::store::{Store, StoreErrorKind, layout};

/// The list of files that a push writes last. Where it is, the folder is complete and nobody has to
/// read gigabytes to know its digest.
const LIST: &str = "embed-fleet.json";

/// The version of [`LIST`].
const LIST_VERSION: u32 = 1;

/// Files read or written at the same time.
const FILES_IN_FLIGHT: usize = 4;

/// The list of files. It holds no labels: two pushes of the same files write the same bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileList {
    version: u32,
    digest: String,
    files: Vec<ModelFile>,
}

/// Stores a folder's files under `models/<digest16>/` and says so in the record. `folder` must hold the
/// record's files: it is the folder that was resolved, or that [`super::local_copy`] gave.
pub async fn push(
    store: &Store,
    record: &ModelRecord,
    folder: &Path,
    places: &Places,
) -> Result<ModelRecord, ModelError> {
    let prefix = layout::model_folder(&record.digest);
    futures::stream::iter(&record.files)
        .map(async |file| {
            store.put_new_file(&format!("{prefix}/{}", file.name), &folder.join(&file.name)).await?;
            places.report(file, file.size);
            Ok::<(), ModelError>(())
        })
        .buffer_unordered(FILES_IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    let list = FileList { version: LIST_VERSION, digest: record.digest.clone(), files: record.files.clone() };
    let bytes = serde_json::to_vec(&list)
        .map_err(|error| ModelError::bad_file(store.url_of(&prefix), LIST, error.to_string()))?;
    store.put_new(&format!("{prefix}/{LIST}"), bytes.into()).await?;
    Ok(ModelRecord { stored: Some(prefix), ..record.clone() })
}

/// Resolves a folder of a store by its URL.
pub(super) async fn resolve(url: &str) -> Result<Resolved, ModelError> {
    let store = Store::open(url)?;
    let place = store.url().to_owned();
    let config = match store.get(CONFIG).await {
        Ok(config) => config,
        Err(error) if error.kind == StoreErrorKind::NotFound => {
            return Err(ModelError::missing(place, CONFIG));
        }
        Err(error) => return Err(error.into()),
    };
    let dim = files::dimension(&place, &config)?;
    let files = match store.get_if_exists(LIST).await? {
        Some(list) => read_list(&place, &list)?,
        None => hash_store(&store, &place).await?,
    };
    Ok(Resolved { record: record(url.to_owned(), None, files), dim })
}

fn read_list(place: &str, bytes: &Bytes) -> Result<Vec<ModelFile>, ModelError> {
    let bad = |reason: String| ModelError::bad_file(place, LIST, reason);
    let list: FileList = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    if list.version != LIST_VERSION {
        return Err(bad(format!("it has version {}, this program reads {LIST_VERSION}", list.version)));
    }
    if digest_of(&list.files) != list.digest {
        return Err(bad("its digest is not that of its files".to_owned()));
    }
    Ok(list.files)
}

/// Reads the model's files from the store to know their SHA-256.
async fn hash_store(store: &Store, place: &str) -> Result<Vec<ModelFile>, ModelError> {
    let mut present = std::collections::BTreeSet::new();
    let mut listing = store.list("");
    while let Some(listed) = listing.try_next().await? {
        if listed.key == listed.name {
            present.insert(listed.name);
        }
    }
    let index = store.get_if_exists(INDEX).await?;
    let names = files::names(place, |name| present.contains(name), index.as_deref())?;
    tracing::info!("{place}: reading {} files to know their digest", names.len());
    futures::stream::iter(names)
        .map(|name| hash_object(store, name))
        .buffered(FILES_IN_FLIGHT)
        .try_collect()
        .await
}

async fn hash_object(store: &Store, name: String) -> Result<ModelFile, ModelError> {
    let mut chunks = store.stream(&name).await?;
    let (mut hasher, mut size) = (Hasher::new(), 0);
    while let Some(chunk) = chunks.try_next().await? {
        hasher.update(&chunk);
        size += chunk.len() as u64;
    }
    Ok(ModelFile { name, size, sha256: hasher.finish_hex() })
}
