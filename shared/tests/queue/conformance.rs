//! The suite on every queue.

use std::sync::Arc;

use shared::queue::Clock;
use shared::queue::ServerTime;
use shared::queue::conformance::{Subject, run_all};
use shared::queue::memory::MemoryQueue;

use crate::common::redis_server::RedisServer;

#[tokio::test]
async fn memory_conforms_on_a_manual_clock() {
    run_all(async |_| {
        let clock = Clock::manual(ServerTime(1_700_000_000_000_000));
        Subject { queue: Arc::new(MemoryQueue::new(clock.clone())), clock: Some(clock) }
    })
    .await;
}

#[tokio::test]
async fn memory_conforms_on_the_machines_clock() {
    run_all(async |_| Subject { queue: Arc::new(MemoryQueue::new(Clock::system())), clock: None }).await;
}

#[tokio::test]
async fn redis_conforms() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    server.loaded_queue("any").await;
    run_all(async |case| {
        let run: String = case.chars().filter(char::is_ascii_alphanumeric).collect();
        Subject { queue: Arc::new(server.queue(&run)), clock: None }
    })
    .await;
}
