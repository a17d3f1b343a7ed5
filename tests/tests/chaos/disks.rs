//! Disks that are full: the one that the parts go to, and the one that the merged file goes to.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::chaos::world::{Missing, World};

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    disk_full_under_the_store_for_a_while,
    disk_full_under_the_store_for_too_long,
    disk_full_under_a_merge,
];

/// A small disk of memory, mounted until it is dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path, bytes: u32) -> Result<Self, Missing> {
        std::fs::create_dir_all(folder).unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            _ => Err(Missing("this user may not mount a small disk".to_owned())),
        }
    }

    /// Fills it but for less than so many bytes.
    fn fill(&self, left: u32) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - u64::from(left)).unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Vectors are worth more than the wait.
fn disk_full_under_the_store_for_a_while(seed: u64) -> Result<(), Missing> {
    let world = World::unplanned(seed, "full-store")?;
    let store = Path::new(&world.store).to_path_buf();
    let disk = SmallDisk::mount(&store, 4 << 20)?;
    world.plan();
    // Room for some parts, not for all.
    disk.fill(world.between(4, 12) as u32 * 4096);
    let worker = world.worker();
    worker.says("No space left");
    assert_eq!(world.status()["shards"]["dead"], 0);
    disk.empty();
    world.finish_with(vec![worker]);
    Ok(())
}

/// Nobody makes room: the worker ends, nothing is counted against a shard, and others do the rest.
fn disk_full_under_the_store_for_too_long(seed: u64) -> Result<(), Missing> {
    let world = World::unplanned(seed, "full-store-long")?;
    let store = Path::new(&world.store).to_path_buf();
    let disk = SmallDisk::mount(&store, 4 << 20)?;
    world.plan();
    disk.fill(world.between(4, 12) as u32 * 4096);
    let patience = Duration::from_secs(2);
    let command = world.worker_command().args(["--give-up-after", "2s"]);
    let mut worker = world.start(command);
    worker.says("No space left");
    let full_since = Instant::now();
    assert_eq!(worker.ends(), 6, "{}", worker.log());
    assert!(full_since.elapsed() < patience * 4, "it gives up once, not for each shard it holds");
    let status = world.status();
    assert_eq!(status["shards"]["dead"], 0, "{status}");
    assert_eq!(status["shards"]["leased"], 0, "{status}");
    disk.empty();
    world.finish();
    Ok(())
}

fn disk_full_under_a_merge(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "full-merge")?;
    for mut worker in [world.worker(), world.worker()] {
        assert_eq!(worker.ends(), 0, "{}", worker.log());
    }
    let folder = world.folder.path().join("out");
    let disk = SmallDisk::mount(&folder, 1 << 20)?;
    disk.fill(world.between(1, 4) as u32 * 4096);
    let merged = world.coordinator("merge").args(["--out", "out/e.npz"]).output();
    assert_ne!(merged.code(), 0);
    assert!(merged.stderr().contains("No space left"), "{}", merged.stderr());
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["filler"], "nothing half is left");
    disk.empty();
    world.check_arrays("out/e.npz");
    world.check_end();
    Ok(())
}
