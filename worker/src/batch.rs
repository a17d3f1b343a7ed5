//! Cuts a shard into batches: a pure function of the items' sizes and the budget
//! ([`shared::laws::Law::SameBytesAgain`]).
//!
//! Batches are contiguous in input order. Tokens lie flat without padding, so sorting by length would
//! gain nothing, and a contiguous batch names the items in flight by a range.

use std::ops::Range;

use crate::embedder::{BatchBudget, PreparedItem};

/// What an item costs.
fn cost(item: &PreparedItem) -> usize {
    item.token_ids.len() + item.patches()
}

/// Ranges of items, in order and without gaps. An item that exceeds the budget alone is a batch of
/// its own.
pub fn batches(items: &[PreparedItem], budget: BatchBudget) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut first, mut sum) = (0, 0);
    for (position, item) in items.iter().enumerate() {
        let cost = cost(item);
        if position > first && sum + cost > budget.0 {
            batches.push(first..position);
            (first, sum) = (position, 0);
        }
        sum += cost;
    }
    if first < items.len() {
        batches.push(first..items.len());
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(tokens: usize) -> PreparedItem {
        PreparedItem { token_ids: vec![0; tokens], images: Vec::new() }
    }

    #[test]
    fn batches_cover_all_items_within_the_budget() {
        let items: Vec<_> = [5, 5, 5, 30, 1, 1, 9].map(item).into_iter().collect();
        assert_eq!(batches(&items, BatchBudget(10)), vec![0..2, 2..3, 3..4, 4..6, 6..7]);
        assert_eq!(batches(&[], BatchBudget(10)), Vec::<Range<usize>>::new());
        assert_eq!(batches(&items, BatchBudget(1000)), vec![0..7]);
    }
}
