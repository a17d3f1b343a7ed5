//! How long calls took, and what is said of them.

use std::time::Duration;

/// Durations of one kind of call.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    microseconds: Vec<u64>,
}

impl Samples {
    /// Notes one.
    pub fn note(&mut self, duration: Duration) {
        self.microseconds.push(duration.as_micros() as u64);
    }

    /// Takes in those of another.
    pub fn merge(&mut self, other: Self) {
        self.microseconds.extend(other.microseconds);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.microseconds.len()
    }

    /// The smallest duration that so many percent of the calls did not pass, in milliseconds (nearest
    /// rank); NaN where there was no call.
    pub fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.microseconds.clone();
        sorted.sort_unstable();
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |microseconds| *microseconds as f64 / 1e3)
    }
}

/// The median; the lower one of two. NaN counts as larger than any number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut samples = Samples::default();
        assert!(samples.percentile(50.0).is_nan());
        for milliseconds in (1..=200).rev() {
            samples.note(Duration::from_millis(milliseconds));
        }
        let of = |percent| samples.percentile(percent);
        assert_eq!((of(50.0), of(99.0), of(100.0)), (100.0, 198.0, 200.0));
    }

    #[test]
    fn the_median_leaves_one_odd_value_out() {
        assert_eq!((median(&[3.0, 900.0, 2.0]), median(&[4.0, 2.0])), (3.0, 2.0));
    }
}
