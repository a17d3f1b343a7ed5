//! A network that loses every packet in silence, between machines of their own.

use std::time::{Duration, Instant};

use tests::chaos::lab::{Lab, QUEUE_ADDRESS};
use tests::chaos::world::{Missing, World};
use tests::program::Program;
use tests::redis::RedisServer;
use tests::wait::until;

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![network_silent_for_a_minute];

/// How long nothing comes through.
const SILENCE: Duration = Duration::from_secs(60);
/// How soon after that work must go on.
const RECOVERY: Duration = Duration::from_secs(20);

fn network_silent_for_a_minute(seed: u64) -> Result<(), Missing> {
    let lab = Lab::start().map_err(Missing)?;
    let redis =
        RedisServer::start_in(&lab.queue(), QUEUE_ADDRESS).ok_or(Missing("no redis-server".to_owned()))?;
    let world = World::with(seed, "network", redis, None);
    let port = world.redis.borrow().port();
    let url = format!("redis://{QUEUE_ADDRESS}:{port}/0");
    let at = |program: Program, namespace: &str| program.env("FLEET_QUEUE", &url).in_namespace(namespace);
    let planned = at(world.plan_command(), &lab.queue()).output().expect(0);
    world.is_planned(planned.stdout().trim());
    let workers = [(); 2].map(|()| {
        let patient = world.worker_command().args(["--give-up-after", "10m"]);
        world.start(at(patient, &lab.workers()))
    });
    world.wait_for_done(world.between(1, 4));
    lab.forward(false).map_err(Missing)?;
    let done = || {
        let status = at(world.coordinator("status").args(["--json"]), &lab.queue()).output().expect(0);
        let status: serde_json::Value = serde_json::from_str(&status.stdout()).unwrap();
        status["shards"]["done"].as_u64().unwrap()
    };
    let silent_since = Instant::now();
    until("a minute of silence", || (silent_since.elapsed() >= SILENCE).then_some(()));
    let before = done();
    lab.forward(true).map_err(Missing)?;
    let heard_since = Instant::now();
    until("work to go on", || (done() > before).then_some(()));
    let recovery = heard_since.elapsed();
    println!("work went on {:.1} s after {SILENCE:?} of silence", recovery.as_secs_f64());
    assert!(recovery < RECOVERY, "{recovery:?}");
    for mut worker in workers {
        assert_eq!(worker.ends(), 0, "{}", worker.log());
    }
    world.check_end_with(|program| at(program, &lab.queue()));
    Ok(())
}
