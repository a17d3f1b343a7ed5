//! Bundles that are damaged or gone, and runs that are paused and drained in the middle of trouble.

use tests::chaos::world::{Missing, World};
use tests::wait::until;

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    bundle_damaged_in_the_store,
    bundle_gone_from_the_store,
    pause_over_a_killed_worker,
    drain_and_resume,
];

/// One letter of a text is another, and the tar is as good as before: only its name tells.
fn bundle_damaged_in_the_store(seed: u64) -> Result<(), Missing> {
    broken_bundle(seed, "bundle-damaged", |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let letter = bytes.windows(6).position(|window| window == "문항".as_bytes()).unwrap();
        bytes[letter + 2] ^= 1;
        std::fs::write(path, bytes).unwrap();
    })
}

fn bundle_gone_from_the_store(seed: u64) -> Result<(), Missing> {
    broken_bundle(seed, "bundle-gone", |path| std::fs::remove_file(path).unwrap())
}

/// The shard fails by its name, the others are done, and a person who brings the bundle back resumes.
fn broken_bundle(seed: u64, name: &str, breaks: impl FnOnce(&std::path::Path)) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, name)?;
    let bundles = world.files("inputs");
    let broken = &bundles[world.between(0, bundles.len() as u64 - 1) as usize];
    let whole = std::fs::read(broken).unwrap();
    breaks(broken);
    let mut workers = [world.worker(), world.worker()];
    let file = broken.file_name().unwrap().to_str().unwrap();
    until("the shard to fail", || {
        let status = world.status();
        let failures = status["failures"].as_array().unwrap().clone();
        failures.iter().any(|failure| failure["message"].as_str().unwrap().contains(file)).then_some(())
    });
    let merged = world.coordinator("merge").args(["--out", "half.npz"]).output().expect(4);
    assert!(merged.stderr().contains("shards"), "{}", merged.stderr());
    std::fs::write(broken, whole).unwrap();
    for worker in &mut workers {
        worker.process.kill();
    }
    let _ = world.resume();
    world.finish();
    Ok(())
}

fn pause_over_a_killed_worker(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "pause")?;
    let mut killed = world.worker();
    let other = world.worker();
    world.wait_for_done(world.between(1, 4));
    let _ = world.coordinator("pause").output().expect(0);
    killed.process.kill();
    let leased = format!("fleet:{{{}}}:leased", world.run_id());
    until("all leases to end", || (world.redis.borrow().cli(&["ZCARD", &leased]) == "0").then_some(()));
    let _ = world.resume();
    world.finish_with(vec![other]);
    Ok(())
}

fn drain_and_resume(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "drain")?;
    let mut workers = [world.worker(), world.worker()];
    world.wait_for_done(world.between(1, 4));
    let _ = world.coordinator("drain").output().expect(0);
    for worker in &mut workers {
        assert_eq!(worker.ends(), 0, "{}", worker.log());
    }
    assert_eq!(world.status()["shards"]["leased"], 0);
    let _ = world.resume();
    world.finish();
    Ok(())
}
