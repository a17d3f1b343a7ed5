//! The run that is merged or verified against: plan and shards, with each shard's place.

use shared::ids::ShardId;
use shared::part::PartExpectation;
use shared::plan::{Plan, ShardRecord};
use shared::store::{Store, layout};

use super::MergeError;

/// A run in a store.
#[derive(Debug)]
pub struct Run {
    /// The store.
    pub store: Store,
    /// The plan.
    pub plan: Plan,
    shards: Vec<ShardRecord>,
    first_indexes: Vec<u64>,
}

impl Run {
    /// A run of a plan and its shards, in input order. Their number and items must be the plan's.
    pub fn new(store: Store, plan: Plan, shards: Vec<ShardRecord>) -> Result<Self, MergeError> {
        if !shards.is_sorted_by(|left, right| left.id < right.id) {
            return Err(MergeError::Plan("shard ids do not grow".to_owned()));
        }
        let mut items = 0_u64;
        let mut first_indexes = Vec::with_capacity(shards.len());
        for shard in &shards {
            first_indexes.push(items);
            items = items
                .checked_add(shard.items)
                .ok_or_else(|| MergeError::Plan("absurd item counts".to_owned()))?;
        }
        if shards.len() as u64 != plan.counts.shards || items != plan.counts.items {
            return Err(MergeError::Plan(format!(
                "it lists {} shards with {items} items, the plan has {} with {}",
                shards.len(),
                plan.counts.shards,
                plan.counts.items
            )));
        }
        Ok(Self { store, plan, shards, first_indexes })
    }

    /// The shards in input order.
    pub fn shards(&self) -> &[ShardRecord] {
        &self.shards
    }

    /// The position of a shard, or `None` where the plan has none of that id.
    pub fn position(&self, shard: ShardId) -> Option<usize> {
        self.shards.binary_search_by_key(&shard, |record| record.id).ok()
    }

    /// The index of the first item of the shard at a position.
    pub fn first_index(&self, position: usize) -> u64 {
        self.first_indexes[position]
    }

    /// What a part of the shard at a position must be.
    pub fn expectation(&self, position: usize) -> PartExpectation<'_> {
        PartExpectation {
            plan: &self.plan,
            shard: &self.shards[position],
            first_index: self.first_indexes[position],
        }
    }

    /// The key of a part by its file name.
    pub(super) fn part_key(&self, name: &str) -> String {
        format!("{}/{name}", layout::parts_folder(&self.plan.run))
    }
}
