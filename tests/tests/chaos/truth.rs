//! The tiny model on the sample: what comes out after faults is what transformers computes.

use tests::chaos::fault::{Fault, Rule};
use tests::chaos::world::{Missing, World};

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![tiny_model_over_many_faults];

fn tiny_model_over_many_faults(seed: u64) -> Result<(), Missing> {
    let world = World::on_the_sample(seed, "truth")?;
    world.queue.add(Rule::new(&["fleet_v4_claim"], Fault::LoseReply).after(world.between(1, 4)));
    world.queue.add(Rule::new(&["fleet_v4_complete"], Fault::LoseReply).after(world.between(1, 4)));
    let mut killed = world.worker();
    world.wait_for_done(world.between(1, 3));
    let others = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(4, 6));
    killed.process.kill();
    let _ = world.check_account();
    assert_eq!(world.redis.borrow().cli(&["FLUSHALL"]), "OK");
    let _ = world.resume();
    world.finish_with(others);
    Ok(())
}
