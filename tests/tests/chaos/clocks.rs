//! Workers whose clocks are wrong by an hour: leases go by the queue's clock and by monotonic ones.

use std::path::PathBuf;

use tests::chaos::world::{Missing, World};

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![clocks_of_workers_wrong_by_an_hour];

fn clocks_of_workers_wrong_by_an_hour(seed: u64) -> Result<(), Missing> {
    let library = faketime().ok_or_else(|| Missing("no libfaketime (Debian package faketime)".to_owned()))?;
    let world = World::on_a_folder(seed, "clocks")?;
    let minutes = world.between(55, 65);
    let wrong = |offset: String| {
        let command = world.worker_command();
        world.start(
            command.env("LD_PRELOAD", &library).env("FAKETIME", offset).env("DONT_FAKE_MONOTONIC", "1"),
        )
    };
    let mut early = wrong(format!("-{minutes}m"));
    let late = wrong(format!("+{minutes}m"));
    let right = world.worker();
    world.wait_for_done(world.between(2, 5));
    early.process.kill();
    world.finish_with(vec![late, right]);
    Ok(())
}

fn faketime() -> Option<PathBuf> {
    let places =
        ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib64/faketime"];
    places.iter().map(|place| PathBuf::from(place).join("libfaketime.so.1")).find(|path| path.exists())
}
