//! Writes the part of each shard, uploads it, and says so to the queue, in that order: a part in the
//! store finishes the shard whatever becomes of the rest ([`shared::laws::Law::ObjectsAreImmutable`]).

use std::sync::Arc;

use bytes::Bytes;
use shared::part::{Origin, PartBuilder, PartError, WrittenPart};
use shared::queue::{CompleteReply, CompletedPart};
use shared::store::layout;
use tokio::sync::mpsc;

use super::Worker;
use super::claim::end_without_part;
use super::embed::{EmbeddedShard, Settled, Vectors};
use super::fetch::{ShardError, with_causes};
use super::lease::{HeldLease, Leases};
use super::talk::{Contact, persist};

/// Publishes shards until no more come.
pub async fn publish_all(
    worker: Arc<Worker>,
    leases: Arc<Leases>,
    contact: Arc<Contact>,
    mut shards: mpsc::Receiver<EmbeddedShard>,
) {
    while let Some(mut shard) = shards.recv().await {
        let held = Arc::clone(&shard.held);
        // The shard keeps its place in the worker's memory until this iteration ends.
        let _place = shard.place.take();
        match publish(&worker, shard).await {
            Ok(part) => complete(&worker, &leases, &contact, &held, &part).await,
            Err(error) => end_without_part(&worker, &leases, &contact, &held, error).await,
        }
    }
}

async fn publish(worker: &Arc<Worker>, shard: EmbeddedShard) -> Result<WrittenPart, ShardError> {
    let builder = Arc::clone(worker);
    // Writing rows is plain work on tens of megabytes; a panic in it fails this shard alone.
    let built = tokio::task::spawn_blocking(move || build(&builder, shard)).await;
    let mut part = built.map_err(|error| ShardError::panic(error.into_panic().as_ref()))??;
    let key = layout::part_key(&worker.plan.run, &part.name);
    let bytes = Bytes::from(std::mem::take(&mut part.bytes));
    // A lost lease does not stop an upload: the part is harmless, and may be the one that counts.
    worker.store.put_new(&key, bytes).await.map_err(|error| ShardError::store(&error))?;
    Ok(part)
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
        device: worker.embedder.device(),
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
