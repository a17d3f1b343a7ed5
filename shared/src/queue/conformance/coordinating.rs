//! Cases about what a coordinator does to a run.

use crate::ids::ShardId;

use super::super::{BeatAnswer, ClaimReply, CompleteReply, FailKind, FailReply, QueueSettings};
use super::{Case, Subject, id, lasting, part, passing};

pub(super) const CASES: &[Case] = &[
    ("a part is found", |s| Box::pin(part_found(s))),
    ("a part is gone", |s| Box::pin(part_gone(s))),
    ("many at once", |s| Box::pin(reconcile_all(s))),
    ("back from the dead", |s| Box::pin(requeue_dead(s))),
    ("done once more", |s| Box::pin(requeue_done(s))),
    ("forget", |s| Box::pin(forget(s))),
];

async fn part_found(s: Subject) {
    s.add(&QueueSettings { max_attempts: 2, ..lasting() }, &[1, 2, 3, 4]).await;
    let held = s.lease_one("a").await;
    let failed = s.lease_one("a").await;
    s.queue.fail(&id("a"), failed.shard, failed.token, FailKind::Retry, "m").await.expect("fail");
    assert_eq!(s.snapshot().await.shards.delayed, 1);
    for number in [1, 2, 3] {
        let found = part(ShardId(number), 10, 0);
        s.queue.reconcile(ShardId(number), Some(&found)).await.expect("reconcile");
    }
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.done, snapshot.shards.pending, snapshot.items_done), (3, 1, 30));
    assert!(snapshot.leases.is_empty() && snapshot.failures.is_empty());
    assert_eq!(s.beat("a", &held, 3, None).await, BeatAnswer::Cancelled);
    let late = s.queue.complete(&id("a"), held.shard, held.token, &part(held.shard, 9, 1)).await;
    assert_eq!(late.expect("complete"), CompleteReply::Lost);
    s.queue.reconcile(ShardId(1), Some(&part(ShardId(1), 8, 2))).await.expect("reconcile");
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.items_done, snapshot.items_failed), (28, 2), "a better look at the same shard");
    s.queue.reconcile(ShardId(99), Some(&part(ShardId(99), 1, 0))).await.expect("reconcile");
    assert_eq!(s.snapshot().await.shards.total(), 4, "an unknown shard stays unknown");
}

async fn part_gone(s: Subject) {
    s.add(&lasting(), &[1, 2]).await;
    let held = s.lease_one("a").await;
    for number in [1, 2] {
        s.queue.reconcile(ShardId(number), None).await.expect("reconcile");
    }
    let counts = s.snapshot().await.shards;
    assert_eq!((counts.leased, counts.pending), (1, 1), "nothing but a done shard changes");
    s.queue.complete(&id("a"), held.shard, held.token, &part(held.shard, 9, 1)).await.expect("complete");
    s.queue.reconcile(held.shard, None).await.expect("reconcile");
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.pending, snapshot.items_done, snapshot.items_failed), (2, 0, 0));
    let repeated = s.queue.complete(&id("a"), held.shard, held.token, &part(held.shard, 9, 1)).await;
    assert_eq!(repeated.expect("complete"), CompleteReply::Duplicate, "a lost reply, repeated late");
    assert_eq!(s.lease_one("b").await.shard, held.shard);
}

async fn reconcile_all(s: Subject) {
    let ids: Vec<u64> = (1..=1100).collect();
    s.add(&lasting(), &ids).await;
    let found: Vec<_> = (1..=1100).map(|n| (ShardId(n), Some(part(ShardId(n), 10, 0)))).collect();
    s.queue.reconcile_all(&found).await.expect("reconcile_all");
    assert_eq!(s.claim("a", 1).await, ClaimReply::Finished);
    let gone: Vec<_> = (1..=600).map(|n| (ShardId(n), None)).collect();
    s.queue.reconcile_all(&gone).await.expect("reconcile_all");
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.pending, snapshot.shards.done, snapshot.items_done), (600, 500, 5000));
}

async fn requeue_dead(s: Subject) {
    s.add(&QueueSettings { max_attempts: 1, ..lasting() }, &[1, 2]).await;
    for lease in s.lease("a", 2).await {
        let fail = s.queue.fail(&id("a"), lease.shard, lease.token, FailKind::Retry, "m").await;
        assert_eq!(fail.expect("fail"), FailReply::Dead);
    }
    assert_eq!(s.queue.requeue_dead().await.expect("requeue_dead"), 2);
    assert_eq!(s.queue.requeue_dead().await.expect("requeue_dead"), 0);
    let lease = s.lease_one("a").await;
    assert_eq!((lease.shard, lease.attempt), (ShardId(1), 1), "its counters are at zero");
    assert!(s.snapshot().await.failures.is_empty());
}

async fn requeue_done(s: Subject) {
    s.add(&lasting(), &[1]).await;
    assert!(!s.queue.requeue_done(ShardId(1)).await.expect("requeue_done"), "it is pending");
    let lease = s.lease_one("a").await;
    assert!(!s.queue.requeue_done(ShardId(1)).await.expect("requeue_done"), "it is held");
    s.queue.complete(&id("a"), lease.shard, lease.token, &part(lease.shard, 7, 3)).await.expect("complete");
    assert!(s.queue.requeue_done(ShardId(1)).await.expect("requeue_done"));
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.pending, snapshot.items_done, snapshot.items_failed), (1, 0, 0));
    let again = s.lease_one("a").await;
    assert_eq!(again.attempt, 1);
    let reply = s.queue.complete(&id("a"), again.shard, again.token, &part(again.shard, 10, 0)).await;
    assert_eq!(reply.expect("complete"), CompleteReply::Ok);
    assert_eq!(s.snapshot().await.items_done, 10);
}

async fn forget(s: Subject) {
    let ids: Vec<u64> = (1..=1100).collect();
    s.add(&lasting(), &ids).await;
    let lease = s.lease_one("a").await;
    s.queue.forget().await.expect("forget");
    assert_eq!(s.claim("a", 1).await, ClaimReply::UnknownRun);
    assert_eq!(s.queue.snapshot().await.expect("snapshot"), None);
    assert_eq!(s.add(&passing(), &[1]).await, 1, "a run of the same name starts afresh");
    let fresh = s.snapshot().await;
    assert_eq!((fresh.shards.total(), fresh.workers.len()), (1, 0));
    let old = s.queue.fail(&id("a"), lease.shard, lease.token, FailKind::Retry, "m").await;
    assert_eq!(old.expect("fail"), FailReply::Lost);
}
