//! A coordinator dies at every step of plan, resume and merge, and two of them act at once.

use tests::chaos::fault::{Fault, Rule};
use tests::chaos::work::SHARDS;
use tests::chaos::world::{Missing, Victim, World};

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    plan_killed_while_it_writes_bundles,
    plan_killed_before_its_plan_arrives,
    plan_killed_before_its_plan_is_confirmed,
    plan_killed_before_it_fills_the_queue,
    plan_killed_after_it_filled_the_queue,
    resume_killed_before_it_reconciles,
    resume_killed_after_it_added_shards,
    merge_killed_while_it_reads_parts,
    two_coordinators_plan_at_once,
    two_coordinators_resume_at_once,
    plan_and_resume_while_workers_work,
    forget_while_workers_work,
];

fn plan_killed_while_it_writes_bundles(seed: u64) -> Result<(), Missing> {
    plan_killed(seed, "plan-bundles", |world, deed| {
        let others = world.between(0, SHARDS - 1);
        world.store_proxy().add(Rule::new(&["PUT ", "/inputs/"], Fault::DoAfter(deed)).after(others));
    })
}

fn plan_killed_before_its_plan_arrives(seed: u64) -> Result<(), Missing> {
    plan_killed(seed, "plan-before", |world, deed| {
        world.store_proxy().add(Rule::new(&["PUT ", "/plan.json"], Fault::DoBefore(deed)));
    })
}

fn plan_killed_before_its_plan_is_confirmed(seed: u64) -> Result<(), Missing> {
    plan_killed(seed, "plan-after", |world, deed| {
        world.store_proxy().add(Rule::new(&["PUT ", "/plan.json"], Fault::DoAfter(deed)));
    })
}

fn plan_killed_before_it_fills_the_queue(seed: u64) -> Result<(), Missing> {
    plan_killed(seed, "add-before", |world, deed| {
        world.queue.add(Rule::new(&["fleet_v4_add"], Fault::DoBefore(deed)));
    })
}

fn plan_killed_after_it_filled_the_queue(seed: u64) -> Result<(), Missing> {
    plan_killed(seed, "add-after", |world, deed| {
        world.queue.add(Rule::new(&["fleet_v4_add"], Fault::DoAfter(deed)));
    })
}

fn plan_killed(
    seed: u64,
    name: &str,
    fault: impl FnOnce(&World, tests::chaos::fault::Deed),
) -> Result<(), Missing> {
    let world = World::unplanned_on_s3(seed, name)?;
    let victim = Victim::default();
    fault(&world, victim.killing());
    let mut plan = world.plan_command().start(&world.folder.path().join("plan.log"));
    victim.is(&plan);
    assert_eq!(plan.wait(), -1, "killed");
    // The same command again, as a person would.
    world.plan();
    world.finish();
    Ok(())
}

fn resume_killed_before_it_reconciles(seed: u64) -> Result<(), Missing> {
    resume_killed(seed, "resume-reconcile", |deed| Rule::new(&["fleet_v4_add"], Fault::DoBefore(deed)))
}

fn resume_killed_after_it_added_shards(seed: u64) -> Result<(), Missing> {
    resume_killed(seed, "resume-add", |deed| Rule::new(&["fleet_v4_add"], Fault::DoAfter(deed)))
}

fn resume_killed(
    seed: u64,
    name: &str,
    rule: impl FnOnce(tests::chaos::fault::Deed) -> Rule,
) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, name)?;
    let worker = world.worker();
    world.wait_for_done(world.between(1, 5));
    let _ = world.check_account();
    assert_eq!(world.redis.borrow().cli(&["FLUSHALL"]), "OK");
    let victim = Victim::default();
    world.queue.add(rule(victim.killing()));
    let mut resume = world.coordinator("resume").start(&world.folder.path().join("resume.log"));
    victim.is(&resume);
    assert_eq!(resume.wait(), -1, "killed");
    let _ = world.resume();
    world.finish_with(vec![worker]);
    Ok(())
}

fn merge_killed_while_it_reads_parts(seed: u64) -> Result<(), Missing> {
    let world = World::on_s3(seed, "merge")?;
    for mut worker in [world.worker(), world.worker()] {
        assert_eq!(worker.ends(), 0, "{}", worker.log());
    }
    let victim = Victim::default();
    let others = world.between(0, SHARDS - 1);
    let rule = Rule::new(&["GET ", "/parts/"], Fault::DoAfter(victim.killing())).after(others);
    world.store_proxy().add(rule);
    let merge = world.coordinator("merge").args(["--out", "e.npz"]);
    let mut merge = merge.start(&world.folder.path().join("merge.log"));
    victim.is(&merge);
    assert_eq!(merge.wait(), -1, "killed");
    assert!(!world.folder.path().join("e.npz").exists(), "never a half file under the final name");
    world.check_end();
    Ok(())
}

fn two_coordinators_plan_at_once(seed: u64) -> Result<(), Missing> {
    let world = World::unplanned_on_s3(seed, "two-plans")?;
    let start = |name: &str| world.plan_command().start(&world.folder.path().join(name));
    let (mut one, mut two) = (start("one.log"), start("two.log"));
    let log = |name: &str| std::fs::read_to_string(world.folder.path().join(name)).unwrap();
    assert_eq!(one.wait(), 0, "{}", log("one.log"));
    assert_eq!(two.wait(), 0, "{}", log("two.log"));
    world.plan();
    world.finish();
    Ok(())
}

fn two_coordinators_resume_at_once(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "two-resumes")?;
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 5));
    let _ = world.check_account();
    assert_eq!(world.redis.borrow().cli(&["FLUSHALL"]), "OK");
    let start = |name: &str| world.coordinator("resume").start(&world.folder.path().join(name));
    let (mut one, mut two) = (start("one.log"), start("two.log"));
    assert_eq!((one.wait(), two.wait()), (0, 0));
    world.finish_with(workers);
    Ok(())
}

fn plan_and_resume_while_workers_work(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "plan-resume")?;
    let workers = vec![world.worker(), world.worker()];
    for shards in [1, world.between(2, 4), world.between(5, 8)] {
        world.wait_for_done(shards);
        let plan = world.plan_command().start(&world.folder.path().join("plan.log"));
        let _ = world.resume();
        let mut plan = plan;
        assert_eq!(plan.wait(), 0);
    }
    world.finish_with(workers);
    Ok(())
}

fn forget_while_workers_work(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "forget")?;
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 5));
    let _ = world.coordinator("forget").output().expect(0);
    assert_eq!(world.redis.borrow().cli(&["KEYS", "fleet:*"]), "", "no key is left, nor made again");
    let _ = world.resume();
    world.finish_with(workers);
    Ok(())
}
