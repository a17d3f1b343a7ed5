//! How often a key may call what.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::route::Endpoint;

/// What is limited, and by how much at full pace.
fn limit(endpoint: &Endpoint) -> Option<(&'static str, usize, Duration)> {
    Some(match endpoint {
        Endpoint::Search | Endpoint::SearchAsks => ("search", 10, Duration::from_secs(60)),
        Endpoint::Create(_) => ("create", 1, Duration::from_millis(4500)),
        Endpoint::Bid(_) => ("bid", 1, Duration::from_millis(5500)),
        Endpoint::Destroy(_) => ("destroy", 1, Duration::from_secs(3)),
        Endpoint::One(_) => ("one", 1, Duration::from_secs(2)),
        Endpoint::List => ("list", 1, Duration::from_secs(1)),
        _ => return None,
    })
}

/// The calls of late, by key.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Real time over full pace: 1.0 is the vendor's own.
    factor: f64,
    calls: HashMap<(String, &'static str), VecDeque<Duration>>,
}

impl Pace {
    /// All limits times a factor; 0 limits nothing.
    pub fn new(factor: f64) -> Self {
        Self { factor, calls: HashMap::new() }
    }

    /// Counts a call, or says how long it is too early. One that is too early does not count.
    pub fn call(&mut self, key: &str, endpoint: &Endpoint, now: Duration) -> Result<(), Duration> {
        let Some((name, calls, window)) = limit(endpoint) else { return Ok(()) };
        let window = window.mul_f64(self.factor);
        let past = self.calls.entry((key.to_owned(), name)).or_default();
        past.retain(|at| *at + window > now);
        match past.front() {
            Some(first) if past.len() >= calls => Err((*first + window).saturating_sub(now)),
            _ => {
                past.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_come_too_early_are_told_how_much() {
        let mut pace = Pace::new(0.1);
        let at = Duration::from_millis;
        assert_eq!(pace.call("k", &Endpoint::Create(1), at(1000)), Ok(()));
        assert_eq!(pace.call("k", &Endpoint::Create(2), at(1400)), Err(at(50)));
        assert_eq!(pace.call("other", &Endpoint::Create(2), at(1400)), Ok(()));
        assert_eq!(pace.call("k", &Endpoint::Destroy(2), at(1400)), Ok(()));
        assert_eq!(pace.call("k", &Endpoint::Create(2), at(1450)), Ok(()));
    }

    #[test]
    fn ten_searches_a_minute() {
        let mut pace = Pace::new(1.0);
        let at = Duration::from_secs;
        for second in 0..10 {
            assert_eq!(pace.call("k", &Endpoint::Search, at(second)), Ok(()));
        }
        assert_eq!(pace.call("k", &Endpoint::SearchAsks, at(10)), Err(at(50)));
        assert_eq!(pace.call("k", &Endpoint::Search, at(60)), Ok(()));
    }

    #[test]
    fn nothing_is_limited_without_a_pace() {
        let mut pace = Pace::new(0.0);
        for _ in 0..3 {
            assert_eq!(pace.call("k", &Endpoint::Create(1), Duration::ZERO), Ok(()));
        }
    }
}
