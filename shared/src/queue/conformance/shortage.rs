//! Cases about items that devices have too little memory for.

use crate::ids::{ClaimNonce, ShardId};

use super::super::{
    Claim, ClaimReply, CompleteReply, FailKind, FailReply, Lease, QueueSettings, ShardState, WorkerInfo,
};
use super::{Case, Subject, TICKS, id, lasting, part, passing};

pub(super) const CASES: &[Case] = &[
    ("two hosts of the largest memory", |s| Box::pin(two_hosts(s))),
    ("the same host twice", |s| Box::pin(same_host(s))),
    ("smaller cards", |s| Box::pin(smaller_cards(s))),
    ("a larger card comes later", |s| Box::pin(larger_later(s))),
    ("a failure tells of a larger card", |s| Box::pin(larger_by_failure(s))),
    ("nobody is banned for memory", |s| Box::pin(no_ban(s))),
    ("a failure for memory told again", |s| Box::pin(told_again(s))),
    ("done without the large item", |s| Box::pin(done_clears(s))),
    ("shortages and the dead", |s| Box::pin(requeue_clears(s))),
    ("more shortages than are kept", |s| Box::pin(more_than_kept(s))),
];

const GIB: u64 = 1 << 30;

/// A machine, also the name of its only worker, and its memory in GiB.
type Machine = (&'static str, u64);

/// Backoffs that pass at once under leases that do not.
fn settings() -> QueueSettings {
    QueueSettings { lease: lasting().lease, max_attempts: 3, ..passing() }
}

impl Subject {
    async fn claim_on(&self, worker: &str, (host, memory): Machine) -> ClaimReply {
        let info = WorkerInfo { host: host.to_owned(), memory: memory * GIB, ..WorkerInfo::default() };
        let claim = Claim { worker: id(worker), info, nonce: ClaimNonce::fresh(), max: 1 };
        self.queue.claim(&claim).await.expect("claim")
    }

    /// Claims until something can be claimed.
    async fn lease_on(&self, worker: &str, machine: Machine) -> Lease {
        for _ in 0..TICKS {
            match self.claim_on(worker, machine).await {
                ClaimReply::Leases(mut leases) => return leases.remove(0),
                ClaimReply::Wait(_) => self.tick().await,
                other => panic!("{worker} got {other:?} instead of a lease"),
            }
        }
        panic!("nothing to claim came in time for {worker}");
    }

    async fn run_out(&self, worker: &str, lease: &Lease, item: u32, memory: u64) -> FailReply {
        let kind = FailKind::OutOfMemory { item, memory: memory * GIB };
        self.queue.fail(&id(worker), lease.shard, lease.token, kind, "no memory").await.expect("fail")
    }

    /// The only worker of a machine claims and runs out of memory on an item; the lease it had.
    async fn run_out_on(&self, machine: Machine, item: u32) -> Lease {
        let lease = self.lease_on(machine.0, machine).await;
        assert_eq!(self.run_out(machine.0, &lease, item, machine.1).await, FailReply::Retry);
        lease
    }
}

async fn two_hosts(s: Subject) {
    s.add(&settings(), &[1]).await;
    s.run_out_on(("a", 80), 7).await;
    let snapshot = s.snapshot().await;
    let failure = &snapshot.failures[0];
    assert_eq!((failure.state, failure.attempts), (ShardState::Delayed, 1), "with the normal backoff");
    assert_eq!(failure.message, "no memory");
    let second = s.run_out_on(("b", 80), 7).await;
    assert_eq!((second.attempt, second.too_large.len()), (2, 0), "one host proves nothing");
    let third = s.run_out_on(("a", 80), 2).await;
    assert_eq!((third.attempt, &third.too_large[..]), (1, &[7][..]), "its attempts are back at zero");
    s.run_out_on(("b", 80), 2).await;
    let fourth = s.lease_on("small", ("small", 24)).await;
    assert_eq!((fourth.attempt, &fourth.too_large[..]), (1, &[2, 7][..]), "ascending, for everybody");
}

async fn same_host(s: Subject) {
    s.add(&settings(), &[1]).await;
    for (worker, expected) in
        [("one", FailReply::Retry), ("other", FailReply::Retry), ("one", FailReply::Dead)]
    {
        let lease = s.lease_on(worker, ("a", 80)).await;
        assert!(lease.too_large.is_empty(), "two workers of one machine are one host");
        assert_eq!(s.run_out(worker, &lease, 7, 80).await, expected);
    }
    assert_eq!(s.claim_on("one", ("a", 80)).await, ClaimReply::Stuck);
}

async fn smaller_cards(s: Subject) {
    s.add(&settings(), &[1, 2]).await;
    let large = s.lease_on("large", ("large", 80)).await;
    for _ in 0..4 {
        for machine in [("a", 24), ("b", 24)] {
            let lease = s.run_out_on(machine, 7).await;
            assert_eq!((lease.shard, lease.attempt, lease.too_large.len()), (ShardId(2), 1, 0));
        }
    }
    assert_eq!(s.snapshot().await.failures[0].attempts, 0);
    let complete = s.queue.complete(&id("large"), large.shard, large.token, &part(large.shard, 10, 0)).await;
    assert_eq!(complete.expect("complete"), CompleteReply::Ok);
    let last = s.lease_on("large", ("large", 80)).await;
    assert_eq!((last.shard, last.attempt, last.too_large.len()), (ShardId(2), 1, 0));
}

async fn larger_later(s: Subject) {
    s.add(&settings(), &[1]).await;
    s.run_out_on(("a", 24), 7).await;
    s.run_out_on(("b", 24), 7).await;
    let known = s.lease_on("a", ("a", 24)).await;
    assert_eq!(known.too_large, [7]);
    // A larger card that finds nothing to claim is seen too.
    assert!(matches!(s.claim_on("large", ("large", 80)).await, ClaimReply::Wait(_)));
    assert_eq!(s.run_out("a", &known, 7, 24).await, FailReply::Retry);
    let again = s.run_out_on(("large", 80), 7).await;
    assert_eq!((again.attempt, again.too_large.len()), (1, 0), "it has not tried");
    for machine in [("a", 24), ("b", 24)] {
        let lease = s.run_out_on(machine, 7).await;
        assert_eq!((lease.attempt, lease.too_large.len()), (2, 0));
    }
    s.run_out_on(("larger", 80), 7).await;
    assert_eq!(s.lease_on("a", ("a", 24)).await.too_large, [7]);
}

async fn larger_by_failure(s: Subject) {
    s.add(&settings(), &[1]).await;
    let lease = s.lease_on("a", ("a", 0)).await;
    assert_eq!(s.run_out("a", &lease, 7, 80).await, FailReply::Retry);
    let lease = s.run_out_on(("b", 24), 7).await;
    assert_eq!((lease.attempt, lease.too_large.len()), (2, 0));
    let lease = s.lease_on("b", ("b", 24)).await;
    assert_eq!((lease.attempt, lease.too_large.len()), (2, 0), "the bar is that of the failure");
    assert_eq!(s.run_out("b", &lease, 7, 80).await, FailReply::Retry);
    assert_eq!(s.lease_on("c", ("c", 0)).await.too_large, [7]);
}

async fn no_ban(s: Subject) {
    s.add(&QueueSettings { host_failures_to_ban: 1, max_attempts: 100, ..settings() }, &[1]).await;
    for item in 0..4 {
        s.run_out_on(("a", 80), item).await;
    }
    let workers = s.snapshot().await.workers;
    assert_eq!((workers[0].host_failures, workers[0].banned), (0, false));
    assert_eq!(workers[0].info.memory, 80 * GIB);
    let lease = s.lease_on("a", ("a", 80)).await;
    s.queue.fail(&id("a"), lease.shard, lease.token, FailKind::Host, "CUDA error").await.expect("fail");
    assert_eq!(s.claim_on("a", ("a", 80)).await, ClaimReply::Banned, "other failures still ban");
}

async fn told_again(s: Subject) {
    s.add(&settings(), &[1]).await;
    let lease = s.lease_on("a", ("a", 24)).await;
    assert_eq!(s.run_out("b", &lease, 7, 80).await, FailReply::Lost, "not its lease");
    for _ in 0..3 {
        assert_eq!(s.run_out("a", &lease, 7, 24).await, FailReply::Retry);
    }
    assert_eq!(s.snapshot().await.failures[0].attempts, 1, "the stranger's card is not the largest");
    let next = s.run_out_on(("b", 24), 7).await;
    assert_eq!((next.attempt, next.too_large.len()), (2, 0));
    assert_eq!(s.lease_on("c", ("c", 24)).await.too_large, [7]);
}

async fn done_clears(s: Subject) {
    s.add(&settings(), &[1]).await;
    s.run_out_on(("a", 80), 7).await;
    s.run_out_on(("b", 80), 7).await;
    let lease = s.lease_on("a", ("a", 80)).await;
    assert_eq!(lease.too_large, [7]);
    let complete = s.queue.complete(&id("a"), lease.shard, lease.token, &part(lease.shard, 9, 1)).await;
    assert_eq!(complete.expect("complete"), CompleteReply::Ok);
    assert_eq!(s.claim_on("b", ("b", 80)).await, ClaimReply::Finished);
    assert_eq!(s.snapshot().await.items_failed, 1);
    assert!(s.queue.requeue_done(lease.shard).await.expect("requeue_done"));
    let again = s.lease_on("a", ("a", 80)).await;
    assert!(again.too_large.is_empty(), "a person wants another try");
}

async fn requeue_clears(s: Subject) {
    s.add(&settings(), &[1]).await;
    s.run_out_on(("a", 80), 7).await;
    s.run_out_on(("b", 80), 7).await;
    for expected in [FailReply::Retry, FailReply::Retry, FailReply::Dead] {
        let lease = s.lease_on("a", ("a", 80)).await;
        assert_eq!(lease.too_large, [7]);
        let kind = FailKind::Retry;
        let fail = s.queue.fail(&id("a"), lease.shard, lease.token, kind, "bad bundle").await;
        assert_eq!(fail.expect("fail"), expected);
    }
    assert_eq!(s.queue.requeue_dead().await.expect("requeue_dead"), 1);
    let lease = s.lease_on("a", ("a", 80)).await;
    assert_eq!((lease.attempt, lease.too_large.len()), (1, 0));
}

/// A shard with more large items than are remembered ends as a dead one: it must not go round for ever.
async fn more_than_kept(s: Subject) {
    s.add(&settings(), &[1]).await;
    for item in 0..8 {
        s.run_out_on(("a", 80), item).await;
        s.run_out_on(("b", 80), item).await;
    }
    let hosts = ["a", "b", "c"];
    for (host, expected) in hosts.into_iter().zip([FailReply::Retry, FailReply::Retry, FailReply::Dead]) {
        let lease = s.lease_on(host, (host, 80)).await;
        assert_eq!(lease.too_large, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(s.run_out(host, &lease, 8, 80).await, expected);
    }
}
