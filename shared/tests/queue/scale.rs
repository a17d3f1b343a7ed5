//! The size on paper: 200,000 shards and 2,000 workers. Run by hand, for its figures.

use std::time::Instant;

use shared::queue::{Queue, QueueSettings};

use crate::common::redis_server::RedisServer;
use crate::{lease, part, shards, worker};

#[tokio::test]
#[ignore = "takes a minute; prints timings"]
async fn two_hundred_thousand_shards() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("scale").await;
    let memory = |label: &str| {
        let info: String = redis::cmd("INFO").arg("memory").query(&mut server.raw()).expect("INFO");
        let used = info.lines().find(|line| line.starts_with("used_memory_human")).unwrap_or_default();
        println!("{label}: {used}");
    };
    let timed = |label: &str, started: Instant, count: u64| {
        let elapsed = started.elapsed();
        println!("{label}: {elapsed:.2?}, {:.1} us each", elapsed.as_secs_f64() * 1e6 / count as f64);
    };
    let all = shards(200_000);
    let started = Instant::now();
    assert_eq!(queue.add(&QueueSettings::default(), &all).await.unwrap(), 200_000);
    timed("add", started, 200_000);
    memory("pending");
    let started = Instant::now();
    for number in 0..2000 {
        for held in lease(&queue, &format!("worker-{number}"), 2).await {
            if held.shard.0 % 2 == 0 {
                let id = worker(&format!("worker-{number}"));
                queue.complete(&id, held.shard, held.token, &part(held.shard)).await.unwrap();
            }
        }
    }
    timed("claim of two and one complete", started, 2000);
    let started = Instant::now();
    let snapshot = queue.snapshot().await.unwrap().unwrap();
    timed("snapshot of 2,000 workers and leases", started, 1);
    assert_eq!((snapshot.workers.len(), snapshot.leases.len()), (2000, 2000));
    let started = Instant::now();
    let found: Vec<_> = all.iter().map(|shard| (shard.id, Some(part(shard.id)))).collect();
    queue.reconcile_all(&found).await.unwrap();
    timed("reconcile_all", started, 200_000);
    memory("done");
    let started = Instant::now();
    assert_eq!(queue.audit().await.unwrap(), 0);
    timed("audit", started, 200_000);
    let started = Instant::now();
    queue.forget().await.unwrap();
    timed("forget", started, 200_000);
}
