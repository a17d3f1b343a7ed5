//! The queue's server dies, forgets, or would forget.

use std::time::Instant;

use tests::chaos::fault::{Fault, Rule};
use tests::chaos::world::{LEASE, Missing, World};
use tests::redis::RedisServer;
use tests::wait::until;

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    redis_killed_and_empty,
    redis_killed_with_every_write_on_disk,
    redis_killed_before_it_answers_a_claim,
    redis_killed_before_it_answers_a_completion,
    redis_away_for_longer_than_a_lease,
    redis_away_at_the_end_of_a_run,
    redis_flushed,
    redis_functions_deleted,
    redis_restored_from_a_stale_copy,
    done_shard_that_still_stands_among_the_leased,
    redis_that_evicts_is_refused,
    redis_out_of_memory_for_a_while,
    connections_killed_by_the_server,
];

fn redis_killed_and_empty(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "empty")?;
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 6));
    let _ = world.check_account();
    world.redis.borrow_mut().restart_empty();
    world.queue.cut();
    assert_eq!(world.status()["source"], "store", "without a queue the store tells");
    let _ = world.resume();
    world.finish_with(workers);
    Ok(())
}

fn redis_killed_with_every_write_on_disk(seed: u64) -> Result<(), Missing> {
    let redis = RedisServer::start_persistent().ok_or_else(|| Missing("no redis-server".to_owned()))?;
    let world = World::with(seed, "on-disk", redis, None);
    world.plan();
    let workers = vec![world.worker(), world.worker()];
    for shards in [1, world.between(2, 4), world.between(5, 8)] {
        world.wait_for_done(shards);
        world.redis.borrow_mut().stop();
        world.redis.borrow_mut().start_again();
    }
    // Nobody has to resume.
    world.finish_with(workers);
    Ok(())
}

fn redis_killed_before_it_answers_a_claim(seed: u64) -> Result<(), Missing> {
    killed_at(seed, "at-claim", "fleet_v4_claim")
}

fn redis_killed_before_it_answers_a_completion(seed: u64) -> Result<(), Missing> {
    killed_at(seed, "at-complete", "fleet_v4_complete")
}

/// The write is on disk when the server dies, and the worker does not know.
fn killed_at(seed: u64, name: &str, call: &str) -> Result<(), Missing> {
    let redis = RedisServer::start_persistent().ok_or_else(|| Missing("no redis-server".to_owned()))?;
    let world = World::with(seed, name, redis, None);
    world.plan();
    let id = world.redis.borrow().process().unwrap().to_string();
    let kill = std::sync::Arc::new(move || {
        let _ = std::process::Command::new("kill").args(["-9", &id]).status();
    });
    world.queue.add(Rule::new(&[call], Fault::DoAfter(kill)).after(world.between(1, 5)));
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_strike(&world.queue, 1);
    world.redis.borrow_mut().stop();
    world.redis.borrow_mut().start_again();
    world.finish_with(workers);
    Ok(())
}

/// Workers finish and upload what they hold, then wait.
fn redis_away_for_longer_than_a_lease(seed: u64) -> Result<(), Missing> {
    let redis = RedisServer::start_persistent().ok_or_else(|| Missing("no redis-server".to_owned()))?;
    let world = World::with(seed, "away", redis, None);
    world.plan();
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 4));
    world.redis.borrow_mut().stop();
    let away_since = Instant::now();
    until("more than a lease", || (away_since.elapsed() > LEASE * 2).then_some(()));
    world.redis.borrow_mut().start_again();
    world.finish_with(workers);
    Ok(())
}

/// The worker has nothing left to claim, and its first call that is answered is a claim: it gets its own
/// shards anew, and must let go of the leases it lost.
fn redis_away_at_the_end_of_a_run(seed: u64) -> Result<(), Missing> {
    let redis = RedisServer::start_persistent().ok_or_else(|| Missing("no redis-server".to_owned()))?;
    let world = World::with(seed, "away-at-end", redis, None);
    world.plan();
    let worker = world.start(world.worker_command().env("RIGGED_BATCH_MS", "300"));
    world.wait_for_done(world.between(8, 10));
    world.redis.borrow_mut().stop();
    let away_since = Instant::now();
    until("more than a lease", || (away_since.elapsed() > LEASE * 2).then_some(()));
    // Beats come later than claims.
    world.queue.add(Rule::new(&["fleet_v4_beat"], Fault::CutBefore).times(3));
    world.redis.borrow_mut().start_again();
    world.finish_with(vec![worker]);
    Ok(())
}

fn redis_flushed(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "flushed")?;
    let workers = vec![world.worker(), world.worker()];
    for shards in [world.between(1, 3), world.between(4, 7)] {
        world.wait_for_done(shards);
        let _ = world.check_account();
        assert_eq!(world.redis.borrow().cli(&["FLUSHALL"]), "OK");
        let _ = world.resume();
    }
    world.finish_with(workers);
    Ok(())
}

fn redis_functions_deleted(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "functions")?;
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 6));
    assert_eq!(world.redis.borrow().cli(&["FUNCTION", "DELETE", "fleet_v4"]), "OK");
    workers[0].says("coordinator resume");
    let _ = world.resume();
    world.finish_with(workers);
    Ok(())
}

/// What a failover to a stale replica does: acknowledged completions are gone.
fn redis_restored_from_a_stale_copy(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "stale")?;
    let run = world.run_id();
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(1);
    let keys = dump(&world, &run);
    world.wait_for_done(world.between(4, 8));
    let _ = world.check_account();
    restore(&world, &keys);
    // What the store knows wins; what was leased then is another's, or lost in time.
    let _ = world.resume();
    world.finish_with(workers);
    Ok(())
}

/// All keys of a run in hex, by a script of the server: they hold bytes that no shell passes on.
fn dump(world: &World, run: &str) -> Vec<(String, String)> {
    let script = "local out = {} for _, key in ipairs(redis.call('KEYS', ARGV[1])) do \
                  local hex = string.gsub(redis.call('DUMP', key), '.', function(c) return \
                  string.format('%02x', string.byte(c)) end) out[#out + 1] = key out[#out + 1] = hex end return out";
    let printed = world.redis.borrow().cli(&["--json", "EVAL", script, "0", &format!("fleet:{{{run}}}:*")]);
    let flat: Vec<String> = serde_json::from_str(&printed).unwrap();
    flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn restore(world: &World, keys: &[(String, String)]) {
    let script = "redis.call('FLUSHALL') for index = 1, #KEYS do local bytes = string.gsub(ARGV[index], '..', \
                  function(hex) return string.char(tonumber(hex, 16)) end) \
                  redis.call('RESTORE', KEYS[index], 0, bytes) end return 'restored'";
    let count = keys.len().to_string();
    let mut arguments = vec!["EVAL", script, count.as_str()];
    arguments.extend(keys.iter().map(|(key, _)| key.as_str()));
    arguments.extend(keys.iter().map(|(_, hex)| hex.as_str()));
    assert_eq!(world.redis.borrow().cli(&arguments), "restored");
}

/// What a backup that was half restored leaves behind: the reaper must not take a finished shard for an
/// expired lease.
fn done_shard_that_still_stands_among_the_leased(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "reaper")?;
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 6));
    let run = world.run_id();
    let done = world.files("parts")[0].file_name().unwrap().to_str().unwrap()[..6].to_owned();
    let key = |name: &str| format!("fleet:{{{run}}}:{name}");
    let cli = |arguments: &[&str]| world.redis.borrow().cli(arguments);
    until("its completion", || {
        (cli(&["HGET", &key(&format!("shard:{done}")), "state"]) == "done").then_some(())
    });
    assert_eq!(cli(&["ZADD", &key("leased"), "1", &done]), "1");
    // The next claim reaps, and repairs what it finds.
    until("a repair", || cli(&["ZSCORE", &key("leased"), &done]).is_empty().then_some(()));
    assert_eq!(cli(&["HGET", &key(&format!("shard:{done}")), "state"]), "done");
    world.finish_with(workers);
    Ok(())
}

fn redis_that_evicts_is_refused(seed: u64) -> Result<(), Missing> {
    let world = World::unplanned(seed, "evicts")?;
    let policy = *world.random.borrow_mut().one_of(&["allkeys-lru", "allkeys-random", "volatile-ttl"]);
    let set = |policy: &str| world.redis.borrow().cli(&["CONFIG", "SET", "maxmemory-policy", policy]);
    assert_eq!(set(policy), "OK");
    let refused = world.plan_command().output();
    assert_ne!(refused.code(), 0);
    assert!(
        refused.stderr().contains(policy) && refused.stderr().contains("noeviction"),
        "{}",
        refused.stderr()
    );
    assert_eq!(world.redis.borrow().cli(&["DBSIZE"]), "0");
    assert_eq!(set("noeviction"), "OK");
    world.plan();
    world.finish();
    Ok(())
}

/// Nothing new is leased, and what is held ends as always.
fn redis_out_of_memory_for_a_while(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "memory")?;
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 4));
    let limit = |bytes: &str| world.redis.borrow().cli(&["CONFIG", "SET", "maxmemory", bytes]);
    assert_eq!(limit("1"), "OK");
    let leased = format!("fleet:{{{}}}:leased", world.run_id());
    until("all leases to end", || (world.redis.borrow().cli(&["ZCARD", &leased]) == "0").then_some(()));
    assert_eq!(limit("0"), "OK");
    world.finish_with(workers);
    Ok(())
}

fn connections_killed_by_the_server(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "clients")?;
    let workers = vec![world.worker(), world.worker()];
    for shards in 1..=world.between(3, 6) {
        world.wait_for_done(shards);
        let _ = world.redis.borrow().cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    world.finish_with(workers);
    assert_eq!(world.check_account().lost, 0, "a new connection is made in time");
    Ok(())
}
