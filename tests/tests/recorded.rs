//! A run as version 1 of the formats wrote it: every later version must read it.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use coordinator::context::planned_run;
use coordinator::record::{Depth, read_record};
use shared::bundle::Bundle;
use shared::plan::fingerprint;
use shared::store::{Store, layout};
use tests::npz;
use tests::program::Program;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/v1");

#[tokio::test]
async fn plan_bundles_and_parts_of_version_1_are_read() {
    let run = planned_run(Store::open(RECORDED).unwrap(), None).await.unwrap();
    let plan = &run.plan;
    assert_eq!((plan.counts.items, plan.counts.images_named, plan.counts.images_found), (5, 3, 1));
    let bundles = run.shards().iter().map(|shard| shard.bundle.as_str());
    let again = fingerprint(plan.numerics_version, &plan.model.digest, &plan.embedding, bundles);
    assert_eq!(again, plan.fingerprint, "the fingerprint of the same parts is the same for ever");
    let mut ids = Vec::new();
    for shard in run.shards() {
        let key = layout::bundle_key(&plan.run, &shard.content_name().unwrap());
        let bundle = Bundle::read(run.store.get(&key).await.unwrap()).unwrap();
        ids.extend(bundle.items().iter().map(|item| item.id.clone()));
    }
    assert_eq!(ids, ["1", "둘", "three", "four", "five"]);
    for depth in [Depth::Tail, Depth::Deep] {
        let record = read_record(&run, depth).await.unwrap();
        assert!(record.refused.is_empty(), "{:?}", record.refused);
        let counts: Vec<(u64, u64)> =
            record.parts.values().map(|part| (part.embedded, part.failed)).collect();
        assert_eq!(counts, [(2, 1), (2, 0)]);
    }
}

#[test]
fn a_merge_of_version_1_gives_the_recorded_arrays() {
    let working = tempfile::tempdir().unwrap();
    // A merge replaces failed.jsonl: it works on a copy.
    let copied =
        std::process::Command::new("cp").arg("-r").arg(RECORDED).arg(working.path().join("store")).status();
    assert!(copied.unwrap().success());
    let _ = Program::coordinator(working.path())
        .args(["merge", "--store", "store", "--out", "merged.npz"])
        .output()
        .expect(0);
    let merged = npz::read(&working.path().join("merged.npz"));
    let recorded = npz::read(&Path::new(RECORDED).join("merged.npz"));
    merged.assert_same_bits(&recorded);
    assert_eq!(merged.metadata, recorded.metadata);
    let verified = Program::coordinator(working.path())
        .args(["verify", "merged.npz", "--store", "store", "--run", "recorded"])
        .output()
        .expect(0);
    assert!(verified.stdout().contains("nothing is wrong"), "{}", verified.stdout());
    let failed = "runs/recorded/failed.jsonl";
    let read = |root: &Path| std::fs::read_to_string(root.join(failed)).unwrap();
    assert_eq!(read(&working.path().join("store")), read(Path::new(RECORDED)));
}
