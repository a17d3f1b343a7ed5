//! Servers that would lose shards, and callers with few rights.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use shared::ids::{ClaimNonce, RunId};
use shared::queue::redis::acl::{
    AccessList, Kept, PasswordHash, QueuePassword, WORKER_COMMANDS, WorkerRights, WorkerUser, box_name,
};
use shared::queue::redis::{RedisOptions, RedisQueue, mask_url};
use shared::queue::{
    Beat, BeatShard, Claim, ClaimReply, FailKind, ItemRange, Queue, QueueError, QueueErrorKind,
    QueueSettings, WorkerInfo,
};
use shared::settings::QueueAddress;

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

/// A user of the server with these data commands, for one run.
fn make_user(server: &RedisServer, run: &RunId, commands: &[&str]) -> QueueAddress {
    let address = address_of(&server.url());
    let password = QueuePassword::read("swordfish").unwrap();
    let user = WorkerUser::new("worker", run, password, &address).unwrap();
    let mut set = redis::cmd("ACL");
    set.arg("SETUSER").arg(user.rights().rules_for(commands.iter().copied()));
    set.exec(&mut server.raw()).unwrap();
    user.address(&address).unwrap()
}

/// Everything a worker does, down to the repair of what a backup lost.
async fn work(server: &RedisServer, run: &RunId, address: &QueueAddress) -> Result<(), QueueError> {
    let options = RedisOptions { give_up_after: Duration::from_secs(5), ..RedisOptions::default() };
    let queue = RedisQueue::connect(address, run, options)?;
    let id = worker("a");
    // A shard whose lease is over and whose own record is lost.
    let lost = format!("fleet:{{{run}}}:leased");
    redis::cmd("ZADD").arg(lost).arg(1).arg("000099").exec(&mut server.raw()).unwrap();
    let info = WorkerInfo { memory: 8, ..WorkerInfo::default() };
    let first = Claim { worker: id.clone(), info: info.clone(), nonce: ClaimNonce::fresh(), max: 4 };
    let ClaimReply::Leases(leases) = queue.claim(&first).await? else { panic!("no leases") };
    assert_eq!(queue.claim(&first).await?, ClaimReply::Leases(leases.clone()), "the same claim again");
    let [one, two, three, four] = &leases[..] else { panic!("{leases:?}") };
    let held = BeatShard {
        shard: one.shard,
        token: one.token,
        items_done: 3,
        in_flight: Some(ItemRange { first: 3, end: 5 }),
    };
    queue.beat(&Beat { worker: id.clone(), info, shards: vec![held] }).await?;
    queue.complete(&id, one.shard, one.token, &part(one.shard)).await?;
    queue.release(&id, two.shard, two.token).await?;
    queue.fail(&id, three.shard, three.token, FailKind::Retry, "m").await?;
    queue.fail(&id, four.shard, four.token, FailKind::OutOfMemory { item: 3, memory: 8 }, "m").await?;
    Ok(())
}

async fn planned(server: &RedisServer, run: &str) -> RunId {
    let queue = server.loaded_queue(run).await;
    queue.add(&QueueSettings::default(), &shards(4)).await.unwrap();
    run.parse().unwrap()
}

/// The list of rights is enough, and none of it is too much.
#[tokio::test]
async fn a_worker_needs_exactly_these_rights() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let all: Vec<&str> = WORKER_COMMANDS.iter().map(|(command, _)| *command).collect();
    let run = planned(&server, "enough").await;
    work(&server, &run, &make_user(&server, &run, &all)).await.unwrap();
    for left_out in &all {
        let others: Vec<&str> = all.iter().filter(|command| *command != left_out).copied().collect();
        let run = planned(&server, &format!("without-{left_out}")).await;
        let error = work(&server, &run, &make_user(&server, &run, &others)).await;
        let error = error.expect_err(left_out);
        assert_eq!(error.kind, QueueErrorKind::Refused, "{left_out}: {error}");
        assert!(error.to_string().contains("coordinator queue-acl"), "{error}");
    }
}

#[tokio::test]
async fn a_worker_is_refused_everything_else() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let run = planned(&server, "own").await;
    planned(&server, "other").await;
    let all: Vec<&str> = WORKER_COMMANDS.iter().map(|(command, _)| *command).collect();
    let address = make_user(&server, &run, &all);
    let client = redis::Client::open(address.url().expose()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let library = "#!lua name=x\nredis.register_function('x', function() return 1 end)";
    for words in [
        &["FLUSHALL"][..],
        &["FLUSHDB"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["CONFIG", "GET", "*"],
        &["EVAL", "return 1", "0"],
        &["SCRIPT", "LOAD", "return 1"],
        &["FUNCTION", "LOAD", library],
        &["FUNCTION", "LIST"],
        &["ACL", "LIST"],
        &["CLIENT", "LIST"],
        &["HGETALL", "fleet:{other}:run"],
        &["DEL", "fleet:{other}:run"],
        &["HGETALL", "fleet:{own}x"],
        &["ZADD", "foreign", "1", "m"],
        &["PUBLISH", "channel", "message"],
        &["SUBSCRIBE", "channel"],
        &["GET", "fleet:{own}:run"],
        &["FCALL", "fleet_v4_snapshot", "1", "fleet:{other}:run"],
    ] {
        let mut command = redis::cmd(words[0]);
        let answer = command.arg(&words[1..]).exec(&mut connection);
        assert_eq!(answer.unwrap_err().code(), Some("NOPERM"), "{words:?}");
    }
    assert_eq!(redis::cmd("PING").query::<String>(&mut connection).unwrap(), "PONG");
    let queue = RedisQueue::connect(&address, &run, RedisOptions::default()).unwrap();
    assert_eq!(queue.forget().await.unwrap_err().kind, QueueErrorKind::Refused);
    assert!(queue.snapshot().await.unwrap().is_some(), "nothing of it was forgotten");
    assert_eq!(queue.load_functions().await.unwrap_err().kind, QueueErrorKind::Refused);
}

/// The proof of `queue-acl --apply` finds rights that are too few or too many.
#[tokio::test]
async fn the_proof_finds_what_is_wrong() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let run = planned(&server, "proof").await;
    let address = address_of(&server.url());
    let user = WorkerUser::new("worker", &run, QueuePassword::fresh(), &address).unwrap();
    let list = AccessList::open(&address, RedisOptions::default()).unwrap();
    list.apply(&user).await.unwrap();
    assert_eq!(list.prove(&user).await.unwrap(), Vec::<String>::new());
    let before = server.queue("proof").snapshot().await.unwrap().unwrap();
    assert!(before.workers.is_empty() && before.shards.pending == 4, "{before:?}");
    for rules in [["-zrem", "+config"], ["+zrem", "~*"]] {
        redis::cmd("ACL").arg("SETUSER").arg("worker").arg(&rules).exec(&mut server.raw()).unwrap();
    }
    let wrong = list.prove(&user).await.unwrap();
    assert_eq!(wrong, ["it may config get *", "it may read another run's keys"]);
    redis::cmd("ACL").arg("SETUSER").arg("worker").arg("-zrem").exec(&mut server.raw()).unwrap();
    assert!(list.prove(&user).await.unwrap()[0].starts_with("it may not zrem"));
    list.apply(&user).await.unwrap();
    assert_eq!(list.prove(&user).await.unwrap(), Vec::<String>::new());
    assert!(matches!(list.save().await.unwrap(), Kept::Forgotten(_)));
    assert!(list.remove("worker").await.unwrap() && !list.remove("worker").await.unwrap());
    assert_eq!(list.prove(&user).await.unwrap_err().kind, QueueErrorKind::Protocol);
}

/// With an aclfile the user is there again after a restart.
#[tokio::test]
async fn a_server_with_an_aclfile_keeps_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    std::fs::write(&file, "").unwrap();
    let Some(mut server) = RedisServer::start(&["--aclfile", &file.display().to_string()]) else {
        return;
    };
    let address = address_of(&server.url());
    let run = "kept".parse().unwrap();
    let user = WorkerUser::new("worker", &run, QueuePassword::fresh(), &address).unwrap();
    let list = AccessList::open(&address, RedisOptions::default()).unwrap();
    list.apply(&user).await.unwrap();
    assert_eq!(list.save().await.unwrap(), Kept::Saved);
    server.kill();
    server.start_again();
    assert_eq!(list.prove(&user).await.unwrap(), Vec::<String>::new());
}

/// A server that forgot its users gets the same ones again from what was written down, and those who know
/// the passwords go on.
#[tokio::test]
async fn users_are_made_again_without_their_passwords() {
    let Some(mut server) = RedisServer::start(&[]) else {
        return;
    };
    let address = address_of(&server.url());
    let run = planned(&server, "again").await;
    let list = AccessList::open(&address, RedisOptions::default()).unwrap();
    let user = WorkerUser::new(&box_name(&run, 3, "0af3"), &run, QueuePassword::fresh(), &address).unwrap();
    list.apply(&user).await.unwrap();
    assert_eq!(list.prove(&user).await.unwrap(), Vec::<String>::new());
    let written = String::from(user.rights().hash().clone());
    server.kill();
    server.start_again();
    assert_eq!(list.prove(&user).await.unwrap_err().kind, QueueErrorKind::Protocol, "it is forgotten");
    let hash = PasswordHash::try_from(written).unwrap();
    list.apply(&WorkerRights::new(user.rights().name(), &run, hash, &address).unwrap()).await.unwrap();
    assert_eq!(list.prove(&user).await.unwrap(), Vec::<String>::new());
    let other = WorkerUser::new(user.rights().name(), &run, QueuePassword::fresh(), &address).unwrap();
    assert_eq!(list.prove(&other).await.unwrap_err().kind, QueueErrorKind::Refused, "another password");
}

/// Those of another run are not listed, whatever they are called.
#[tokio::test]
async fn the_users_of_a_runs_boxes_are_listed() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let address = address_of(&server.url());
    let list = AccessList::open(&address, RedisOptions::default()).unwrap();
    let make = async |run: &str, name: &str| {
        let user = WorkerUser::new(name, &run.parse().unwrap(), QueuePassword::fresh(), &address).unwrap();
        list.apply(&user).await.unwrap();
    };
    let run: RunId = "a".parse().unwrap();
    let boxes = [box_name(&run, 0, "n1"), box_name(&run, 1, "n2"), box_name(&run, 10, "n3")];
    for name in &boxes {
        make("a", name).await;
    }
    make("a", "worker-a").await;
    make("a-0-n4", "worker-a-0-n4").await;
    make("ab", "worker-ab-0-n5").await;
    assert_eq!(list.users(&run, "worker-a-").await.unwrap(), boxes);
    assert_eq!(list.users(&run, "worker-a-1-").await.unwrap(), boxes[1..2]);
    assert!(list.remove(&boxes[0]).await.unwrap());
    assert_eq!(list.users(&run, "worker-a-").await.unwrap(), boxes[1..]);
    assert_eq!(list.users(&"b".parse().unwrap(), "").await.unwrap(), Vec::<String>::new());
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
