//! Writes the part of each shard, uploads it, and says so to the queue, in that order: a part in the
//! store finishes the shard whatever becomes of the rest ([`shared::laws::Law::ObjectsAreImmutable`]).

use std::sync::Arc;

use std::time::Instant;

use bytes::Bytes;
use shared::ids::Sha16;
use shared::part::{Origin, PartBuilder, PartError, WrittenPart};
use shared::queue::{CompleteReply, CompletedPart};
use shared::store::{StoreErrorKind, layout};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Worker;
use super::claim::end_without_part;
use super::embed::{EmbeddedShard, Settled, Vectors};
use super::fetch::{ShardError, with_causes};
use super::lease::{HeldLease, Leases};
use super::talk::{Contact, pause, persist};

/// Publishes shards until no more come.
pub async fn publish_all(
    worker: Arc<Worker>,
    leases: Arc<Leases>,
    contact: Arc<Contact>,
    store_lost: CancellationToken,
    mut shards: mpsc::Receiver<EmbeddedShard>,
) {
    while let Some(mut shard) = shards.recv().await {
        let held = Arc::clone(&shard.held);
        // The shard keeps its place in the worker's memory until this iteration ends.
        let _place = shard.place.take();
        let had_vectors = shard.vectors.is_ok();
        match publish(&worker, shard, &store_lost).await {
            Ok(part) => complete(&worker, &leases, &contact, &held, &part).await,
            Err(error) => {
                // An upload given back by a worker that does not stop was refused for too long.
                if matches!(error, ShardError::GiveBack(_)) && had_vectors && !worker.stop.is_cancelled() {
                    store_lost.cancel();
                }
                end_without_part(&worker, &leases, &contact, &held, error).await;
            }
        }
    }
}

async fn publish(
    worker: &Arc<Worker>,
    shard: EmbeddedShard,
    store_lost: &CancellationToken,
) -> Result<WrittenPart, ShardError> {
    let builder = Arc::clone(worker);
    // Writing rows is plain work on tens of megabytes; a panic in it fails this shard alone.
    let built = tokio::task::spawn_blocking(move || build(&builder, shard)).await;
    let mut part = built.map_err(|error| ShardError::panic(error.into_panic().as_ref()))??;
    let key = layout::part_key(&worker.plan.run, &part.name);
    let bytes = Bytes::from(std::mem::take(&mut part.bytes));
    // A lost lease does not stop an upload: the part is harmless, and may be the one that counts.
    upload(worker, &key, &part, bytes, store_lost).await?;
    Ok(part)
}

/// Uploads patiently: the vectors are worth more than the wait. A store that refuses for too long ends
/// the worker, and the parts behind that one are tried once.
async fn upload(
    worker: &Worker,
    key: &str,
    part: &WrittenPart,
    bytes: Bytes,
    store_lost: &CancellationToken,
) -> Result<(), ShardError> {
    let started = Instant::now();
    let mut tries = 0;
    loop {
        let error = match worker.store.put_new(key, bytes.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind == StoreErrorKind::Conflict => {
                return replace_damaged(worker, key, part, bytes).await;
            }
            Err(error) => ShardError::store(&error),
        };
        let hopeless = worker.stop.is_cancelled() || store_lost.is_cancelled();
        let patient = matches!(error, ShardError::GiveBack(_)) && !hopeless;
        if !patient || started.elapsed() >= worker.settings.give_up_after {
            return Err(error);
        }
        tracing::warn!(shard = %part.name.shard, %error, "the part cannot be uploaded; trying again");
        tokio::select! {
            () = worker.stop.cancelled() => {}
            () = tokio::time::sleep(pause(tries)) => {}
        }
        tries += 1;
    }
}

/// What lies under a part's name and is not what the name says is no part: it was damaged, and the
/// same bytes computed again have the same name.
async fn replace_damaged(
    worker: &Worker,
    key: &str,
    part: &WrittenPart,
    bytes: Bytes,
) -> Result<(), ShardError> {
    let present = worker.store.get(key).await.map_err(|error| ShardError::store(&error))?;
    if Sha16::of(&present) == part.name.sha {
        return Ok(());
    }
    tracing::warn!(part = %part.name.part(), "a damaged part lies under this name; it is replaced");
    worker.store.replace(key, bytes).await.map_err(|error| ShardError::store(&error))
}

fn build(worker: &Worker, shard: EmbeddedShard) -> Result<WrittenPart, ShardError> {
    let EmbeddedShard { held, settled, vectors, .. } = shard;
    part_of(worker, &held, settled, &vectors?)
        .map_err(|error| ShardError::Shard(format!("its part cannot be written: {}", with_causes(&error))))
}

fn part_of(
    worker: &Worker,
    held: &HeldLease,
    settled: Vec<Settled>,
    vectors: &Vectors,
) -> Result<WrittenPart, PartError> {
    let first_index = settled.first().map_or(0, |item| item.index);
    let ids = settled.iter().map(|item| item.id.clone()).collect();
    let mut part = PartBuilder::new(&worker.plan, held.lease().shard, first_index, ids);
    let mut rows = vectors.rows.iter();
    for item in settled {
        match item.fate {
            // Without a row for it, `finish` names the item.
            Ok(images_used) => {
                if let Some(row) = rows.next() {
                    part.row(item.index, row, images_used)?;
                }
            }
            Err(reason) => part.fail(item.index, reason.kind, reason.reason)?,
        }
        for dropped in item.dropped {
            part.drop_image(dropped.index, dropped.kind, dropped.reason)?;
        }
    }
    part.finish(Origin {
        device: worker.preparer().device(),
        batch_tokens: worker.settings.budget.0 as u64,
        batch_reduced: vectors.batch_reduced,
        null_embedding: worker.null_vector.to_vec(),
    })
}

async fn complete(worker: &Worker, leases: &Leases, contact: &Contact, held: &HeldLease, part: &WrittenPart) {
    let (shard, token) = (held.lease().shard, held.lease().token);
    let completed = CompletedPart {
        name: part.name.clone(),
        embedded: part.metadata.count,
        failed: part.metadata.failed,
    };
    let answer = persist(contact, worker.settings.give_up_after, || {
        worker.queue.complete(&worker.id, shard, token, &completed)
    })
    .await;
    match answer {
        Ok(CompleteReply::Ok | CompleteReply::Duplicate) => {
            tracing::info!(%shard, rows = completed.embedded, failed = completed.failed, "done");
        }
        Ok(CompleteReply::Lost) => {
            tracing::warn!(%shard, "the lease was lost before its part was uploaded; the part stays in the store");
        }
        Err(error) => {
            tracing::warn!(%shard, %error, "the part is uploaded, but the queue does not know it yet");
        }
    }
    leases.put_down(held);
}
