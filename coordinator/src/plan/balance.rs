//! How items are cut into shards: the same number in each, or the same predicted cost.
//!
//! Shards are contiguous in input order either way, and the cut is a pure function of the costs.

/// How shards are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The same number of items.
    #[default]
    Count,
    /// The same predicted cost; the number of items a shard is kept on average.
    Cost,
}

/// A shard has at most this many times the average number of items, however little they cost: what a worker
/// holds in memory follows from it ([`shared::laws::Law::MemoryIsBounded`]).
const MOST_TIMES_AVERAGE: u64 = 4;

/// Items of each shard of the same cost, `average` on average. An item belongs to the shard that the middle of
/// its cost falls into.
pub(super) fn by_cost(costs: &[u32], average: u64) -> Vec<u64> {
    let shards = (costs.len() as u64).div_ceil(average.max(1));
    let total: u128 = costs.iter().map(|cost| u128::from(*cost)).sum();
    let most = average.saturating_mul(MOST_TIMES_AVERAGE);
    let mut lengths = Vec::new();
    let (mut before, mut current, mut length) = (0_u128, 0, 0);
    for cost in costs {
        let middle = 2 * before + u128::from(*cost);
        before += u128::from(*cost);
        let shard = (middle * u128::from(shards) / (2 * total).max(1)) as u64;
        if length > 0 && (shard > current || length == most) {
            lengths.push(length);
            length = 0;
        }
        current = current.max(shard);
        length += 1;
    }
    lengths.extend((length > 0).then_some(length));
    lengths
}

/// Items of each shard of one number.
pub(super) fn by_count(items: u64, size: u64) -> Vec<u64> {
    let size = size.max(1);
    (0..items.div_ceil(size)).map(|shard| size.min(items - shard * size)).collect()
}

/// How far apart the predicted costs of a run's shards are, as multiples of their mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A twentieth of the shards cost no more than this.
    pub p5: f64,
    /// Half of them.
    pub p50: f64,
    /// All but a twentieth.
    pub p95: f64,
    /// The costliest.
    pub most: f64,
}

impl Spread {
    /// The spread of shards of these lengths. There is at least one.
    pub(super) fn of(costs: &[u32], lengths: &[u64]) -> Self {
        let mut rest = costs.iter();
        let mut shards: Vec<u64> = lengths
            .iter()
            .map(|length| rest.by_ref().take(*length as usize).map(|cost| u64::from(*cost)).sum())
            .collect();
        shards.sort_unstable();
        let mean = shards.iter().map(|cost| *cost as f64).sum::<f64>() / shards.len().max(1) as f64;
        let at = |share: f64| {
            let position = (share * (shards.len().max(1) - 1) as f64).round() as usize;
            shards.get(position).map_or(1.0, |cost| *cost as f64 / mean)
        };
        Self { p5: at(0.05), p50: at(0.5), p95: at(0.95), most: at(1.0) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p5, p50, p95, most } = self;
        write!(f, "p5 {p5:.2}, p50 {p50:.2}, p95 {p95:.2}, most {most:.2} of the mean")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs that swing slowly, as exams with and without figures do.
    fn costs(items: u32) -> Vec<u32> {
        (0..items).map(|item| 1000 + item / 700 % 3 * 2000 + item * 7919 % 500).collect()
    }

    #[test]
    fn costs_are_even_and_the_number_of_shards_is_kept() {
        let costs = costs(20_000);
        let lengths = by_cost(&costs, 512);
        assert_eq!((lengths.len(), lengths.iter().sum::<u64>()), (40, 20_000));
        let (before, after) = (Spread::of(&costs, &by_count(20_000, 512)), Spread::of(&costs, &lengths));
        assert!(after.most < 1.02 && after.p5 > 0.98, "{after}");
        assert!(before.most > 1.2, "{before}");
    }

    #[test]
    fn equal_costs_are_cut_by_count() {
        for (items, size) in [(1, 512), (512, 512), (1024, 512), (4096, 16), (30, 7)] {
            let even = by_cost(&vec![5; items], size);
            assert_eq!(even.iter().sum::<u64>(), items as u64);
            assert_eq!(even.len(), by_count(items as u64, size).len());
            assert!(even.iter().max().unwrap() - even.iter().min().unwrap() <= 1, "{even:?}");
        }
        assert_eq!(by_cost(&[5; 1024], 512), by_count(1024, 512));
    }

    #[test]
    fn no_shard_is_empty_or_too_long_whatever_things_cost() {
        let giant = [vec![1; 5000], vec![u32::MAX], vec![1; 5000]].concat();
        let lengths = by_cost(&giant, 100);
        assert_eq!(lengths.iter().sum::<u64>(), 10_001);
        assert!(lengths.iter().all(|length| (1..=400).contains(length)), "{lengths:?}");
        assert_eq!(by_cost(&[], 5), Vec::<u64>::new());
        assert_eq!(by_cost(&[u32::MAX; 3], 1), [1, 1, 1]);
    }
}
