//! Sets that somebody has damaged, and runs that are forgotten.

use shared::ids::ClaimNonce;
use shared::queue::{Claim, ClaimReply, FailKind, Queue, QueueSettings, WorkerInfo};

use crate::common::redis_server::RedisServer;
use crate::{claim, lease, part, shards, worker};

fn run_raw(connection: &mut redis::Connection, command: &str) {
    let mut words = command.split_whitespace();
    let mut raw = redis::cmd(words.next().expect("a command"));
    for word in words {
        raw.arg(word);
    }
    raw.exec(connection).expect("the command");
}

#[tokio::test]
async fn the_audit_puts_every_shard_into_the_set_of_its_state() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("audit").await;
    queue.add(&QueueSettings::default(), &shards(10)).await.unwrap();
    assert_eq!(lease(&queue, "a", 3).await.len(), 3);
    assert_eq!(queue.audit().await.unwrap(), 0);
    let damage = [
        "ZREM fleet:{audit}:leased 000000", // held without a time: would be held for ever
        "ZREM fleet:{audit}:held:a 000001", // not found again by its claim
        "HDEL fleet:{audit}:leases 000002", // held and not shown
        "ZREM fleet:{audit}:pending 000009", // in no set
        "ZADD fleet:{audit}:dead 3 000003", // in two sets
        "ZREM fleet:{audit}:shards 000004", // not counted
        "HDEL fleet:{audit}:shard:000005 state", // without a state
        "HSET fleet:{audit}:shard:000006 state leased", // held by nobody
        "DEL fleet:{audit}:shard:000007",   // its record is lost
        "HSET fleet:{audit}:leases 000008 1", // shown and not held
    ];
    for command in damage {
        run_raw(&mut server.raw(), command);
    }
    assert_eq!(queue.audit().await.unwrap(), damage.len() as u64);
    assert_eq!(queue.audit().await.unwrap(), 0);
    let snapshot = queue.snapshot().await.unwrap().unwrap();
    let counts = snapshot.shards;
    assert_eq!((counts.leased, counts.pending, counts.total()), (3, 6, 9));
    assert_eq!(snapshot.leases.len(), 3);
    assert_eq!(
        queue.add(&QueueSettings::default(), &shards(10)).await.unwrap(),
        1,
        "the lost one comes back"
    );
    assert_eq!(lease(&queue, "b", 100).await.len(), 7);
}

#[tokio::test]
async fn a_claim_meets_damage_without_harm() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("damaged").await;
    queue.add(&QueueSettings::default(), &shards(3)).await.unwrap();
    run_raw(&mut server.raw(), "DEL fleet:{damaged}:shard:000000");
    run_raw(&mut server.raw(), "HSET fleet:{damaged}:shard:000001 state dead");
    assert!(matches!(claim(&queue, "a", 2).await.unwrap(), ClaimReply::Wait(_)), "both were damaged");
    assert_eq!(lease(&queue, "a", 2).await.len(), 1);
    assert_eq!(queue.audit().await.unwrap(), 0, "the claim has settled them");
    assert_eq!(queue.snapshot().await.unwrap().unwrap().shards.dead, 1);
}

#[tokio::test]
async fn forget_leaves_no_key_and_can_be_cut_short() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("gone").await;
    let other = server.queue("other");
    for run in [&queue, &other] {
        run.add(&QueueSettings::default(), &shards(1300)).await.unwrap();
        lease(run, "a", 5).await;
    }
    // One step of several, and then the coordinator is no more.
    let left: u64 = redis::cmd("FCALL")
        .arg("fleet_v4_forget")
        .arg(1)
        .arg("fleet:{gone}:run")
        .query(&mut server.raw())
        .unwrap();
    assert_eq!(left, 800);
    assert_eq!(claim(&queue, "a", 1).await.unwrap(), ClaimReply::UnknownRun);
    assert_eq!(queue.add(&QueueSettings::default(), &shards(600)).await.unwrap(), 600, "afresh");
    assert_eq!(queue.snapshot().await.unwrap().unwrap().shards.pending, 600);
    queue.forget().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.raw()).unwrap();
    assert!(keys.iter().all(|key| key.starts_with("fleet:{other}:")), "{keys:?}");
    assert_eq!(lease(&other, "a", 5).await.len(), 5, "another run is left alone");
}

/// Workers of the library before this one were a set and a hash each.
#[tokio::test]
async fn a_run_of_the_library_before_goes_on_and_can_be_forgotten() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("older").await;
    queue.add(&QueueSettings::default(), &shards(3)).await.unwrap();
    let held = lease(&queue, "a", 1).await.remove(0);
    for command in [
        "DEL fleet:{older}:seen fleet:{older}:leases fleet:{older}:granted",
        "ZADD fleet:{older}:workers 1000000 a 1000000 gone",
        "HSET fleet:{older}:worker:a host box granted_nonce n",
        "HSET fleet:{older}:worker:gone host box",
    ] {
        run_raw(&mut server.raw(), command);
    }
    assert_eq!(lease(&queue, "b", 1).await.len(), 1);
    queue.complete(&worker("a"), held.shard, held.token, &part(held.shard)).await.unwrap();
    let snapshot = queue.snapshot().await.unwrap().unwrap();
    assert_eq!((snapshot.shards.done, snapshot.shards.leased, snapshot.workers.len()), (1, 1, 1));
    queue.forget().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.raw()).unwrap();
    assert_eq!(keys, [""; 0]);
}

/// While shards are being added in batches, the first ones are not taken for all there are.
#[tokio::test]
async fn nothing_is_finished_before_all_is_added() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("batches").await;
    let mut all = shards(2);
    for shard in &mut all {
        shard.part = Some(part(shard.id));
    }
    queue.add(&QueueSettings::default(), &all).await.unwrap();
    assert_eq!(claim(&queue, "a", 1).await.unwrap(), ClaimReply::Finished);
    // A batch that is not the last one: its sender is on its way with the next, or was killed.
    let settings = ["60000000", "4", "8", "5000000", "600000000", "3"];
    let mut first = redis::cmd("FCALL");
    first.arg("fleet_v4_add").arg(1).arg("fleet:{batches}:run").arg(&settings).arg("more");
    first.exec(&mut server.raw()).unwrap();
    assert!(matches!(claim(&queue, "a", 1).await.unwrap(), ClaimReply::Wait(_)));
    queue.add(&QueueSettings::default(), &all).await.unwrap();
    assert_eq!(claim(&queue, "a", 1).await.unwrap(), ClaimReply::Finished);
}

/// However a lease ends, it leaves nothing in its worker's set, or claims would grow slower.
#[tokio::test]
async fn an_ended_lease_leaves_nothing_behind() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("ended").await;
    let settings = QueueSettings { lease: std::time::Duration::from_millis(1), ..QueueSettings::default() };
    queue.add(&settings, &shards(5)).await.unwrap();
    let leases = lease(&queue, "a", 5).await;
    let [one, two, three, four, _expired] = &leases[..] else { panic!("{leases:?}") };
    let id = worker("a");
    queue.complete(&id, one.shard, one.token, &part(one.shard)).await.unwrap();
    queue.fail(&id, two.shard, two.token, FailKind::Retry, "m").await.unwrap();
    queue.release(&id, three.shard, three.token).await.unwrap();
    queue.reconcile(four.shard, Some(&part(four.shard))).await.unwrap();
    while queue.snapshot().await.unwrap().unwrap().leases[0].expires_in_seconds >= 0.0 {}
    lease(&queue, "b", 1).await;
    let held: Vec<String> = redis::cmd("KEYS").arg("fleet:*:held:a").query(&mut server.raw()).unwrap();
    assert!(held.is_empty(), "{held:?}");
}

/// What is counted against a shard goes when an item is proved too large, and the proof when it is done.
#[tokio::test]
async fn trouble_that_is_over_leaves_no_field() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let queue = server.loaded_queue("trouble").await;
    let backoff = std::time::Duration::from_millis(1);
    let settings =
        QueueSettings { first_backoff: backoff, longest_backoff: backoff, ..QueueSettings::default() };
    queue.add(&settings, &shards(1)).await.unwrap();
    let fields = || -> Vec<String> {
        let mut fields: Vec<String> =
            redis::cmd("HKEYS").arg("fleet:{trouble}:shard:000000").query(&mut server.raw()).unwrap();
        fields.retain(|field| ["attempts", "waived", "shortages"].contains(&field.as_str()));
        fields.sort();
        fields
    };
    let machines =
        [("a", 80, &["attempts", "shortages"][..]), ("b", 24, &["attempts", "shortages", "waived"])];
    for (host, memory, left) in machines.into_iter().chain([("c", 80, &["shortages"][..])]) {
        let info = WorkerInfo { host: host.to_owned(), memory, ..WorkerInfo::default() };
        let lease = loop {
            let (info, nonce) = (info.clone(), ClaimNonce::fresh());
            let claim = Claim { worker: worker(host), info, nonce, max: 1 };
            if let ClaimReply::Leases(mut leases) = queue.claim(&claim).await.unwrap() {
                break leases.remove(0);
            }
        };
        let kind = FailKind::OutOfMemory { item: 3, memory };
        queue.fail(&worker(host), lease.shard, lease.token, kind, "m").await.unwrap();
        assert_eq!(fields(), left, "after {host}");
    }
    queue.reconcile(shards(1)[0].id, Some(&part(shards(1)[0].id))).await.unwrap();
    assert!(fields().is_empty());
}
