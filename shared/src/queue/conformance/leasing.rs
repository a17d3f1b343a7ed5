//! Cases about leases that stand, go on, and are lost.

use crate::ids::{ClaimNonce, ShardId};

use super::super::{
    BeatAnswer, ClaimReply, CompleteReply, FailKind, FailReply, ItemRange, QueueSettings, ReleaseReply,
    ShardState,
};
use super::{Case, Subject, id, info, lasting, part, passing};

pub(super) const CASES: &[Case] = &[
    ("the same claim again", |s| Box::pin(same_claim_again(s))),
    ("beats", |s| Box::pin(beats(s))),
    ("a lease lost", |s| Box::pin(lease_lost(s))),
    ("overdue but not reaped", |s| Box::pin(overdue(s))),
    ("too many leases lost", |s| Box::pin(too_many_lost(s))),
    ("isolation", |s| Box::pin(isolation(s))),
];

async fn same_claim_again(s: Subject) {
    s.add(&lasting(), &[1, 2, 3, 4]).await;
    let nonce = ClaimNonce::fresh();
    let first = s.claim_as("a", nonce.clone(), 2).await;
    let ClaimReply::Leases(leases) = first.clone() else { panic!("{first:?}") };
    assert_eq!(s.claim_as("a", nonce.clone(), 2).await, first);
    assert_eq!(s.lease_one("b").await.shard, ShardId(3), "another claim gets others");
    s.queue.pause().await.expect("pause");
    assert_eq!(s.claim_as("a", nonce.clone(), 2).await, first, "what was given stays given");
    s.queue.unpause().await.expect("unpause");

    let [one, two] = &leases[..] else { panic!("{leases:?}") };
    s.queue.complete(&id("a"), one.shard, one.token, &part(one.shard, 10, 0)).await.expect("complete");
    assert_eq!(s.claim_as("a", nonce.clone(), 2).await, ClaimReply::Leases(vec![two.clone()]));
    s.queue.complete(&id("a"), two.shard, two.token, &part(two.shard, 10, 0)).await.expect("complete");
    let late = s.claim_as("a", nonce.clone(), 2).await;
    assert!(matches!(late, ClaimReply::Wait(_)), "a late repeat takes nothing: {late:?}");
    let of_b = s.claim_as("b", nonce, 1).await;
    assert!(matches!(of_b, ClaimReply::Leases(_)), "a nonce belongs to one worker: {of_b:?}");
}

async fn beats(s: Subject) {
    s.add(&lasting(), &[1, 2]).await;
    let lease = s.lease_one("a").await;
    s.tick().await;
    let BeatAnswer::Extended(until) = s.beat("a", &lease, 4, None).await else { panic!("lost") };
    assert!(until > lease.expires_at);
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.items_in_flight, snapshot.items_done), (4, 0));
    assert!(snapshot.items_per_second > 0.0);
    let worker = &snapshot.workers[0];
    assert_eq!((&worker.id, &worker.info), (&id("a"), &info("a")));
    assert_eq!((worker.leases, worker.items_in_flight, worker.items_done), (1, 4, 0));
    let seen = &snapshot.leases[0];
    assert_eq!((seen.shard, &seen.worker, seen.attempt, seen.items_done), (ShardId(1), &id("a"), 1, 4));
    assert!(seen.expires_in_seconds > 500.0 && seen.expires_in_seconds <= 600.0);

    assert_eq!(s.beat("b", &lease, 5, None).await, BeatAnswer::Lost, "not its lease");
    let workers: Vec<_> = s.snapshot().await.workers.into_iter().map(|worker| worker.id).collect();
    assert_eq!(workers.len(), 2);
    let complete = s.queue.complete(&id("a"), lease.shard, lease.token, &part(lease.shard, 10, 0)).await;
    assert_eq!(complete.expect("complete"), CompleteReply::Ok);
    assert_eq!(s.beat("a", &lease, 10, None).await, BeatAnswer::Cancelled, "it is done");
}

/// A lease is lost by the queue's clock, and its worker can do nothing to the shard from then on.
async fn lease_lost(s: Subject) {
    s.add(&passing(), &[1]).await;
    let lost = s.lease_one("zombie").await;
    s.let_expire(lost.shard).await;
    let next = s.lease_one("b").await;
    assert_eq!((next.shard, next.attempt), (lost.shard, 2));
    assert!(next.token > lost.token);

    let (zombie, shard, token) = (id("zombie"), lost.shard, lost.token);
    assert_eq!(s.beat("zombie", &lost, 9, None).await, BeatAnswer::Lost);
    let complete = s.queue.complete(&zombie, shard, token, &part(shard, 10, 0)).await;
    assert_eq!(complete.expect("complete"), CompleteReply::Lost);
    let fail = s.queue.fail(&zombie, shard, token, FailKind::Retry, "m").await;
    assert_eq!(fail.expect("fail"), FailReply::Lost);
    assert_eq!(s.queue.release(&zombie, shard, token).await.expect("release"), ReleaseReply::Lost);
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.leased, &snapshot.leases[0].worker), (1, &id("b")));

    let complete = s.queue.complete(&id("b"), shard, next.token, &part(shard, 10, 0)).await;
    assert_eq!(complete.expect("complete"), CompleteReply::Ok);
    assert_eq!(s.beat("zombie", &lost, 9, None).await, BeatAnswer::Cancelled);
}

/// Nobody else can hold a shard before its lease is reaped, so its worker may still go on.
async fn overdue(s: Subject) {
    s.add(&passing(), &[1]).await;
    let lease = s.lease_one("a").await;
    s.let_expire(lease.shard).await;
    assert!(matches!(s.beat("a", &lease, 1, None).await, BeatAnswer::Extended(_)));
    s.let_expire(lease.shard).await;
    let complete = s.queue.complete(&id("a"), lease.shard, lease.token, &part(lease.shard, 10, 0)).await;
    assert_eq!(complete.expect("complete"), CompleteReply::Ok);
}

async fn too_many_lost(s: Subject) {
    let settings = QueueSettings { max_lost_leases: 2, max_attempts: 1, ..passing() };
    s.add(&settings, &[1]).await;
    for worker in ["a", "b"] {
        let lease = s.lease_one(worker).await;
        s.let_expire(lease.shard).await;
    }
    assert_eq!(s.claim("c", 1).await, ClaimReply::Stuck);
    let failures = s.snapshot().await.failures;
    assert_eq!(failures.len(), 1);
    assert_eq!((failures[0].state, failures[0].attempts, failures[0].lost_leases), (ShardState::Dead, 0, 2));
    assert_eq!(failures[0].message, "2 leases lost, the last by b");
}

/// The positions of a batch in flight, where one is.
type Batch = Option<(u32, u32)>;

async fn isolation(s: Subject) {
    s.add(&passing(), &[1]).await;
    // The batches that each worker beats with before it vanishes, the latest last.
    let batches: [(&str, &[Batch]); 5] = [
        ("z", &[Some((4, 6))]),
        ("a", &[Some((0, 4))]),
        ("a", &[Some((0, 4))]),
        ("b", &[Some((0, 4)), None]),
        ("c", &[Some((4, 8)), Some((2, 8))]),
    ];
    for (worker, batches) in batches {
        let lease = s.lease_one(worker).await;
        assert_eq!(lease.isolate, None, "two workers, each in a batch, are needed");
        for batch in batches {
            let range = batch.map(|(first, end)| ItemRange { first, end });
            let answer = s.beat(worker, &lease, 0, range).await;
            assert!(matches!(answer, BeatAnswer::Extended(_)), "{answer:?}");
        }
        s.let_expire(lease.shard).await;
    }
    let lease = s.lease_one("d").await;
    assert_eq!(lease.isolate, Some(ItemRange { first: 2, end: 4 }), "where the two batches overlap");
    assert_eq!(lease.attempt, 6);
    s.queue.complete(&id("d"), lease.shard, lease.token, &part(lease.shard, 9, 1)).await.expect("complete");
    assert!(s.queue.requeue_done(lease.shard).await.expect("requeue_done"));
    assert_eq!(s.lease_one("e").await.isolate, None, "a shard that was done starts afresh");
}
