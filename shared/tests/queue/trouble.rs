//! What a server and a network do: restarts, lost keys, cut and silent connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared::ids::ShardId;
use shared::queue::redis::RedisQueue;
use shared::queue::{ClaimReply, CompleteReply, Queue, QueueErrorKind, QueueSettings};

use crate::common::proxy::Proxy;
use crate::common::redis_server::{RedisServer, address_of, queue_at};
use crate::{claim, lease, part, shards, worker};

#[tokio::test]
async fn a_restart_without_persistence_loses_the_functions_and_can_be_made_good() {
    let Some(mut server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("empty").await;
    queue.add(&QueueSettings::default(), &shards(2)).await.unwrap();
    assert_eq!(lease(&queue, "a", 1).await.len(), 1);
    server.kill();
    server.start_again();
    let error = claim(&queue, "a", 1).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::FunctionsMissing);
    assert!(error.is_transient() && error.to_string().contains("coordinator resume"), "{error}");
    queue.load_functions().await.unwrap();
    assert_eq!(claim(&queue, "a", 1).await.unwrap(), ClaimReply::UnknownRun);
    assert_eq!(queue.add(&QueueSettings::default(), &shards(2)).await.unwrap(), 2);
    assert_eq!(lease(&queue, "a", 2).await.len(), 2);
}

#[tokio::test]
async fn flushall_makes_the_run_unknown() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("flushed").await;
    queue.add(&QueueSettings::default(), &shards(2)).await.unwrap();
    let held = lease(&queue, "a", 1).await.remove(0);
    redis::cmd("FLUSHALL").exec(&mut server.raw()).unwrap();
    assert_eq!(claim(&queue, "a", 1).await.unwrap(), ClaimReply::UnknownRun);
    let late = queue.complete(&worker("a"), held.shard, held.token, &part(held.shard)).await.unwrap();
    assert_eq!(late, CompleteReply::Lost);
    assert_eq!(queue.snapshot().await.unwrap(), None);
}

#[tokio::test]
async fn a_dropped_connection_is_made_anew() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("dropped").await;
    queue.add(&QueueSettings::default(), &shards(10)).await.unwrap();
    for number in 0..10 {
        let killed: u64 =
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query(&mut server.raw()).unwrap();
        assert!(killed >= 1);
        assert_eq!(lease(&queue, "a", 1).await[0].shard, ShardId(number));
    }
}

#[tokio::test]
async fn silent_packet_loss_is_noticed() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    server.loaded_queue("silent").await;
    let proxy = Proxy::start(server.port()).await;
    let queue = queue_at(&proxy.url(), "silent");
    queue.add(&QueueSettings::default(), &shards(3)).await.unwrap();
    assert_eq!(lease(&queue, "a", 1).await[0].shard, ShardId(0));
    let before = proxy.accepted();
    proxy.silence();
    let started = Instant::now();
    assert_eq!(lease(&queue, "a", 1).await[0].shard, ShardId(1), "the lost claims have leased nothing else");
    let waited = started.elapsed();
    // Three answers are waited for, half a second each.
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(proxy.accepted(), before + 1, "one new connection");
    assert_eq!(lease(&queue, "a", 1).await[0].shard, ShardId(2));
    assert_eq!(queue.snapshot().await.unwrap().unwrap().shards.leased, 3);
}

#[tokio::test]
async fn an_absent_server_is_given_up_in_time_and_without_its_password() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let options = shared::queue::redis::RedisOptions {
        give_up_after: Duration::from_millis(300),
        ..Default::default()
    };
    let url = format!("redis://user:hunter2@127.0.0.1:{port}/0");
    let queue = RedisQueue::connect(&address_of(&url), &"absent".parse().unwrap(), options).unwrap();
    let started = Instant::now();
    let error = claim(&queue, "a", 1).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Unreachable);
    assert!(started.elapsed() < Duration::from_secs(5));
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("user:***@") && !shown.contains("hunter2"), "{shown}");
}

/// Eight workers, and a power cut in the middle: with every write on disk nothing is lost, and no
/// shard is completed twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_over_a_restart() {
    const SHARDS: u64 = 400;
    let Some(mut server) = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]) else {
        return;
    };
    let queue = Arc::new(server.loaded_queue("restart").await);
    queue.add(&QueueSettings::default(), &shards(SHARDS)).await.unwrap();
    let completed = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> =
        (0..8).map(|number| tokio::spawn(work(Arc::clone(&queue), number, Arc::clone(&completed)))).collect();
    while completed.load(Ordering::SeqCst) < SHARDS / 4 {
        tokio::task::yield_now().await;
    }
    server.kill();
    server.start_again();
    for worker in workers {
        worker.await.unwrap();
    }
    let snapshot = queue.snapshot().await.unwrap().unwrap();
    assert_eq!((snapshot.shards.done, snapshot.items_done), (SHARDS, SHARDS * 10));
    assert_eq!(completed.load(Ordering::SeqCst), SHARDS);
    assert_eq!(snapshot.workers.iter().map(|worker| worker.items_done).sum::<u64>(), SHARDS * 10);
}

async fn work(queue: Arc<RedisQueue>, number: u64, completed: Arc<AtomicU64>) {
    let id = format!("worker-{number}");
    loop {
        match claim(&*queue, &id, 2).await.expect("claim") {
            ClaimReply::Leases(leases) => {
                for lease in leases {
                    let part = part(lease.shard);
                    let reply = queue.complete(&worker(&id), lease.shard, lease.token, &part).await;
                    assert_ne!(reply.expect("complete"), CompleteReply::Lost);
                    completed.fetch_add(1, Ordering::SeqCst);
                }
            }
            ClaimReply::Wait(_) => tokio::task::yield_now().await,
            ClaimReply::Finished => return,
            other => panic!("{other:?}"),
        }
    }
}
