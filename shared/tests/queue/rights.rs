//! Servers that would lose shards, and callers with few rights.

use shared::queue::redis::mask_url;
use shared::queue::{ClaimReply, Queue, QueueErrorKind, QueueSettings};

use crate::common::redis_server::{RedisServer, address_of, queue_at};
use crate::{claim, lease, part, shards, worker};

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.queue("policy");
    queue.check_server().await.unwrap();
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let set = redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg(policy).exec(&mut server.raw());
        set.unwrap();
        let error = queue.check_server().await.unwrap_err();
        assert_eq!(error.kind, QueueErrorKind::Refused);
        assert!(error.to_string().contains(policy) && error.to_string().contains("noeviction"), "{error}");
    }
}

#[tokio::test]
async fn the_policy_is_read_from_info_where_config_is_withheld() {
    let Some(server) = RedisServer::start(&["--rename-command", "CONFIG", ""]) else {
        return;
    };
    server.queue("policy").check_server().await.unwrap();
    let arguments = ["--rename-command", "CONFIG", "", "--maxmemory-policy", "allkeys-random"];
    let Some(server) = RedisServer::start(&arguments) else {
        return;
    };
    let error = server.queue("policy").check_server().await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Refused);
    assert!(error.to_string().contains("allkeys-random"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let Some(server) = RedisServer::start(&["--requirepass", "swordfish"]) else {
        return;
    };
    let port = server.port();
    let right = queue_at(&format!("redis://:swordfish@127.0.0.1:{port}/0"), "secret");
    right.load_functions().await.unwrap();
    assert_eq!(claim(&right, "a", 1).await.unwrap(), ClaimReply::UnknownRun);
    for url in [format!("redis://:hunter2@127.0.0.1:{port}/0"), server.url()] {
        let error = claim(&queue_at(&url, "secret"), "a", 1).await.unwrap_err();
        assert_eq!(error.kind, QueueErrorKind::Refused, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(&mask_url(&url)) && !shown.contains("hunter2"), "{shown}");
    }
}

/// The commands inside a function run with the caller's rights.
#[tokio::test]
async fn a_worker_needs_no_more_than_these_rights() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let coordinator = server.loaded_queue("few").await;
    coordinator.add(&QueueSettings::default(), &shards(4)).await.unwrap();
    let rules = "on >swordfish resetkeys ~fleet:{few}:* -@all +fcall +ping +time +hgetall +hmget +hset +hdel \
                 +hincrby +hkeys +zadd +zrem +zrange +zrangebyscore +zcard +zscore +xadd";
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg("worker");
    for rule in rules.split_whitespace() {
        set.arg(rule);
    }
    set.exec(&mut server.raw()).unwrap();
    let url = format!("redis://worker:swordfish@127.0.0.1:{}/0", server.port());
    let queue = queue_at(&url, "few");
    let leases = lease(&queue, "a", 4).await;
    let id = worker("a");
    let [one, two, three, four] = &leases[..] else { panic!("{leases:?}") };
    queue.complete(&id, one.shard, one.token, &part(one.shard)).await.unwrap();
    queue.release(&id, two.shard, two.token).await.unwrap();
    let kind = shared::queue::FailKind::Retry;
    queue.fail(&id, three.shard, three.token, kind, "m").await.unwrap();
    let kind = shared::queue::FailKind::OutOfMemory { item: 3, memory: 8 };
    queue.fail(&id, four.shard, four.token, kind, "m").await.unwrap();
    let beat =
        shared::queue::Beat { worker: id, info: shared::queue::WorkerInfo::default(), shards: Vec::new() };
    queue.beat(&beat).await.unwrap();
    assert_eq!(coordinator.snapshot().await.unwrap().unwrap().shards.done, 1);
    assert_eq!(queue.load_functions().await.unwrap_err().kind, QueueErrorKind::Refused);
    let other = claim(&queue_at(&url, "other"), "a", 1).await.unwrap_err();
    assert_eq!(other.kind, QueueErrorKind::Refused, "another run's keys: {other}");
}

#[tokio::test]
async fn memory_shortage_stops_new_shards_but_not_the_end_of_leases() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("full").await;
    queue.add(&QueueSettings::default(), &shards(2)).await.unwrap();
    let held = lease(&queue, "a", 1).await.remove(0);
    let limit = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut server.raw());
    limit.unwrap();
    let options = shared::queue::redis::RedisOptions {
        give_up_after: std::time::Duration::from_millis(200),
        ..Default::default()
    };
    let run = "full".parse().unwrap();
    let impatient =
        shared::queue::redis::RedisQueue::connect(&address_of(&server.url()), &run, options).unwrap();
    let error = claim(&impatient, "a", 1).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Unreachable, "waiting may help: {error}");
    let reply = queue.complete(&worker("a"), held.shard, held.token, &part(held.shard)).await.unwrap();
    assert_eq!(reply, shared::queue::CompleteReply::Ok);
    queue.forget().await.unwrap();
}
