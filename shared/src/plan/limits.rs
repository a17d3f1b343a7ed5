//! What a plan may say. Everything behind it counts and allocates by these numbers, so that a plan that
//! was damaged or made up is refused here, field by field, before anything is computed from it.

use super::{Plan, ShardRecord};
use crate::model::HASH_DIMENSIONS;

/// The most items of a run: sums of items and bytes stay far from what 64 bits hold.
pub const MOST_ITEMS: u64 = 1 << 40;

/// The most items of a shard, which a worker holds in memory all at once.
pub const MOST_ITEMS_OF_A_SHARD: u64 = 1 << 24;

/// The most bytes of a bundle, which a worker holds in memory: sums of them stay far from 64 bits too.
pub const LARGEST_BUNDLE: u64 = 1 << 40;

/// The smallest picture is enlarged to the minimum, and the largest that is decoded has as many pixels:
/// a larger minimum would enlarge every picture past that.
pub const MOST_MIN_PIXELS: u32 = 100_000_000;

/// The longest lease in seconds, a year: longer ones leave the range of clocks.
pub const LONGEST_LEASE_SECONDS: f64 = 31_536_000.0;

/// The first field that says what no plan can, and what it must be.
pub(super) fn wrong_field(plan: &Plan) -> Option<(&'static str, String)> {
    let Plan { embedding, fleet, counts, .. } = plan;
    let most_dim = *HASH_DIMENSIONS.end();
    let lease = fleet.lease_seconds;
    let rules = [
        ("fingerprint", is_sha256(&plan.fingerprint), "must be a sha256 in lower-case hex".to_owned()),
        ("model.digest", is_sha256(&plan.model.digest), "must be a sha256 in lower-case hex".to_owned()),
        ("shards_sha256", is_sha256(&plan.shards_sha256), "must be a sha256 in lower-case hex".to_owned()),
        ("embedding.dim", (1..=most_dim).contains(&embedding.dim), format!("must be 1 to {most_dim}")),
        (
            "embedding.min_pixels",
            embedding.min_pixels <= embedding.max_pixels.min(MOST_MIN_PIXELS),
            format!("must be at most max_pixels and {MOST_MIN_PIXELS}"),
        ),
        (
            "fleet.shard_size",
            (1..=MOST_ITEMS_OF_A_SHARD).contains(&fleet.shard_size),
            format!("must be 1 to {MOST_ITEMS_OF_A_SHARD}"),
        ),
        (
            "fleet.lease_seconds",
            lease > 0.0 && lease <= LONGEST_LEASE_SECONDS,
            format!("must be above 0 and at most {LONGEST_LEASE_SECONDS}"),
        ),
        ("counts.items", counts.items <= MOST_ITEMS, format!("must be at most {MOST_ITEMS}")),
        ("counts.shards", counts.shards <= counts.items, "must be at most counts.items".to_owned()),
    ];
    rules.into_iter().find(|(_, legal, _)| !legal).map(|(field, _, rule)| (field, rule))
}

/// Whether a line of `shards.jsonl` says what a shard of this plan can.
pub(super) fn is_legal(shard: &ShardRecord, plan: &Plan) -> bool {
    (1..=plan.fleet.shard_size).contains(&shard.items)
        && shard.bytes <= LARGEST_BUNDLE
        && is_sha256(&shard.ids_sha256)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::PlanError;
    use super::*;
    use crate::ids::{Sha16, ShardId};

    fn sample() -> Value {
        json!({
            "version": 1, "run": "r", "created_at": "2026-01-02T03:04:05Z", "fingerprint": "f".repeat(64),
            "numerics_version": 1, "shards_sha256": "0".repeat(64),
            "model": {"name": "hash:64", "revision": null, "digest": "d".repeat(64), "stored": null, "files": []},
            "embedding": {
                "dtype": "f32", "instruction": "i", "min_pixels": 4096, "max_pixels": 1_843_200,
                "max_length": 8192, "dim": 64, "text_template": null
            },
            "fleet": {"shard_size": 4, "lease_seconds": 60.0},
            "counts": {
                "items": 6, "shards": 2, "items_with_images": 0, "images_named": 0, "images_found": 0,
                "bundle_bytes": 0
            }
        })
    }

    fn parse(plan: &Value) -> Result<Plan, PlanError> {
        Plan::parse(plan.to_string().as_bytes())
    }

    #[test]
    fn a_field_out_of_range_is_named() {
        parse(&sample()).unwrap();
        for (pointer, value) in [
            ("/fingerprint", json!("é".repeat(32))),
            ("/model/digest", json!("D".repeat(64))),
            ("/shards_sha256", json!("")),
            ("/embedding/dim", json!(0)),
            ("/embedding/dim", json!(u32::MAX)),
            ("/embedding/min_pixels", json!(2_000_000)),
            ("/fleet/shard_size", json!(0)),
            ("/fleet/shard_size", json!(u64::MAX)),
            ("/fleet/lease_seconds", json!(-1.0)),
            ("/fleet/lease_seconds", json!(1e300)),
            ("/counts/items", json!(u64::MAX)),
            ("/counts/shards", json!(7)),
        ] {
            let mut plan = sample();
            *plan.pointer_mut(pointer).unwrap() = value;
            let field = pointer[1..].replace('/', ".");
            let error = parse(&plan).unwrap_err();
            assert!(error.to_string().contains(&field), "{pointer}: {error}");
        }
        let mut plan = parse(&sample()).unwrap();
        plan.fleet.lease_seconds = f64::NAN;
        assert!(plan.to_json().is_err(), "what cannot be read is not written");
    }

    #[test]
    fn shards_add_up_to_the_plan() {
        let plan = parse(&sample()).unwrap();
        let line = |number: u64, items: u64| {
            let bundle = format!("{}-{}.tar", ShardId(number), Sha16::of(b"x"));
            json!({"id": ShardId(number), "bundle": bundle, "items": items, "bytes": 1, "ids_sha256": "a".repeat(64)})
                .to_string()
        };
        let read =
            |lines: &[String]| super::super::parse_shards(lines.join("\n").as_bytes(), &plan, "s.jsonl");
        assert_eq!(read(&[line(0, 4), line(1, 2)]).unwrap().len(), 2);
        for (lines, what) in [
            (vec![line(0, 4)], "4 items in 1 shards"),
            (vec![line(0, 4), line(1, 1)], "5 items in 2 shards"),
            (vec![line(0, 4), line(1, 5)], "line 2"),
            (vec![line(0, u64::MAX)], "line 1"),
            (vec![line(0, 4), line(1, 0)], "line 2"),
            (vec![line(1, 4), line(0, 2)], "line 1"),
        ] {
            let error = read(&lines).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("s.jsonl"), "{what}: {error}");
        }
    }
}
