//! Cases about leases that their workers end.

use crate::ids::{LeaseToken, ShardId};

use super::super::{
    ClaimReply, CompleteReply, FailKind, FailReply, Lease, QueueSettings, ReleaseReply, ShardState,
};
use super::{Case, Subject, id, lasting, part, passing};

pub(super) const CASES: &[Case] = &[
    ("complete", |s| Box::pin(complete(s))),
    ("retry with backoff", |s| Box::pin(retry(s))),
    ("too many attempts", |s| Box::pin(too_many_attempts(s))),
    ("a long message", |s| Box::pin(long_message(s))),
    ("words of a stranger", |s| Box::pin(words_of_a_stranger(s))),
    ("the machine's fault", |s| Box::pin(host_failures(s))),
    ("release", |s| Box::pin(release(s))),
    ("failures shown", |s| Box::pin(failures_shown(s))),
];

impl Subject {
    async fn fail(&self, worker: &str, lease: &Lease, kind: FailKind, message: &str) -> FailReply {
        self.queue.fail(&id(worker), lease.shard, lease.token, kind, message).await.expect("fail")
    }
}

async fn complete(s: Subject) {
    s.add(&lasting(), &[1, 2]).await;
    let lease = s.lease_one("a").await;
    let made = part(lease.shard, 9, 1);
    s.beat("a", &lease, 4, None).await;
    let stranger = s.queue.complete(&id("b"), lease.shard, lease.token, &made).await;
    assert_eq!(stranger.expect("complete"), CompleteReply::Lost);
    let wrong = s.queue.complete(&id("a"), lease.shard, LeaseToken(lease.token.0 + 1), &made).await;
    assert_eq!(wrong.expect("complete"), CompleteReply::Lost);
    for expected in [CompleteReply::Ok, CompleteReply::Duplicate, CompleteReply::Duplicate] {
        let reply = s.queue.complete(&id("a"), lease.shard, lease.token, &made).await;
        assert_eq!(reply.expect("complete"), expected);
    }
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.done, snapshot.shards.pending, snapshot.shards.leased), (1, 1, 0));
    assert_eq!((snapshot.items_done, snapshot.items_failed, snapshot.items_in_flight), (9, 1, 0));
    assert_eq!((snapshot.workers.len(), snapshot.workers[0].items_done), (1, 9));
    assert_eq!(s.fail("a", &lease, FailKind::Retry, "m").await, FailReply::Lost, "it ended otherwise");
}

async fn retry(s: Subject) {
    s.add(&passing(), &[1]).await;
    let lease = s.lease_one("a").await;
    assert_eq!(s.fail("b", &lease, FailKind::Retry, "m").await, FailReply::Lost);
    for _ in 0..2 {
        assert_eq!(s.fail("a", &lease, FailKind::Retry, "disk is full").await, FailReply::Retry);
    }
    let snapshot = s.snapshot().await;
    assert_eq!((snapshot.shards.delayed, snapshot.failures.len()), (1, 1));
    let failure = &snapshot.failures[0];
    assert_eq!((failure.state, failure.attempts, failure.lost_leases), (ShardState::Delayed, 1, 0));
    assert_eq!(failure.message, "disk is full");
    let again = s.lease_in_time("a").await;
    assert_eq!((again.shard, again.attempt), (lease.shard, 2));
    assert_eq!(s.fail("a", &lease, FailKind::Retry, "m").await, FailReply::Retry, "the old lease's answer");
    assert_eq!(s.snapshot().await.shards.leased, 1, "and nothing else");
}

async fn too_many_attempts(s: Subject) {
    s.add(&QueueSettings { max_attempts: 3, lease: lasting().lease, ..passing() }, &[1]).await;
    for expected in [FailReply::Retry, FailReply::Retry, FailReply::Dead] {
        let lease = s.lease_in_time("a").await;
        assert_eq!(s.fail("a", &lease, FailKind::Retry, "bad bundle").await, expected);
        assert_eq!(s.fail("a", &lease, FailKind::Retry, "bad bundle").await, expected, "the same call again");
    }
    assert_eq!(s.claim("a", 1).await, ClaimReply::Stuck);
    let snapshot = s.snapshot().await;
    assert_eq!(snapshot.shards.dead, 1);
    assert_eq!((snapshot.failures[0].attempts, &*snapshot.failures[0].message), (3, "bad bundle"));
}

async fn long_message(s: Subject) {
    s.add(&lasting(), &[1]).await;
    let lease = s.lease_one("a").await;
    s.fail("a", &lease, FailKind::Retry, &"긴".repeat(5000)).await;
    assert_eq!(s.snapshot().await.failures[0].message, "긴".repeat(333), "1000 bytes, whole characters");
}

async fn words_of_a_stranger(s: Subject) {
    s.add(&lasting(), &[1]).await;
    let lease = s.lease_one("a\u{1b}[2J").await;
    s.fail("a\u{1b}[2J", &lease, FailKind::Retry, "no\r\n\u{1b}]0;news\u{7}").await;
    let snapshot = s.snapshot().await;
    assert_eq!(snapshot.failures[0].message, "no   ]0;news ", "a terminal gets no orders");
    assert_eq!((&*snapshot.workers[0].id.0, &*snapshot.workers[0].info.host), ("a [2J", "host of a [2J"));
}

async fn host_failures(s: Subject) {
    s.add(&QueueSettings { host_failures_to_ban: 2, ..lasting() }, &[1]).await;
    for number in 1..=2 {
        let lease = s.lease_one("a").await;
        assert_eq!(lease.attempt, 1, "no attempt is counted");
        for _ in 0..2 {
            assert_eq!(s.fail("a", &lease, FailKind::Host, "CUDA error").await, FailReply::Retry);
        }
        let snapshot = s.snapshot().await;
        assert_eq!(snapshot.shards.pending, 1, "pending at once");
        assert_eq!((snapshot.workers[0].host_failures, snapshot.workers[0].banned), (number, number == 2));
    }
    assert_eq!(s.claim("a", 1).await, ClaimReply::Banned);
    assert_eq!(s.lease_one("b").await.shard, ShardId(1), "the shard is not to blame");
}

async fn release(s: Subject) {
    s.add(&lasting(), &[1]).await;
    let lease = s.lease_one("a").await;
    assert_eq!(s.queue.release(&id("b"), lease.shard, lease.token).await.expect("r"), ReleaseReply::Lost);
    for _ in 0..2 {
        assert_eq!(s.queue.release(&id("a"), lease.shard, lease.token).await.expect("r"), ReleaseReply::Ok);
    }
    let again = s.lease_one("b").await;
    assert_eq!((again.shard, again.attempt), (lease.shard, 1));
    assert_eq!(s.queue.release(&id("a"), lease.shard, lease.token).await.expect("r"), ReleaseReply::Ok);
    assert_eq!(s.snapshot().await.shards.leased, 1, "the lease of b stands");
    assert!(s.snapshot().await.failures.is_empty());
}

async fn failures_shown(s: Subject) {
    let settings = QueueSettings { max_attempts: 2, lease: lasting().lease, ..passing() };
    let ids: Vec<u64> = (1..=120).collect();
    s.add(&settings, &ids).await;
    let mut leases = s.lease("a", 100).await;
    leases.extend(s.lease("a", 100).await);
    assert_eq!(leases.len(), 120);
    let last = leases.pop().expect("120 leases");
    s.fail("a", &last, FailKind::Retry, "first").await;
    let last = s.lease_in_time("a").await;
    assert_eq!(s.fail("a", &last, FailKind::Retry, "second").await, FailReply::Dead);
    for lease in &leases {
        s.fail("a", lease, FailKind::Retry, "m").await;
    }
    let failures = s.snapshot().await.failures;
    assert_eq!(failures.len(), 100);
    assert_eq!((failures[0].shard, failures[0].state), (ShardId(120), ShardState::Dead), "dead ones first");
    assert!(failures[1..].iter().all(|failure| failure.state == ShardState::Delayed));
}
