//! Cases about making a run and what claims are told.

use crate::ids::ShardId;

use super::super::{
    Beat, BeatAnswer, BeatShard, ClaimReply, CompleteReply, FailKind, FailReply, NewShard, QueueErrorKind,
    ReleaseReply, RunState,
};
use super::{Case, Subject, id, info, lasting, part, passing, shard};
use crate::ids::LeaseToken;

pub(super) const CASES: &[Case] = &[
    ("an unknown run", |s| Box::pin(unknown_run(s))),
    ("adding twice", |s| Box::pin(adding_twice(s))),
    ("a part that is there", |s| Box::pin(added_as_done(s))),
    ("foreign names", |s| Box::pin(foreign_names(s))),
    ("more shards than one batch", |s| Box::pin(many_shards(s))),
    ("lowest id first", |s| Box::pin(lowest_first(s))),
    ("pause and drain", |s| Box::pin(pause_and_drain(s))),
    ("wait, stuck and finished", |s| Box::pin(wait_stuck_finished(s))),
    ("a run without shards", |s| Box::pin(no_shards(s))),
];

async fn unknown_run(s: Subject) {
    assert_eq!(s.claim("a", 1).await, ClaimReply::UnknownRun);
    let token = LeaseToken(1);
    let held = BeatShard { shard: ShardId(1), token, items_done: 0, in_flight: None };
    let beat = Beat { worker: id("a"), info: info("a"), shards: vec![held] };
    let reply = s.queue.beat(&beat).await.expect("beat");
    assert_eq!((reply.run, reply.shards), (None, vec![(ShardId(1), BeatAnswer::Lost)]));
    let (worker, one) = (id("a"), ShardId(1));
    let complete = s.queue.complete(&worker, one, token, &part(one, 10, 0)).await;
    assert_eq!(complete.expect("complete"), CompleteReply::Lost);
    let fail = s.queue.fail(&worker, one, token, FailKind::Retry, "m").await;
    assert_eq!(fail.expect("fail"), FailReply::Lost);
    assert_eq!(s.queue.release(&worker, one, token).await.expect("release"), ReleaseReply::Lost);
    s.queue.reconcile(one, Some(&part(one, 10, 0))).await.expect("reconcile");
    assert_eq!(s.queue.requeue_dead().await.expect("requeue_dead"), 0);
    assert!(!s.queue.requeue_done(one).await.expect("requeue_done"));
    s.queue.unpause().await.expect("unpause");
    for refused in [s.queue.pause().await, s.queue.drain().await] {
        assert_eq!(refused.expect_err("no such run").kind, QueueErrorKind::Refused);
    }
    s.queue.forget().await.expect("forget");
    assert_eq!(s.queue.snapshot().await.expect("snapshot"), None);
}

async fn adding_twice(s: Subject) {
    assert_eq!(s.add(&lasting(), &[1, 2]).await, 2);
    assert_eq!(s.add(&passing(), &[2, 3]).await, 1);
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.pending, snapshot.items_total), (3, 30));
    assert_eq!(s.lease_one("a").await.lease, lasting().lease, "settings are those of the first call");
    assert_eq!(s.add(&lasting(), &[1]).await, 0);
    assert_eq!(s.snapshot().await.shards.leased, 1, "a shard that is held stays so");
}

async fn added_as_done(s: Subject) {
    let done = NewShard { part: Some(part(ShardId(1), 9, 1)), ..shard(1) };
    assert_eq!(s.queue.add(&lasting(), &[done, shard(2)]).await.expect("add"), 2);
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.done, snapshot.shards.pending), (1, 1));
    assert_eq!((snapshot.items_done, snapshot.items_failed), (9, 1));
    assert!(snapshot.items_per_second.abs() < 1e-12, "nothing was embedded in this run's time");
    assert_eq!(s.lease_one("a").await.shard, ShardId(2));
}

async fn foreign_names(s: Subject) {
    let foreign = NewShard { bundle: shard(2).bundle, ..shard(1) };
    let error = s.queue.add(&lasting(), &[foreign]).await.expect_err("another shard's bundle");
    assert_eq!(error.kind, QueueErrorKind::Refused);
    s.add(&lasting(), &[1]).await;
    let lease = s.lease_one("a").await;
    let foreign = part(ShardId(2), 10, 0);
    let refused = s.queue.complete(&id("a"), lease.shard, lease.token, &foreign).await;
    assert_eq!(refused.expect_err("another shard's part").kind, QueueErrorKind::Refused);
    assert_eq!(s.snapshot().await.shards.leased, 1);
}

async fn many_shards(s: Subject) {
    let shards: Vec<NewShard> = (0..1201)
        .map(|n| NewShard { part: (n % 2 == 0).then(|| part(ShardId(n), 10, 0)), ..shard(n) })
        .collect();
    assert_eq!(s.queue.add(&lasting(), &shards).await.expect("add"), 1201);
    let counts = s.snapshot().await.shards;
    assert_eq!((counts.done, counts.pending, counts.total()), (601, 600, 1201));
    let leases = s.lease("a", 1000).await;
    assert_eq!(leases.len(), 100, "one claim is bounded");
    assert!(leases.iter().enumerate().all(|(n, lease)| lease.shard == ShardId(2 * n as u64 + 1)));
}

async fn lowest_first(s: Subject) {
    s.add(&lasting(), &[1_000_000, 5, 999_999, 3]).await;
    let leases = s.lease("a", 3).await;
    let ids: Vec<u64> = leases.iter().map(|lease| lease.shard.0).collect();
    assert_eq!(ids, [3, 5, 999_999]);
    assert!(leases.windows(2).all(|pair| pair[0].token < pair[1].token), "tokens grow");
    let first = &leases[0];
    assert_eq!((&first.bundle, first.items), (&shard(3).bundle, 10));
    assert_eq!((first.attempt, first.isolate, first.too_large.len()), (1, None, 0));
    assert_eq!(s.lease_one("b").await.shard, ShardId(1_000_000));
}

async fn pause_and_drain(s: Subject) {
    s.add(&lasting(), &[1, 2]).await;
    let lease = s.lease_one("a").await;
    s.queue.pause().await.expect("pause");
    assert_eq!(s.claim("b", 1).await, ClaimReply::Paused);
    assert_eq!(s.snapshot().await.state, RunState::Paused);
    assert!(matches!(s.beat("a", &lease, 1, None).await, BeatAnswer::Extended(_)), "leases go on");
    s.queue.drain().await.expect("drain");
    assert_eq!(s.claim("b", 1).await, ClaimReply::Draining);
    let beat = Beat { worker: id("a"), info: info("a"), shards: Vec::new() };
    assert_eq!(s.queue.beat(&beat).await.expect("beat").run, Some(RunState::Draining));
    s.queue.unpause().await.expect("unpause");
    assert_eq!(s.lease_one("b").await.shard, ShardId(2));
    s.queue.pause().await.expect("pause");
    for number in [1, 2] {
        s.queue.reconcile(ShardId(number), Some(&part(ShardId(number), 10, 0))).await.expect("reconcile");
    }
    assert_eq!(s.claim("b", 1).await, ClaimReply::Finished, "there is nothing left to pause");
}

async fn wait_stuck_finished(s: Subject) {
    let settings = super::QueueSettings { max_attempts: 1, ..lasting() };
    s.add(&settings, &[1, 2]).await;
    let (one, two) = (s.lease_one("a").await, s.lease_one("a").await);
    assert_eq!(s.claim("b", 1).await, ClaimReply::Wait(one.expires_at), "the next lease to expire");
    let fail = s.queue.fail(&id("a"), one.shard, one.token, FailKind::Retry, "m").await;
    assert_eq!(fail.expect("fail"), FailReply::Dead);
    assert_eq!(s.claim("b", 1).await, ClaimReply::Wait(two.expires_at));
    s.queue.complete(&id("a"), two.shard, two.token, &part(two.shard, 10, 0)).await.expect("complete");
    assert_eq!(s.claim("b", 1).await, ClaimReply::Stuck);
    s.queue.reconcile(one.shard, Some(&part(one.shard, 10, 0))).await.expect("reconcile");
    assert_eq!(s.claim("b", 1).await, ClaimReply::Finished);
}

async fn no_shards(s: Subject) {
    s.add(&lasting(), &[]).await;
    assert!(matches!(s.claim("a", 1).await, ClaimReply::Wait(_)), "its shards are still to come");
}
