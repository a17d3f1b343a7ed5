//! From `--model` to the record in the plan. Downloads no weights from a hub.

use std::path::Path;

use super::download::blocking;
use super::files::{self, CONFIG, INDEX};
use super::hub::{Hub, HubFile};
use super::verified::Verified;
use super::{HubId, ModelError, ModelFile, ModelRecord, ModelRef, Places, digest_of, stored};

/// Files that the hub has no SHA-256 for are downloaded; they are small, or this is no model.
const MOST_BYTES_WITHOUT_SHA256: u64 = 64 << 20;

/// A model that exists, and what planning needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// For the plan.
    pub record: ModelRecord,
    /// Components of the model's own vector.
    pub dim: u32,
}

/// Finds a model's files and their SHA-256.
///
/// A folder is hashed (once; see the cache in [`super::HubSettings`]); of a hub model only the listing and the
/// small files are read, at a revision pinned to its commit; a store's folder is read whole, unless `--push-model`
/// left its list of files there.
pub async fn resolve(reference: &ModelRef, places: &Places) -> Result<Resolved, ModelError> {
    match reference {
        ModelRef::Hash(dimension) => Ok(Resolved { record: ModelRecord::hash(*dimension), dim: *dimension }),
        ModelRef::Folder(folder) => resolve_folder(folder, places).await,
        ModelRef::Hub(id) => resolve_hub(id, places).await,
        ModelRef::Store(url) => stored::resolve(url).await,
    }
}

async fn resolve_folder(folder: &Path, places: &Places) -> Result<Resolved, ModelError> {
    let folder = std::path::absolute(folder).map_err(|error| ModelError::local("read", folder, error))?;
    let files = hash_folder(&folder, places).await?;
    let place = folder.display().to_string();
    let config = folder.join(CONFIG);
    let config = std::fs::read(&config).map_err(|error| ModelError::local("read", &config, error))?;
    Ok(Resolved { dim: files::dimension(&place, &config)?, record: record(place, None, files) })
}

/// The model files of a folder with their SHA-256, sorted by name.
pub(super) async fn hash_folder(folder: &Path, places: &Places) -> Result<Vec<ModelFile>, ModelError> {
    let verified = Verified::new(&places.hub.cache);
    blocking(folder, move |folder| verified.hash_files(folder, &files::names_in_folder(folder)?)).await
}

async fn resolve_hub(id: &HubId, places: &Places) -> Result<Resolved, ModelError> {
    let hub = Hub::new(&places.hub)?;
    let commit = hub.pin(id).await?;
    let listing = hub.list(&id.repository, &commit).await?;
    let place = format!("{}@{commit}", id.repository);
    let index = match listing.get(INDEX) {
        Some(file) => Some(small_file(&hub, &id.repository, &commit, INDEX, file).await?),
        None => None,
    };
    let names = files::names(&place, |name| listing.contains_key(name), index.as_deref())?;
    let mut found = Vec::with_capacity(names.len());
    let mut dim = 0;
    for name in names {
        let Some(listed) = listing.get(&name) else {
            continue;
        };
        let bytes = if name == CONFIG || listed.sha256.is_none() {
            Some(small_file(&hub, &id.repository, &commit, &name, listed).await?)
        } else {
            None
        };
        if let Some(config) = bytes.as_ref().filter(|_| name == CONFIG) {
            dim = files::dimension(&place, config)?;
        }
        found.push(hub_file(name, listed, bytes.as_deref()));
    }
    Ok(Resolved { record: record(id.repository.clone(), Some(commit), found), dim })
}

/// The hub's own SHA-256 where it has one, else that of the downloaded bytes.
fn hub_file(name: String, listed: &HubFile, bytes: Option<&[u8]>) -> ModelFile {
    match (&listed.sha256, bytes) {
        (None, Some(bytes)) => {
            ModelFile { name, size: bytes.len() as u64, sha256: crate::digest::sha256_hex(bytes) }
        }
        (sha256, _) => ModelFile { name, size: listed.size, sha256: sha256.clone().unwrap_or_default() },
    }
}

async fn small_file(
    hub: &Hub,
    repository: &str,
    commit: &str,
    name: &str,
    listed: &HubFile,
) -> Result<bytes::Bytes, ModelError> {
    let url = hub.url_of(repository, commit, name);
    if listed.size > MOST_BYTES_WITHOUT_SHA256 {
        let reason = format!("it has {} bytes and the hub gives no sha256 for it", listed.size);
        return Err(ModelError::bad_file(url, name, reason));
    }
    hub.get_bytes(&url, MOST_BYTES_WITHOUT_SHA256).await
}

pub(super) fn record(name: String, revision: Option<String>, files: Vec<ModelFile>) -> ModelRecord {
    ModelRecord { name, revision, digest: digest_of(&files), stored: None, files }
}
