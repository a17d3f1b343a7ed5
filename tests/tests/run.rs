//! `coordinator run`: the whole job on one machine, against the reference.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use tests::npz;
use tests::program::Program;
use tests::sample::{baseline, folder, with_sample};
use tests::wait::until;

/// Largest difference from the reference, end to end, JPEG included.
const END_TO_END: f32 = 1e-5;
/// Largest difference between two shard sizes.
const OTHER_SHARDS: f32 = 1e-6;

fn run(working: &Path, shared: &Path) -> Program {
    with_sample(Program::coordinator(working).args(["run"]), shared).args([
        "--out",
        "e.npz",
        "--workers",
        "2",
        "--device",
        "cpu",
    ])
}

/// Every part with the moment it was written.
fn parts(working: &Path) -> BTreeMap<String, SystemTime> {
    let runs = working.join("embed-fleet-store/runs");
    let Ok(runs) = std::fs::read_dir(runs) else { return BTreeMap::new() };
    runs.filter_map(|run| std::fs::read_dir(run.unwrap().path().join("parts")).ok())
        .flatten()
        .filter_map(|part| {
            let part = part.unwrap();
            let name = part.file_name().to_string_lossy().into_owned();
            shared::ids::ContentName::parse_part(&name)
                .is_ok()
                .then(|| (name, part.metadata().unwrap().modified().unwrap()))
        })
        .collect()
}

#[test]
fn the_sample_equals_the_reference() {
    let Some(shared) = folder() else { return };
    let working = tempfile::tempdir().unwrap();
    let finished = run(working.path(), &shared).output().expect(0);
    let ours = npz::read(&working.path().join("e.npz"));
    let expected = npz::read(&shared.join("sample/expected.npz"));
    assert_eq!(ours.ids, expected.ids);
    assert_eq!(ours.image_counts, expected.image_counts);
    assert_eq!(ours.dim, 64);
    let difference = ours.max_abs_difference(&expected);
    println!("largest difference from the reference: {difference:.2e}");
    assert!(difference <= END_TO_END, "{difference}");
    let report = finished.stdout();
    let missing = ["q7_0.jpg", "q39_0.jpg", "q112_0.jpg", "q140_0.png", "q186_0.jpg"];
    for path in missing {
        assert!(report.contains(&format!("{path} is missing")), "{path} in {report}");
    }
    assert!(report.contains("q5_0.png is truncated"), "{report}");
    assert!(report.contains("nothing is wrong"), "{report}");

    // The same command again computes nothing and writes the same file.
    let before = (parts(working.path()), std::fs::read(working.path().join("e.npz")).unwrap());
    let again = run(working.path(), &shared).output().expect(0);
    assert!(again.stderr().contains("embedded 0 of 15 shards"), "{}", again.stderr());
    assert_eq!(before, (parts(working.path()), std::fs::read(working.path().join("e.npz")).unwrap()));
}

#[test]
fn another_shard_size_moves_the_last_bits_at_most() {
    let Some(shared) = folder() else { return };
    let working = tempfile::tempdir().unwrap();
    let program =
        Program::coordinator(working.path()).args(["run", "--items"]).args(tests::sample::items(&shared));
    let _ = program
        .flag("--images", shared.join("sample/images"))
        .flag("--model", shared.join("reference/model"))
        .args(["--shard-size", "37", "--out", "e.npz", "--device", "cpu"])
        .output()
        .expect(0);
    let ours = npz::read(&working.path().join("e.npz"));
    let baseline = baseline(&shared);
    assert_eq!(ours.ids, baseline.ids);
    let difference = ours.max_abs_difference(baseline);
    println!("largest difference between shard sizes 37 and 16: {difference:.2e}");
    assert!(difference <= OTHER_SHARDS, "{difference}");
}

#[test]
fn a_killed_run_goes_on_and_leaves_finished_shards_alone() {
    let Some(shared) = folder() else { return };
    let working = tempfile::tempdir().unwrap();
    let mut first = run(working.path(), &shared).start(&working.path().join("log"));
    until("some parts", || (parts(working.path()).len() >= 3).then_some(()));
    first.kill();
    let finished = parts(working.path());
    assert!(finished.len() < 15, "killed too late: {}", finished.len());
    assert!(!working.path().join("e.npz").exists(), "no half file");
    let _ = run(working.path(), &shared).output().expect(0);
    let all = parts(working.path());
    assert_eq!(all.len(), 15);
    for (name, written) in finished {
        assert_eq!(all[&name], written, "{name} was written again");
    }
    npz::read(&working.path().join("e.npz")).assert_same_bits(baseline(&shared));
}

#[test]
fn a_stopped_run_ends_cleanly_and_goes_on() {
    let Some(shared) = folder() else { return };
    let working = tempfile::tempdir().unwrap();
    let mut first = run(working.path(), &shared).start(&working.path().join("log"));
    until("a part", || (!parts(working.path()).is_empty()).then_some(()));
    first.signal("TERM");
    assert_eq!(first.wait(), 143);
    let _ = run(working.path(), &shared).output().expect(0);
    npz::read(&working.path().join("e.npz")).assert_same_bits(baseline(&shared));
}
