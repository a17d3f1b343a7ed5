//! Waiting for a condition: never for a time.

use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine: reaching it is a failure.
const LONGEST: Duration = Duration::from_secs(120);

/// Looks again and again until `condition` gives a value.
///
/// # Panics
/// When it has not after two minutes.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < LONGEST, "waited in vain for {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
