//! The connection to the queue breaks, stalls, or lies about being there.

use tests::chaos::fault::{Fault, Rule};
use tests::chaos::world::{LEASE, Missing, World};

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    claim_cut_before_it_arrives,
    claim_cut_after_it_arrived,
    claim_reply_lost,
    beat_reply_lost,
    completion_cut_before_it_arrives,
    completion_reply_lost,
    replies_lost_again_and_again,
    beat_late_by_more_than_a_lease,
    claim_late_by_more_than_a_lease,
    connection_silent,
    connection_half_closed,
];

fn claim_cut_before_it_arrives(seed: u64) -> Result<(), Missing> {
    struck(seed, "claim-cut", "fleet_v4_claim", Fault::CutBefore)
}

fn claim_cut_after_it_arrived(seed: u64) -> Result<(), Missing> {
    struck(seed, "claim-cut-after", "fleet_v4_claim", Fault::CutAfter)
}

/// The lease was given, and nobody knows: the same nonce gets it again.
fn claim_reply_lost(seed: u64) -> Result<(), Missing> {
    struck(seed, "claim-lost", "fleet_v4_claim", Fault::LoseReply)
}

fn beat_reply_lost(seed: u64) -> Result<(), Missing> {
    struck(seed, "beat-lost", "fleet_v4_beat", Fault::LoseReply)
}

fn completion_cut_before_it_arrives(seed: u64) -> Result<(), Missing> {
    struck(seed, "complete-cut", "fleet_v4_complete", Fault::CutBefore)
}

/// The shard is done, and its worker asks again: a duplicate, not a second completion.
fn completion_reply_lost(seed: u64) -> Result<(), Missing> {
    struck(seed, "complete-lost", "fleet_v4_complete", Fault::LoseReply)
}

fn connection_half_closed(seed: u64) -> Result<(), Missing> {
    struck(seed, "half-closed", "fleet_v4_", Fault::HalfClose)
}

/// A fault of a moment: work goes on, and no lease is lost for it.
fn struck(seed: u64, name: &str, call: &str, fault: Fault) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, name)?;
    world.queue.add(Rule::new(&[call], fault).after(world.between(1, 6)).times(2));
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_strike(&world.queue, 2);
    world.finish_with(workers);
    assert_eq!(world.check_account().lost, 0, "nothing had to expire");
    Ok(())
}

fn replies_lost_again_and_again(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "again")?;
    for call in ["fleet_v4_claim", "fleet_v4_complete", "fleet_v4_beat"] {
        for others in [1, 3, 5, 7, 9] {
            let fault = world.random.borrow_mut().one_of(&[Fault::LoseReply, Fault::CutBefore]).clone();
            world.queue.add(Rule::new(&[call], fault).after(others + world.between(0, 2)));
        }
    }
    let workers = vec![world.worker(), world.worker(), world.worker()];
    world.finish_with(workers);
    Ok(())
}

/// No beat gets through in time: past its fence the worker starts nothing, and learns that it lost.
fn beat_late_by_more_than_a_lease(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "late-beat")?;
    let late = Fault::Delay(LEASE + LEASE / 2);
    world.queue.add(Rule::new(&["fleet_v4_beat"], late).after(world.between(1, 4)));
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_strike(&world.queue, 1);
    world.finish_with(workers);
    Ok(())
}

/// The lease that a late claim gives counts from when the claim was sent, on the worker's clock.
fn claim_late_by_more_than_a_lease(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "late-claim")?;
    let late = Fault::Delay(LEASE + LEASE / 2);
    world.queue.add(Rule::new(&["fleet_v4_claim"], late).after(world.between(0, 3)));
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_strike(&world.queue, 1);
    world.finish_with(workers);
    Ok(())
}

/// Packets are lost in silence on every connection that stands; the worker must find out by itself.
fn connection_silent(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "silent")?;
    let workers = vec![world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 4));
    world.queue.silence();
    world.finish_with(workers);
    Ok(())
}
