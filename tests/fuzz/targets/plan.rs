//! `plan.json` and `shards.jsonl`.
//!
//! Input: a plan, a NUL, the lines of shards. Holds: a plan that is read is written and read the same; shards
//! that are read are numbered from 0, are what the plan counts, and sums of them do not overflow.
#![no_main]

use shared::ids::ShardId;
use shared::plan::{MOST_ITEMS_OF_A_SHARD, Plan, parse_shards};

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let (plan, shards) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let Ok(plan) = Plan::parse(plan) else { return };
    let written = plan.to_json().expect("what was read can be written");
    assert_eq!(Plan::parse(&written).expect("our own plan"), plan);
    let lease = std::time::Duration::try_from_secs_f64(plan.fleet.lease_seconds).expect("a duration");
    assert!(std::time::Instant::now().checked_add(lease).is_some());
    let Ok(shards) = parse_shards(shards, &plan, "shards.jsonl") else { return };
    let mut items = 0;
    for (number, shard) in (0..).zip(&shards) {
        assert_eq!(shard.id, ShardId(number));
        assert_eq!(shard.content_name().expect("the name was read").shard, shard.id);
        assert!((1..=MOST_ITEMS_OF_A_SHARD).contains(&shard.items));
        items += shard.items;
    }
    assert_eq!((items, shards.len() as u64), (plan.counts.items, plan.counts.shards));
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fuzz::mutate::numbers(data, size, max_size, seed)
});

fn seeds() -> Vec<Vec<u8>> {
    let plan = fuzz::sample::plan();
    parse_shards(&fuzz::sample::shards(), &plan, "shards.jsonl").expect("our own shards");
    let plan = plan.to_json().expect("our own plan");
    vec![[plan.as_slice(), &[0], &fuzz::sample::shards()].concat(), plan]
}
