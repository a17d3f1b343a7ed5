//! What lies among the parts: damaged ones, others' ones, several of one shard, and files that are none.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use shared::ids::ShardId;
use shared::part::{Origin, PartBuilder, ReasonKind};
use shared::plan::Plan;
use tests::chaos::work::{SHARD_SIZE, SHARDS};
use tests::chaos::world::{Missing, World};
use tests::npz;

use crate::runner::Scenario;
use crate::scenarios;

pub const SCENARIOS: &[Scenario] = scenarios![
    part_damaged_in_the_middle,
    part_cut_short,
    part_gone,
    part_of_another_fingerprint,
    file_that_is_no_part,
    file_under_a_parts_name,
    part_under_another_parts_name,
    two_parts_that_agree,
    two_parts_of_which_one_has_more_failed_items,
    two_parts_that_disagree,
    parts_alone_make_the_file,
];

/// A run whose shards all have their parts.
fn finished(seed: u64, name: &str) -> Result<World, Missing> {
    let world = World::on_a_folder(seed, name)?;
    for mut worker in [world.worker(), world.worker()] {
        assert_eq!(worker.ends(), 0, "{}", worker.log());
    }
    Ok(world)
}

fn any_part(world: &World) -> PathBuf {
    let parts = world.files("parts");
    assert_eq!(parts.len() as u64, SHARDS);
    parts[world.between(0, SHARDS - 1) as usize].clone()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A bit of a vector flips in the store: only every byte tells, and the worker that computes the shard again
/// finds the damaged one under its name.
fn part_damaged_in_the_middle(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "damaged")?;
    let part = any_part(&world);
    let whole = std::fs::read(&part).unwrap();
    let mut bytes = whole.clone();
    let at = bytes.len() / 2;
    bytes[at] ^= 1 << world.between(0, 7);
    std::fs::write(&part, bytes).unwrap();
    let merged = world.coordinator("merge").args(["--out", "bad.npz"]).output();
    assert_ne!(merged.code(), 0);
    assert!(merged.stderr().contains(&name_of(&part)), "{}", merged.stderr());
    assert!(!world.folder.path().join("bad.npz").exists());
    let _ = world.coordinator("resume").args(["--deep"]).output().expect(0);
    world.finish();
    assert_eq!(std::fs::read(&part).unwrap(), whole, "the same bytes again");
    Ok(())
}

fn part_cut_short(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "cut")?;
    let part = any_part(&world);
    let whole = std::fs::read(&part).unwrap();
    std::fs::write(&part, &whole[..world.between(0, whole.len() as u64 - 1) as usize]).unwrap();
    let _ = world.resume();
    world.finish();
    assert_eq!(std::fs::read(&part).unwrap(), whole, "the same bytes again");
    Ok(())
}

fn part_gone(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "gone")?;
    let part = any_part(&world);
    let whole = std::fs::read(&part).unwrap();
    std::fs::remove_file(&part).unwrap();
    let merged = world.coordinator("merge").args(["--out", "half.npz"]).output().expect(4);
    assert!(merged.stderr().contains("1 of 12 shards"), "{}", merged.stderr());
    let _ = world.resume();
    world.finish();
    assert_eq!(std::fs::read(&part).unwrap(), whole, "the same bytes again");
    Ok(())
}

/// Another run of the same items with another maximum length: its parts look the same but for the
/// fingerprint.
fn part_of_another_fingerprint(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "fingerprint")?;
    let own = any_part(&world);
    let other = world.folder.path().join("other-store");
    let _ = world
        .coordinator("run")
        .args(&world.work.plan)
        .args(["--max-length", "8000", "--out", "other.npz", "--device", "cpu", "--store"])
        .args([&other])
        .output()
        .expect(0);
    let runs = std::fs::read_dir(other.join("runs")).unwrap().next().unwrap().unwrap().path();
    let mut foreign: Vec<PathBuf> =
        std::fs::read_dir(runs.join("parts")).unwrap().map(|entry| entry.unwrap().path()).collect();
    foreign.sort();
    let foreign = &foreign[world.between(0, SHARDS - 1) as usize];
    let placed = own.with_file_name(name_of(foreign));
    std::fs::copy(foreign, &placed).unwrap();
    let merged = world.coordinator("merge").args(["--out", "bad.npz"]).output().expect(5);
    assert!(merged.stderr().contains(&name_of(foreign)), "{}", merged.stderr());
    assert!(merged.stderr().contains("fingerprint"), "{}", merged.stderr());
    // Nor does it stand in for a part of ours.
    let shard = &name_of(foreign)[..6];
    let ours =
        world.files("parts").into_iter().find(|path| name_of(path).starts_with(shard) && *path != placed);
    std::fs::remove_file(ours.unwrap()).unwrap();
    let resumed = world.coordinator("resume").args(["--dry-run"]).output();
    assert!(resumed.stdout().contains("11 of 12 shards have a valid part"), "{}", resumed.stdout());
    std::fs::remove_file(placed).unwrap();
    let _ = world.resume();
    world.finish();
    Ok(())
}

fn file_that_is_no_part(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "foreign")?;
    let part = any_part(&world);
    let stranger = part.with_file_name("notes.txt");
    std::fs::write(&stranger, "someone was here").unwrap();
    let merged = world.coordinator("merge").args(["--out", "bad.npz"]).output().expect(5);
    assert!(merged.stderr().contains("notes.txt"), "{}", merged.stderr());
    std::fs::remove_file(stranger).unwrap();
    world.check_end();
    Ok(())
}

/// A file that has a part's name and is none is worth nothing, and the shard is computed.
fn file_under_a_parts_name(seed: u64) -> Result<(), Missing> {
    let world = World::on_a_folder(seed, "name")?;
    let parts = world.in_store("parts");
    std::fs::create_dir_all(&parts).unwrap();
    let shard = world.between(0, SHARDS - 1);
    let stranger = parts.join(format!("{shard:06}-0123456789abcdef.npz"));
    std::fs::write(&stranger, b"PK\x05\x06 not much of a zip").unwrap();
    let resumed = world.resume();
    assert!(resumed.stdout().contains("0 of 12 shards have a valid part"), "{}", resumed.stdout());
    for mut worker in [world.worker(), world.worker()] {
        assert_eq!(worker.ends(), 0, "{}", worker.log());
    }
    world.check_end();
    Ok(())
}

/// Whole and valid in itself, with checksums of its own, but not what its name says: only the digest tells.
fn part_under_another_parts_name(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "other-name")?;
    let part = any_part(&world);
    let whole = std::fs::read(&part).unwrap();
    let turned = |values: &[f32]| values.iter().rev().copied().collect();
    let (_, bytes) = another_part(&world, &part, turned, None);
    std::fs::write(&part, bytes).unwrap();
    let merged = world.coordinator("merge").args(["--out", "bad.npz"]).output();
    assert_ne!(merged.code(), 0);
    assert!(merged.stderr().contains(&name_of(&part)), "{}", merged.stderr());
    let _ = world.coordinator("resume").args(["--deep"]).output().expect(0);
    world.finish();
    assert_eq!(std::fs::read(&part).unwrap(), whole, "the right bytes again");
    Ok(())
}

/// Another kind of device has computed the shard too, and its last bits are others: the smaller name counts.
fn two_parts_that_agree(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "agree")?;
    let part = any_part(&world);
    let (name, bytes) = another_part(&world, &part, <[f32]>::to_vec, None);
    std::fs::write(part.with_file_name(&name), &bytes).unwrap();
    world.check_end();
    Ok(())
}

/// The part with the fewest failed items counts, whatever the names are.
fn two_parts_of_which_one_has_more_failed_items(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "more-failed")?;
    let part = any_part(&world);
    let row = world.between(0, SHARD_SIZE / 2) as usize;
    let (name, bytes) = another_part(&world, &part, <[f32]>::to_vec, Some(row));
    std::fs::write(part.with_file_name(&name), &bytes).unwrap();
    world.check_end();
    Ok(())
}

/// One of two machines computes nonsense, and nobody can tell which.
fn two_parts_that_disagree(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "disagree")?;
    let part = any_part(&world);
    let turned = |values: &[f32]| values.iter().rev().copied().collect();
    let (name, bytes) = another_part(&world, &part, turned, None);
    let placed = part.with_file_name(&name);
    std::fs::write(&placed, &bytes).unwrap();
    let merged = world.coordinator("merge").args(["--out", "bad.npz"]).output().expect(5);
    assert!(merged.stderr().contains("another device"), "{}", merged.stderr());
    assert!(merged.stderr().contains("by hash"), "both devices are named: {}", merged.stderr());
    std::fs::remove_file(placed).unwrap();
    world.check_end();
    Ok(())
}

/// Neither queue nor workers: the store alone.
fn parts_alone_make_the_file(seed: u64) -> Result<(), Missing> {
    let world = finished(seed, "alone")?;
    world.redis.borrow_mut().stop();
    world.check_arrays("e.npz");
    Ok(())
}

/// A valid part of the same shard by "another device", its rows changed, and one of them failed.
fn another_part(
    world: &World,
    part: &Path,
    change: impl Fn(&[f32]) -> Vec<f32>,
    failed_row: Option<usize>,
) -> (String, Vec<u8>) {
    let plan: Plan = serde_json::from_slice(&std::fs::read(world.in_store("plan.json")).unwrap()).unwrap();
    let shard: ShardId = name_of(part)[..6].parse().unwrap();
    let arrays = npz::read(part);
    let metadata: shared::part::Metadata = serde_json::from_str(&arrays.metadata).unwrap();
    let first = shard.0 * SHARD_SIZE;
    let ids: Vec<String> = (first..first + SHARD_SIZE).map(|index| index.to_string()).collect();
    let mut builder = PartBuilder::new(&plan, shard, first, ids.clone());
    for reason in metadata.failures.iter().flatten() {
        builder.fail(reason.index, reason.kind, reason.reason.clone()).unwrap();
    }
    for reason in metadata.dropped_images.iter().flatten() {
        builder.drop_image(reason.index, reason.kind, reason.reason.clone()).unwrap();
    }
    for (row, values) in arrays.embeddings.chunks(arrays.dim).enumerate() {
        let index = first + ids.iter().position(|id| *id == arrays.ids[row]).unwrap() as u64;
        if failed_row == Some(row) {
            builder.fail(index, ReasonKind::OutOfMemory, "too large for that device").unwrap();
        } else {
            builder.row(index, &change(values), arrays.image_counts[row] as u32).unwrap();
        }
    }
    let mut null = vec![0.0; arrays.dim];
    null[0] = 1.0;
    let origin = Origin {
        device: "another device".to_owned(),
        batch_tokens: 200,
        batch_reduced: failed_row.is_some(),
        null_embedding: null_of(&metadata).unwrap_or(null),
    };
    let written = builder.finish(origin).unwrap();
    (written.name.part(), Bytes::from(written.bytes).to_vec())
}

fn null_of(metadata: &shared::part::Metadata) -> Option<Vec<f32>> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(&metadata.null_embedding).ok()?;
    Some(bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
}
