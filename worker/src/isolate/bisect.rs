//! Which range to try next, and which items are guilty.

use std::collections::BTreeMap;

use shared::queue::ItemRange;

use super::LeftOut;
use super::child::Death;

/// Deaths of a child on this item alone, after which the item is guilty; all but the first in a child that
/// had done nothing else.
const DEATHS_ALONE: u32 = 2;

/// Steps up to this long are cut into single items.
const SHORT: u32 = 64;

/// Guilty items beyond this many, and beyond half of what was suspected, are a machine that kills.
const MOST_GUILTY: usize = 3;

/// A search in progress.
#[derive(Debug)]
pub struct Bisection {
    /// Ranges to try, the next one last.
    waiting: Vec<ItemRange>,
    suspected: ItemRange,
    alone: BTreeMap<u32, u32>,
    guilty: BTreeMap<u32, Death>,
    deaths: u32,
}

impl Bisection {
    /// Of these items.
    pub fn new(suspected: ItemRange) -> Self {
        let mut search = Self {
            waiting: Vec::new(),
            suspected,
            alone: BTreeMap::new(),
            guilty: BTreeMap::new(),
            deaths: 0,
        };
        search.push(suspected.first, suspected.end);
        search
    }

    /// The range to try; `None` at the end.
    pub fn next(&self) -> Option<ItemRange> {
        self.waiting.last().copied()
    }

    /// Nothing in that range kills.
    pub fn survived(&mut self) {
        self.waiting.pop();
    }

    /// A child died on that range while it was busy with `step`.
    pub fn died(&mut self, step: ItemRange, death: Death) {
        self.deaths += 1;
        let Some(range) = self.waiting.pop() else { return };
        if range.end - range.first == 1 {
            let deaths = self.alone.entry(range.first).or_default();
            *deaths += 1;
            if *deaths >= DEATHS_ALONE {
                self.guilty.insert(range.first, death);
            } else {
                self.waiting.push(range);
            }
            return;
        }
        // A child that named no step of the range, or a wrong one, may have died anywhere in it.
        let inside = range.first <= step.first && step.first < step.end && step.end <= range.end;
        let step = if inside { step } else { range };
        self.push(step.end, range.end);
        if step.end - step.first <= SHORT {
            for item in (step.first..step.end).rev() {
                self.push(item, item + 1);
            }
        } else {
            let middle = step.first + (step.end - step.first) / 2;
            self.push(middle, step.end);
            self.push(step.first, middle);
        }
        self.push(range.first, step.first);
    }

    /// Children that died so far.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Whether so many items kill that the machine does.
    pub fn blames_too_many(&self) -> bool {
        let suspected = (self.suspected.end - self.suspected.first) as usize;
        self.guilty.len() > MOST_GUILTY && self.guilty.len() > suspected / 2
    }

    /// The items that kill, ascending.
    pub fn into_guilty(self) -> Vec<LeftOut> {
        let left_out = |(item, death): (u32, Death)| LeftOut {
            item,
            kind: death.kind(),
            reason: format!("{death}, each of {DEATHS_ALONE} times it was tried alone"),
        };
        self.guilty.into_iter().map(left_out).collect()
    }

    fn push(&mut self, first: u32, end: u32) {
        if first < end {
            self.waiting.push(ItemRange { first, end });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u32, end: u32) -> ItemRange {
        ItemRange { first, end }
    }

    /// Children that prepare item by item, then embed in batches, and die of the items in `killers`.
    fn search(suspected: ItemRange, batch: u32, killers: &[u32], dies_early: bool) -> (Vec<u32>, u32) {
        let mut bisection = Bisection::new(suspected);
        while let Some(tried) = bisection.next() {
            let killer = killers.iter().find(|item| (tried.first..tried.end).contains(item));
            match killer {
                None => bisection.survived(),
                Some(item) if dies_early => {
                    bisection.died(range(*item, item + 1), Death::Hang);
                }
                Some(item) => {
                    let first = tried.first + (item - tried.first) / batch * batch;
                    bisection.died(range(first, (first + batch).min(tried.end)), Death::Hang);
                }
            }
        }
        let deaths = bisection.deaths();
        (bisection.into_guilty().iter().map(|left_out| left_out.item).collect(), deaths)
    }

    proptest! {
        #[test]
        fn exactly_the_killers_are_guilty(
            killers in prop::collection::btree_set(0u32..512, 0..4),
            batch in 1u32..70,
            dies_early in any::<bool>(),
        ) {
            let killers: Vec<u32> = killers.into_iter().collect();
            let (guilty, deaths) = search(range(0, 512), batch, &killers, dies_early);
            prop_assert!(deaths <= 6 * killers.len() as u32);
            prop_assert_eq!(guilty, killers);
        }
    }

    #[test]
    fn a_death_by_chance_and_a_death_in_company_convict_nobody() {
        let mut bisection = Bisection::new(range(4, 6));
        bisection.died(range(4, 6), Death::Hang);
        assert_eq!(bisection.next(), Some(range(4, 5)));
        bisection.died(range(4, 5), Death::Hang);
        assert_eq!(bisection.next(), Some(range(4, 5)), "once may be chance");
        bisection.survived();
        assert_eq!(bisection.next(), Some(range(5, 6)));
        bisection.survived();
        assert_eq!(bisection.next(), None);
        assert!(bisection.into_guilty().is_empty());
    }

    #[test]
    fn a_machine_that_kills_everything_is_blamed_itself() {
        let mut bisection = Bisection::new(range(0, 8));
        while let Some(tried) = bisection.next() {
            bisection.died(tried, Death::Hang);
        }
        assert!(bisection.blames_too_many());
    }

    #[test]
    fn a_step_outside_the_range_is_not_believed() {
        let mut bisection = Bisection::new(range(8, 12));
        bisection.died(range(0, 2), Death::Hang);
        assert_eq!(bisection.next(), Some(range(8, 9)));
    }
}
