//! A worker dies with -9, or sleeps past its lease, at every step of a shard.

use tests::chaos::fault::{Fault, Rule};
use tests::chaos::proxy::Proxy;
use tests::chaos::work::SHARDS;
use tests::chaos::world::{LEASE, Missing, Victim, World};
use tests::wait::until;

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    worker_killed_before_its_claim_arrives,
    worker_killed_before_its_claim_is_answered,
    worker_killed_before_its_bundle_comes,
    worker_killed_while_it_embeds,
    worker_killed_before_its_part_arrives,
    worker_killed_before_its_part_is_confirmed,
    worker_killed_before_it_completes,
    worker_killed_before_its_completion_is_answered,
    worker_killed_while_it_beats,
    all_workers_killed_at_once,
    worker_stopped_past_its_lease_while_it_embeds,
    worker_stopped_past_its_lease_before_its_part_arrives,
    worker_completes_with_its_own_older_token,
    worker_told_to_stop_gives_its_leases_back,
];

fn worker_killed_before_its_claim_arrives(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "claim-before")?;
    let others = world.between(0, 3);
    killed(&world, &world.queue, |deed| Rule::new(&["fleet_v4_claim"], Fault::DoBefore(deed)).after(others));
    Ok(())
}

fn worker_killed_before_its_claim_is_answered(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "claim-after")?;
    let others = world.between(0, 3);
    killed(&world, &world.queue, |deed| Rule::new(&["fleet_v4_claim"], Fault::DoAfter(deed)).after(others));
    Ok(())
}

fn worker_killed_before_its_bundle_comes(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "fetch")?;
    let others = world.between(0, 3);
    let rule = |deed| Rule::new(&["GET ", "/inputs/"], Fault::DoAfter(deed)).after(others);
    killed(&world, world.store_proxy(), rule);
    Ok(())
}

fn worker_killed_while_it_embeds(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "embed")?;
    let steps = world.between(2, 12) as usize;
    let mut worker = world.worker();
    until("steps", || (worker.log().matches("a step starts").count() >= steps).then_some(()));
    worker.process.kill();
    world.finish();
    Ok(())
}

fn worker_killed_before_its_part_arrives(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "put-before")?;
    let others = world.between(0, 3);
    let rule = |deed| Rule::new(&["PUT ", "/parts/"], Fault::DoBefore(deed)).after(others);
    killed(&world, world.store_proxy(), rule);
    Ok(())
}

fn worker_killed_before_its_part_is_confirmed(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "put-after")?;
    let others = world.between(0, 3);
    let rule = |deed| Rule::new(&["PUT ", "/parts/"], Fault::DoAfter(deed)).after(others);
    killed(&world, world.store_proxy(), rule);
    Ok(())
}

fn worker_killed_before_it_completes(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "complete-before")?;
    let others = world.between(0, 3);
    let rule = |deed| Rule::new(&["fleet_v4_complete"], Fault::DoBefore(deed)).after(others);
    killed(&world, &world.queue, rule);
    Ok(())
}

fn worker_killed_before_its_completion_is_answered(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "complete-after")?;
    let others = world.between(0, 3);
    let rule = |deed| Rule::new(&["fleet_v4_complete"], Fault::DoAfter(deed)).after(others);
    killed(&world, &world.queue, rule);
    Ok(())
}

fn worker_killed_while_it_beats(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "beat")?;
    let others = world.between(0, 2);
    killed(&world, &world.queue, |deed| Rule::new(&["fleet_v4_beat"], Fault::DoAfter(deed)).after(others));
    Ok(())
}

fn all_workers_killed_at_once(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "all")?;
    let workers = [world.worker(), world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 5));
    for mut worker in workers {
        worker.process.kill();
    }
    world.finish();
    Ok(())
}

/// It wakes up as a zombie: its lease is another's by then, its part is harmless, and it works on.
fn worker_stopped_past_its_lease_while_it_embeds(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "zombie")?;
    let zombie = world.worker();
    let steps = world.between(2, 8) as usize;
    until("steps", || (zombie.log().matches("a step starts").count() >= steps).then_some(()));
    zombie.process.signal("STOP");
    let other = world.worker();
    wait_for_lost_lease(&world);
    zombie.process.signal("CONT");
    world.finish_with(vec![zombie, other]);
    Ok(())
}

/// Its vectors are complete when it falls asleep: they are uploaded when it wakes up, and its `complete`
/// is refused.
fn worker_stopped_past_its_lease_before_its_part_arrives(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "zombie-part")?;
    let victim = Victim::default();
    let others = world.between(0, 2);
    // The upload goes on, held up in the proxy until the lease is lost.
    let asleep = victim.signalling("STOP");
    let late = Fault::Delay(LEASE * 2);
    world.store_proxy().add(Rule::new(&["PUT ", "/parts/"], late).after(others));
    let zombie = world.victim(&victim);
    world.wait_for_strike(world.store_proxy(), 1);
    asleep();
    let other = world.worker();
    wait_for_lost_lease(&world);
    zombie.process.signal("CONT");
    world.finish_with(vec![zombie, other]);
    Ok(())
}

/// Its beats are lost, its upload is late, and meanwhile it claims the same shard again: the older token must
/// not end the newer lease, though worker and shard are the same.
fn worker_completes_with_its_own_older_token(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "own-token")?;
    world.queue.add(Rule::new(&["fleet_v4_beat"], Fault::CutBefore).times(u64::MAX));
    let last = format!("/parts/{:06}-", SHARDS - 1);
    world.store_proxy().add(Rule::new(&["PUT ", &last], Fault::Delay(LEASE * 2)));
    let worker = world.worker();
    worker.says("the lease was lost before its part was uploaded");
    world.queue.mend();
    world.finish_with(vec![worker]);
    Ok(())
}

fn worker_told_to_stop_gives_its_leases_back(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "term")?;
    let mut worker = world.worker();
    world.wait_for_done(world.between(1, 4));
    worker.process.signal("TERM");
    assert_eq!(worker.ends(), 143, "{}", worker.log());
    assert_eq!(world.status()["shards"]["leased"], 0);
    let account = world.check_account();
    assert_eq!(account.lost, 0, "nothing had to expire");
    world.finish();
    Ok(())
}

/// A worker dies by a fault on its way; others do the rest.
fn killed(world: &World, proxy: &Proxy, rule: impl FnOnce(tests::chaos::fault::Deed) -> Rule) {
    let victim = Victim::default();
    proxy.add(rule(victim.killing()));
    let mut worker = world.victim(&victim);
    world.wait_for_strike(proxy, 1);
    assert_eq!(worker.ends(), -1, "killed");
    world.finish();
}

fn wait_for_lost_lease(world: &World) {
    until("a lost lease", || (world.check_account().lost > 0).then_some(()));
}
