//! The program that measures the queue at scale, with few shards: what it counts is what happened.

use std::time::Duration;

use tests::redis::RedisServer;
use tests::scale::{case, case::Case, overhead};

/// Longer than any phase here needs: they end when the work is done.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_does_each_shard_once() {
    let Some(server) = RedisServer::start() else { return };
    let case = Case {
        shards: 200,
        workers: 20,
        connections: 5,
        claims_a_minute: 6000.0,
        paced: Duration::from_secs(1),
        flat_out: LONG,
    };
    let outcome = case::run(&server, case).await.unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    assert_eq!((outcome.end.shards.done, outcome.end.items_done), (200, 200 * case::ITEMS));
    assert_eq!(outcome.end.workers.len(), 20);
    assert_eq!(outcome.connections, 5);
    assert_eq!(outcome.start.work.claims.count(), 20);
    assert!(outcome.paced.work.completes.count() > 0, "{:?}", outcome.paced.work);
    let phases = [&outcome.start, &outcome.paced, &outcome.flat_out];
    let mut done: Vec<u64> = phases.iter().flat_map(|phase| phase.work.done.clone()).collect();
    done.sort_unstable();
    assert!(done.iter().copied().eq(0..200), "{done:?}");
    assert!(phases.iter().all(|phase| phase.snapshots.count() > 0));
    assert_eq!(outcome.at_rest.commands.count(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_that_are_wrong_are_told() {
    let Some(server) = RedisServer::start() else { return };
    let case = Case {
        shards: 20,
        workers: 2,
        connections: 2,
        claims_a_minute: 600.0,
        paced: Duration::ZERO,
        flat_out: LONG,
    };
    let mut outcome = case::run(&server, case).await.unwrap();
    assert_eq!(outcome.faults(), Vec::<String>::new());
    let last = outcome.flat_out.work.done.pop().unwrap();
    assert_eq!(outcome.faults().len(), 3, "a shard missing: {:?}", outcome.faults());
    let other = outcome.flat_out.work.done[0];
    outcome.flat_out.work.done.push(other);
    assert_eq!(outcome.faults().len(), 1, "shard {other} twice, {last} never: {:?}", outcome.faults());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_does_them_all() {
    let Some(server) = RedisServer::start() else { return };
    let outcome = overhead::run(&server, 50).await.unwrap();
    assert_eq!((outcome.done, outcome.shards.count()), (50, 50));
    assert!(outcome.beats.count() > 0);
}
