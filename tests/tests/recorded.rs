//! A run as version 1 of the formats wrote it: every later version must read it.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use coordinator::context::planned_run;
use coordinator::dollars::Dollars;
use coordinator::fleet::event::Entry;
use coordinator::fleet::journal::Record;
use coordinator::fleet::state::End;
use coordinator::provider::InstanceId;
use coordinator::record::{Depth, read_record};
use shared::bundle::Bundle;
use shared::ids::RunId;
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

#[tokio::test]
async fn the_record_of_a_fleet_of_version_1_is_read() {
    let store = Store::open(RECORDED).unwrap();
    let run: RunId = "recorded".parse().unwrap();
    let record = Record::open(&store, &run).await.unwrap();
    let fleet = record.fleet();
    let ends: Vec<_> = fleet.boxes.values().map(|of| of.end).collect();
    let gone = End::Gone("2026-11-24T13:03:00Z".parse().unwrap());
    assert_eq!(ends, [Some(gone), Some(End::Refused), Some(End::GivenUp)]);
    let first = fleet.boxes.values().next().unwrap();
    assert_eq!((first.instance, first.price()), (Some(InstanceId(501)), Dollars(0.4)));
    assert_eq!(first.history.len(), 2);
    assert!(fleet.strays.contains(&InstanceId(502)) && fleet.banned.contains(&first.intent.machine));
    let billed = fleet.closed.as_ref().unwrap().1.billed;
    assert_eq!((billed, fleet.launches_since(fleet.began_at.unwrap())), (Some(Dollars(0.53)), 2));
    // Written again, each entry has the bytes it had: no field got lost on the way.
    for number in 0..16 {
        let bytes = store.get(&layout::fleet_entry_key(&run, number)).await.unwrap();
        let entry: Entry = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(serde_json::to_vec(&entry).unwrap(), bytes, "entry {number}");
    }
}
