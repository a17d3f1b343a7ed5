//! Parts: built, validated, and broken in every way.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use bytes::Bytes;
use proptest::prelude::*;
use shared::ids::{ContentName, Sha16, ShardId};
use shared::model::ModelRecord;
use shared::npz::{Tail, tail_size};
use shared::part::{
    Metadata, Origin, PartBuilder, PartError, PartErrorKind, PartExpectation, ReasonKind, WrittenPart,
    validate_part, validate_tail,
};
use shared::plan::{Dtype, EmbeddingSettings, FleetSettings, Plan, PlanCounts, ShardRecord};

const FIRST: u64 = 24;
const IDS: [&str; 5] = ["a", "문제-2", "🎓", "item four", "e"];

fn plan() -> Plan {
    Plan {
        version: 1,
        run: "r".parse().unwrap(),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        fingerprint: "f".repeat(64),
        numerics_version: 1,
        model: ModelRecord {
            name: "hash:4".into(),
            revision: None,
            digest: "d".repeat(64),
            stored: None,
            files: vec![],
        },
        embedding: EmbeddingSettings {
            dtype: Dtype::F32,
            instruction: "i".into(),
            min_pixels: 1,
            max_pixels: 2,
            max_length: 3,
            dim: 4,
            text_template: None,
        },
        fleet: FleetSettings { shard_size: 8, lease_seconds: 1.0 },
        counts: PlanCounts::default(),
        shards_sha256: String::new(),
    }
}

fn shard() -> ShardRecord {
    let ids = IDS.join("\n") + "\n";
    ShardRecord {
        id: ShardId(3),
        bundle: "000003-0123456789abcdef.tar".into(),
        items: 5,
        bytes: 1,
        ids_sha256: shared::digest::sha256_hex(ids.as_bytes()),
    }
}

fn builder(plan: &Plan) -> PartBuilder<'_> {
    PartBuilder::new(plan, ShardId(3), FIRST, IDS.map(str::to_owned).to_vec())
}

fn origin() -> Origin {
    Origin {
        device: "CPU".into(),
        batch_tokens: 9,
        batch_reduced: false,
        null_embedding: vec![0.0, 1.0, 0.0, 0.0],
    }
}

/// Rows in the order given; item 2 fails, item 1 is partial, item 3 text only.
fn written(order: [u64; 4]) -> WrittenPart {
    let plan = plan();
    let mut builder = builder(&plan);
    for item in order {
        let vector = [0.6, 0.8, 0.0, 0.0].map(|value: f32| if item == 4 { -value } else { value });
        builder.row(FIRST + item, &vector, u32::from(item == 1)).unwrap();
        if item == 1 || item == 3 {
            builder.drop_image(FIRST + item, ReasonKind::Ratio, "b.png is 1 x 900").unwrap();
        }
    }
    builder.fail(FIRST + 2, ReasonKind::NothingToEmbed, "no text and no usable image").unwrap();
    builder.drop_image(FIRST + 2, ReasonKind::Missing, "c.png").unwrap();
    builder.finish(origin()).unwrap()
}

fn check(name: &str, bytes: &[u8]) -> Result<shared::part::ValidPart, PartError> {
    let (plan, shard) = (plan(), shard());
    let expectation = PartExpectation { plan: &plan, shard: &shard, first_index: FIRST };
    validate_part(name, Bytes::copy_from_slice(bytes), expectation)
}

fn named(bytes: &[u8]) -> String {
    ContentName { shard: ShardId(3), sha: Sha16::of(bytes) }.part()
}

#[test]
fn a_part_is_the_same_bytes_whatever_order_its_rows_came_in() {
    let part = written([0, 1, 3, 4]);
    assert_eq!(part, written([4, 3, 1, 0]));
    let valid = check(&part.name.part(), &part.bytes).unwrap();
    let ids: Vec<String> = (0..valid.rows()).map(|row| valid.id(row)).collect();
    assert_eq!(ids, ["a", "문제-2", "item four", "e"]);
    assert_eq!(valid.vector(3), [-0.6, -0.8, 0.0, 0.0]);
    let metadata = &valid.metadata;
    assert_eq!((metadata.count, metadata.failed, metadata.partial, metadata.text_only), (4, 1, 1, 1));
    assert_eq!((metadata.with_image, metadata.dropped_images.as_ref().unwrap().len()), (1, 3));
    assert_eq!((valid.row_of(FIRST + 2, FIRST), valid.row_of(FIRST + 3, FIRST)), (None, Some(2)));
}

#[test]
fn a_shard_whose_items_all_failed_is_a_part() {
    let plan = plan();
    let mut builder = builder(&plan);
    for item in 0..5 {
        builder.fail(FIRST + item, ReasonKind::NothingToEmbed, "x").unwrap();
    }
    let part = builder.finish(origin()).unwrap();
    assert_eq!(check(&part.name.part(), &part.bytes).unwrap().rows(), 0);
}

#[test]
fn no_part_is_made_of_rows_that_break_a_law() {
    let plan = plan();
    let mut rows = builder(&plan);
    rows.row(FIRST, &[1.0, 0.0, 0.0, 0.0], 0).unwrap();
    let unsettled = rows.finish(origin()).unwrap_err().to_string();
    assert!(unsettled.contains("4 items") && unsettled.contains("문제-2"), "{unsettled}");
    let mut rows = builder(&plan);
    for (vector, word) in
        [(vec![1.0], "components"), (vec![f32::NAN, 0.0, 0.0, 0.0], "norm"), (vec![0.5; 3], "components")]
    {
        let error = builder(&plan).row(FIRST, &vector, 0).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    rows.row(FIRST, &[1.0, 0.0, 0.0, 0.0], 0).unwrap();
    assert!(rows.row(FIRST, &[1.0, 0.0, 0.0, 0.0], 0).unwrap_err().to_string().contains("twice"));
    assert!(
        rows.row(FIRST + 5, &[1.0, 0.0, 0.0, 0.0], 0).unwrap_err().to_string().contains("not in this shard")
    );
}

#[test]
fn every_flipped_byte_is_found_and_every_other_length() {
    let part = written([0, 1, 3, 4]);
    let name = part.name.part();
    for at in 0..part.bytes.len() {
        let mut bytes = part.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(check(&name, &bytes).unwrap_err().is_damage(), "byte {at}");
        // Even under the name of its own digest it is refused, or differs in what means nothing.
        if let Ok(valid) = check(&named(&bytes), &bytes) {
            assert_eq!(valid.metadata, part.metadata, "byte {at}");
            assert_eq!(valid.vector(0), [0.6, 0.8, 0.0, 0.0], "byte {at}");
        }
    }
    for length in 0..part.bytes.len() {
        assert!(check(&name, &part.bytes[..length]).is_err());
        assert!(check(&named(&part.bytes[..length]), &part.bytes[..length]).is_err(), "{length}");
    }
}

/// Makes the part again with other metadata, under the name of its digest.
fn with_metadata(
    part: &WrittenPart,
    change: impl FnOnce(&mut Metadata),
) -> Result<shared::part::ValidPart, PartError> {
    let directory = shared::npz::Directory::from_tail(&part.bytes, part.bytes.len() as u64).unwrap();
    let mut metadata = part.metadata.clone();
    change(&mut metadata);
    let text = serde_json::to_string(&metadata).unwrap();
    let width = shared::npz::text_width(&text);
    let mut last = shared::npz::ArrayHeader::vector(shared::npz::Element::Text { width }, 1).to_bytes();
    shared::npz::encode_text(&text, width, &mut last);
    let members: Vec<Vec<u8>> = (0..3)
        .map(|position| {
            let slice = shared::npz::slice_array(&part.bytes, &directory, position).unwrap();
            [slice.header.to_bytes(), part.bytes[slice.rows].to_vec()].concat()
        })
        .chain([last])
        .collect();
    let bytes = shared::npz::write_stored(&[
        (shared::npz::MEMBERS[0], &[&members[0]]),
        (shared::npz::MEMBERS[1], &[&members[1]]),
        (shared::npz::MEMBERS[2], &[&members[2]]),
        (shared::npz::MEMBERS[3], &[&members[3]]),
    ]);
    check(&named(&bytes), &bytes)
}

/// A word of the error, and what is done to the metadata.
type Change = (&'static str, fn(&mut Metadata));

#[test]
fn metadata_that_does_not_fit_the_plan_or_the_rows_is_refused() {
    let part = written([0, 1, 3, 4]);
    with_metadata(&part, |_| {}).unwrap();
    let error = with_metadata(&part, |metadata| metadata.fingerprint = "e".repeat(64)).unwrap_err();
    assert!(matches!(error.kind, PartErrorKind::OtherRun { what: "fingerprint", .. }), "{error}");
    let changes: [Change; 9] = [
        ("dim", |metadata| metadata.dim = 5),
        ("shard", |metadata| metadata.shard = Some(ShardId(4))),
        ("account", |metadata| metadata.count = 5),
        ("account", |metadata| metadata.failures = Some(vec![])),
        ("not in this shard", |metadata| {
            metadata.failures.as_mut().unwrap()[0].index = 90;
        }),
        ("its ids", |metadata| {
            metadata.failures.as_mut().unwrap()[0].index -= 1;
        }),
        ("partial", |metadata| metadata.partial = 0),
        ("dropped image", |metadata| {
            metadata.dropped_images.as_mut().unwrap()[0].id = "z".into();
        }),
        ("null_embedding", |metadata| {
            metadata.null_embedding = "AAAA".into();
        }),
    ];
    for (word, change) in changes {
        let error = with_metadata(&part, change).unwrap_err();
        assert!(error.to_string().contains(word) && !error.is_damage(), "{word}: {error}");
    }
}

#[test]
fn names_are_checked_first() {
    let part = written([0, 1, 3, 4]);
    for name in ["x.npz", "000004-0123456789abcdef.npz", "000003-0123456789abcdef.tar"] {
        assert!(matches!(check(name, &part.bytes).unwrap_err().kind, PartErrorKind::Foreign(_)), "{name}");
    }
}

#[test]
fn the_end_of_a_part_tells_what_it_is() {
    let part = written([0, 1, 3, 4]);
    let (plan, shard) = (plan(), shard());
    let expectation = PartExpectation { plan: &plan, shard: &shard, first_index: FIRST };
    let (name, size) = (part.name.part(), part.bytes.len() as u64);
    let start = part.bytes.len().saturating_sub(tail_size(4) as usize);
    let Tail::Complete(summary) = validate_tail(&name, size, &part.bytes[start..], expectation).unwrap()
    else {
        panic!("the usual size suffices")
    };
    assert_eq!((summary.metadata, summary.id_width), (part.metadata, 9));
    assert!(validate_tail(&name, size + 1, &part.bytes, expectation).unwrap_err().is_damage());
    assert!(validate_tail(&name, size, &[], expectation).unwrap_err().is_damage());
    let cut = &part.bytes[..part.bytes.len() - 1];
    assert!(validate_tail(&name, size - 1, cut, expectation).unwrap_err().is_damage());
}

proptest! {
    #[test]
    fn no_bytes_make_a_validation_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let part = written([0, 1, 3, 4]);
        let mut bytes = part.bytes.clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let changed = bytes != part.bytes;
        prop_assert_eq!(check(&part.name.part(), &bytes).is_err(), changed);
        let _ = check(&named(&bytes), &bytes);
        let (plan, shard) = (plan(), shard());
        let expectation = PartExpectation { plan: &plan, shard: &shard, first_index: FIRST };
        let _ = validate_tail(&part.name.part(), bytes.len() as u64, &bytes, expectation);
    }
}
