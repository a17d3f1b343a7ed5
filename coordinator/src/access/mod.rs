//! The rights of workers without credentials: signs one run's plan, bundles and model for reading and
//! its parts for adding, and stores the documents that say so ([`shared::store::signed`]).

use futures::{StreamExt as _, TryStreamExt as _, stream};
use shared::exit::ExitCode;
use shared::ids::{InvalidId, RunId, Sha16, ShardId};
use shared::model::{ModelRecord, RecordKind};
use shared::plan::{Plan, ShardRecord};
use shared::store::signed::{
    ACCESS_VERSION, AccessPage, AccessRoot, DocumentError, PageLink, SHARDS_PER_PAGE, SignedObject,
    SignedUrl, to_json,
};
use shared::store::signing::Signing;
use shared::store::{Store, StoreError, layout};

/// Pages written at the same time.
const PAGES_AT_ONCE: usize = 4;

/// What a part has beside its vectors and what stands in its bundle: metadata with a reason for each item
/// that is not whole, in the worst case.
const PART_EXTRAS: u64 = 64 << 20;

/// What to sign for.
#[derive(Debug)]
pub struct Grant<'a> {
    /// The run's store.
    pub store: &'a Store,
    /// The run.
    pub plan: &'a Plan,
    /// Its shards, in order.
    pub shards: &'a [ShardRecord],
    /// Signs for the run's store.
    pub signing: &'a Signing,
    /// Signs for the store that the model lies in, where that is another one's URL.
    pub model_signing: Option<&'a Signing>,
}

/// The rights could not be given.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A shard's bundle has a name that is none.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// A document could not be written down.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// An object of the run is gone.
    #[error("{0} does not exist: repeat `coordinator plan`")]
    Missing(String),
}

impl AccessError {
    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::Name(_) | Self::Missing(_) => ExitCode::Input,
            Self::Document(_) => ExitCode::Unexpected,
        }
    }
}

/// The URL of the store that the model lies in, where it is another than the run's own and workers fetch
/// the model from it.
pub fn model_store(model: &ModelRecord) -> Option<String> {
    match model.kind() {
        RecordKind::Store(url) if model.stored.is_none() && !url.starts_with("file:") => Some(url),
        _ => None,
    }
}

/// Signs and stores everything; the URL of the root is the whole right.
pub async fn grant(grant: &Grant<'_>) -> Result<SignedUrl, AccessError> {
    let run = &grant.plan.run;
    let pages = grant.shards.chunks(SHARDS_PER_PAGE).map(|shards| write_page(grant, shards));
    let pages = stream::iter(pages).buffered(PAGES_AT_ONCE).try_collect().await?;
    let plan_key = layout::plan_key(run);
    let plan_bytes = grant.store.size(&plan_key).await?;
    let root = AccessRoot {
        version: ACCESS_VERSION,
        run: run.clone(),
        expires_at: grant.signing.expires_at(),
        plan: SignedObject {
            bytes: plan_bytes.ok_or_else(|| AccessError::Missing(grant.store.url_of(&plan_key)))?,
            url: grant.signing.read(&plan_key).await?,
            key: plan_key,
        },
        model: model_files(grant).await?,
        upload: grant.signing.upload(&layout::parts_folder(run), most_bytes(grant)).await?,
        pages,
    };
    Ok(write(grant, run, to_json(&root)?).await?.url)
}

/// The page of these shards, stored.
async fn write_page(grant: &Grant<'_>, shards: &[ShardRecord]) -> Result<PageLink, AccessError> {
    let run = &grant.plan.run;
    let mut bundles = Vec::with_capacity(shards.len());
    for shard in shards {
        let key = layout::bundle_key(run, &shard.content_name()?);
        bundles.push(SignedObject { bytes: shard.bytes, url: grant.signing.read(&key).await?, key });
    }
    let page = AccessPage { version: ACCESS_VERSION, run: run.clone(), bundles };
    let first = shards.first().map_or(ShardId(0), |shard| shard.id);
    let page = write(grant, run, to_json(&page)?).await?;
    Ok(PageLink { first, end: ShardId(first.0 + shards.len() as u64), page })
}

/// Stores a document under its content's name, and signs for it.
async fn write(grant: &Grant<'_>, run: &RunId, bytes: bytes::Bytes) -> Result<SignedObject, AccessError> {
    let key = layout::access_key(run, &Sha16::of(&bytes));
    let size = bytes.len() as u64;
    grant.store.put_new(&key, bytes).await?;
    Ok(SignedObject { bytes: size, url: grant.signing.read(&key).await?, key })
}

/// The model's files, where workers fetch them from a store.
async fn model_files(grant: &Grant<'_>) -> Result<Vec<SignedObject>, AccessError> {
    let model = &grant.plan.model;
    let folder = layout::model_folder(&model.digest);
    let (signing, place) = match (&model.stored, grant.model_signing) {
        (Some(stored), _) => (grant.signing, format!("{stored}/")),
        (None, Some(signing)) => (signing, String::new()),
        (None, None) => return Ok(Vec::new()),
    };
    let mut files = Vec::with_capacity(model.files.len());
    for file in &model.files {
        let url = signing.read(&format!("{place}{}", file.name)).await?;
        files.push(SignedObject { key: format!("{folder}/{}", file.name), bytes: file.size, url });
    }
    Ok(files)
}

/// No part of the run is larger: its vectors, the texts of its bundle (ids take four bytes a character),
/// and what is written about its items.
fn most_bytes(grant: &Grant<'_>) -> u64 {
    let items = grant.shards.iter().map(|shard| shard.items).max().unwrap_or_default();
    let bundle = grant.shards.iter().map(|shard| shard.bytes).max().unwrap_or_default();
    let vectors = items.saturating_mul(u64::from(grant.plan.embedding.dim)).saturating_mul(4);
    vectors.saturating_add(bundle.saturating_mul(4)).saturating_add(PART_EXTRAS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::plan::{Dtype, FleetSettings, NUMERICS_VERSION, PLAN_VERSION, PlanCounts};
    use shared::settings::EmbeddingChoices;

    use super::*;

    fn plan() -> Plan {
        Plan {
            version: PLAN_VERSION,
            run: "r".parse().unwrap(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            fingerprint: String::new(),
            numerics_version: NUMERICS_VERSION,
            model: ModelRecord::hash(64),
            embedding: EmbeddingChoices::default().resolve(Dtype::F32, 64).unwrap(),
            fleet: FleetSettings { shard_size: 1, lease_seconds: 60.0 },
            counts: PlanCounts::default(),
            shards_sha256: String::new(),
        }
    }

    fn shard(id: u64) -> ShardRecord {
        ShardRecord {
            id: ShardId(id),
            bundle: format!("{}-0123456789abcdef.tar", ShardId(id)),
            items: 7,
            bytes: id,
            ids_sha256: String::new(),
        }
    }

    fn signing() -> Signing {
        let settings =
            [("aws_access_key_id", "key"), ("aws_secret_access_key", "secret"), ("aws_region", "r")];
        Signing::open_with("s3://bucket/prefix", Duration::from_secs(600), settings).unwrap()
    }

    async fn read(store: &Store, url: &SignedUrl) -> serde_json::Value {
        let key = url.expose().path().split_once("/prefix/").unwrap().1.to_owned();
        serde_json::from_slice(&store.get(&key).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn shards_are_found_by_page_without_gaps() {
        let (store, plan, signing) = (Store::memory(), plan(), signing());
        store.put_new("runs/r/plan.json", "{}".into()).await.unwrap();
        let shards: Vec<ShardRecord> = (0..2500).map(shard).collect();
        let request =
            Grant { store: &store, plan: &plan, shards: &shards, signing: &signing, model_signing: None };
        let url = grant(&request).await.unwrap();
        let root: AccessRoot = serde_json::from_value(read(&store, &url).await).unwrap();
        let ranges: Vec<_> = root.pages.iter().map(|link| (link.first.0, link.end.0)).collect();
        assert_eq!(ranges, [(0, 1000), (1000, 2000), (2000, 2500)]);
        assert_eq!((root.plan.bytes, root.model.len()), (2, 0));
        let page: AccessPage = serde_json::from_value(read(&store, &root.pages[2].page.url).await).unwrap();
        assert_eq!(page.bundles.len(), 500);
        assert_eq!(page.bundles[499].key, "runs/r/inputs/002499-0123456789abcdef.tar");
        assert!(page.bundles[499].url.is_signed());
        // 7 items of 64 components, four times the largest bundle, and the extras.
        assert_eq!(root.upload.most_bytes, 7 * 64 * 4 + 4 * 2499 + PART_EXTRAS);
    }

    #[tokio::test]
    async fn a_run_whose_plan_is_gone_is_not_signed_for() {
        let (store, plan, signing) = (Store::memory(), plan(), signing());
        let request =
            Grant { store: &store, plan: &plan, shards: &[], signing: &signing, model_signing: None };
        let error = grant(&request).await.unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Input);
    }
}
