//! Both queues against one suite, against each other, and the Redis queue against everything that a
//! server and a network do to it.

#[path = "../common/mod.rs"]
mod common;

mod conformance;
mod property;
mod repair;
mod rights;
mod scale;
mod tls;
mod trouble;

use shared::ids::{ClaimNonce, ContentName, Sha16, ShardId, WorkerId};
use shared::queue::{Claim, ClaimReply, CompletedPart, Lease, NewShard, Queue, QueueError, WorkerInfo};

/// Shards `0..count` of ten items.
fn shards(count: u64) -> Vec<NewShard> {
    let shard = |id| NewShard { id: ShardId(id), bundle: name(ShardId(id), "bundle"), items: 10, part: None };
    (0..count).map(shard).collect()
}

fn name(shard: ShardId, what: &str) -> ContentName {
    ContentName { shard, sha: Sha16::of(format!("{what} {shard}").as_bytes()) }
}

/// A part with a row for every item.
fn part(shard: ShardId) -> CompletedPart {
    CompletedPart { name: name(shard, "part"), embedded: 10, failed: 0 }
}

fn worker(id: &str) -> WorkerId {
    WorkerId(id.to_owned())
}

async fn claim(queue: &dyn Queue, id: &str, max: u32) -> Result<ClaimReply, QueueError> {
    let info = WorkerInfo::default();
    queue.claim(&Claim { worker: worker(id), info, nonce: ClaimNonce::fresh(), max }).await
}

async fn lease(queue: &dyn Queue, id: &str, max: u32) -> Vec<Lease> {
    match claim(queue, id, max).await.expect("claim") {
        ClaimReply::Leases(leases) => leases,
        other => panic!("{other:?} instead of leases"),
    }
}
