//! The second pass: one bundle after the other into the store, a few at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use shared::bundle::{BundleBuilder, BundleImage, BundleItem};
use shared::ids::{ContentName, RunId, Sha16, ShardId};
use shared::images::{FoundImage, ImageRoots, Match};
use shared::items::{InputError, ReadItem, read_items};
use shared::plan::ShardRecord;
use shared::store::{Store, layout};
use tokio::sync::Semaphore;

use super::{PlanProgress, PlanRequest, PlanningError};

/// Shards whose bundles are made at once.
const BUILT_AT_ONCE: usize = 3;

/// Bundles on their way at once: a disk that syncs several has done so hardly later than one.
const SENT_AT_ONCE: usize = 12;

/// KiB of bundles on their way at once, or one that is larger.
const SENT_KIBIBYTES: u32 = 48 << 10;

/// What the second pass gives.
pub(super) struct Packed {
    pub(super) shards: Vec<ShardRecord>,
    /// The SHA-256 of each item file, as read this time.
    pub(super) digests: Vec<String>,
}

/// How the items are cut into shards.
pub(super) struct Cut {
    /// All items.
    pub(super) items: u64,
    /// Items of each shard.
    pub(super) lengths: Vec<u64>,
}

/// A bundle ready for the store.
struct Ready {
    name: ContentName,
    bytes: Vec<u8>,
    record: ShardRecord,
}

/// Packs every shard and puts its bundle into the target, where there is one.
pub(super) async fn pack(
    target: Option<(Store, RunId)>,
    request: &Arc<PlanRequest>,
    cut: Cut,
    roots: Arc<ImageRoots>,
    progress: Arc<dyn Fn(PlanProgress) + Send + Sync>,
) -> Result<Packed, PlanningError> {
    let Cut { items: total, lengths } = cut;
    let digests = Arc::new(Mutex::new(Vec::new()));
    let (to_packers, mut from_reader) = tokio::sync::mpsc::channel(1);
    let reader = {
        let (request, digests) = (Arc::clone(request), Arc::clone(&digests));
        tokio::task::spawn_blocking(move || read_shards(&request, &lengths, &digests, &to_packers))
    };
    let chunks = stream::poll_fn(move |context| from_reader.poll_recv(context));
    let (building, sending) =
        (Arc::new(Semaphore::new(BUILT_AT_ONCE)), Semaphore::new(SENT_KIBIBYTES as usize));
    let mut packed = 0;
    let records: Vec<ShardRecord> = chunks
        .enumerate()
        // Nothing more is taken from the reader before it can be worked on.
        .then(|(number, items): (usize, Vec<ReadItem>)| {
            let building = Arc::clone(&building);
            async move { (building.acquire_owned().await, number, items) }
        })
        .map(|(place, number, items)| {
            let (roots, target, sending) = (Arc::clone(&roots), target.as_ref(), &sending);
            async move {
                let work = move || build(ShardId(number as u64), items, &roots);
                let ready = tokio::task::spawn_blocking(work).await.map_err(PlanningError::thread)??;
                let Some((store, run)) = target else { return Ok(ready.record) };
                let kibibytes = (ready.record.bytes >> 10).clamp(1, SENT_KIBIBYTES.into()) as u32;
                let _room = sending.acquire_many(kibibytes).await;
                drop(place);
                put(store, run, ready).await
            }
        })
        .buffered(SENT_AT_ONCE)
        .inspect_ok(|record| {
            packed += record.items;
            progress(PlanProgress::Packed(packed, total));
        })
        .try_collect()
        .await?;
    reader.await.map_err(PlanningError::thread)??;
    let digests = std::mem::take(&mut *digests.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Packed { shards: records, digests })
}

/// Cuts the items into shards. Ends quietly when nobody takes them any more.
fn read_shards(
    request: &PlanRequest,
    lengths: &[u64],
    digests: &Mutex<Vec<String>>,
    to_packers: &tokio::sync::mpsc::Sender<Vec<ReadItem>>,
) -> Result<(), InputError> {
    let mut lengths = lengths.iter().copied();
    let mut length = lengths.next();
    let mut items = Vec::new();
    let read = read_items(
        &request.input.files,
        &request.input.mapping,
        |item| item,
        |item| {
            // More items than before: the files changed, which their digests tell in the end.
            let Some(expected) = length else { return true };
            items.push(item);
            if (items.len() as u64) < expected {
                return true;
            }
            length = lengths.next();
            to_packers.blocking_send(std::mem::take(&mut items)).is_ok()
        },
    )?;
    *digests.lock().unwrap_or_else(PoisonError::into_inner) = read;
    Ok(())
}

fn build(shard: ShardId, items: Vec<ReadItem>, roots: &ImageRoots) -> Result<Ready, PlanningError> {
    let mut builder = BundleBuilder::new();
    // An image that several items of the shard name lies in its bundle once.
    let mut entries: HashMap<FoundImage, String> = HashMap::new();
    for read in items {
        let mut images = Vec::new();
        let mut missing = Vec::new();
        for path in read.item.images {
            let Match::Found(found) = roots.find(&path) else {
                missing.push(path);
                continue;
            };
            let entry = if let Some(entry) = entries.get(&found) {
                entry.clone()
            } else {
                let entry = builder.add_image(roots.read(found)?.into());
                entries.insert(found, entry.clone());
                entry
            };
            images.push(BundleImage::new(entry, path));
        }
        builder.add_item(BundleItem {
            index: read.index,
            id: read.item.id,
            text: read.item.text,
            images,
            missing,
        });
    }
    let items = builder.items();
    let (bytes, ids_sha256) = builder.finish().map_err(PlanningError::Pack)?;
    let name = ContentName { shard, sha: Sha16::of(&bytes) };
    let record =
        ShardRecord { id: shard, bundle: name.bundle(), items, bytes: bytes.len() as u64, ids_sha256 };
    Ok(Ready { name, bytes, record })
}

/// A bundle of this name and size is this bundle: it is not sent again.
async fn put(store: &Store, run: &RunId, ready: Ready) -> Result<ShardRecord, PlanningError> {
    let key = layout::bundle_key(run, &ready.name);
    if store.size(&key).await? != Some(ready.record.bytes) {
        store.put_new(&key, ready.bytes.into()).await?;
    }
    Ok(ready.record)
}
