//! Where the in-memory queue takes its time from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::ServerTime;
use super::transition::microseconds;

/// A clock that never runs backwards.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's: the time of day when it was made, carried on by the monotonic clock, so that a
    /// step of the time of day neither expires a lease nor prolongs it.
    System {
        /// The time of day when the clock was made.
        start: ServerTime,
        /// The same moment on the monotonic clock.
        since: Instant,
    },
    /// One that a test moves. Clones share the time.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::System { start: ServerTime(microseconds(start)), since: Instant::now() }
    }

    /// A clock that stands at `start` until [`Clock::advance`].
    pub fn manual(start: ServerTime) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(start.0)))
    }

    /// The time.
    pub fn now(&self) -> ServerTime {
        match self {
            Self::System { start, since } => {
                ServerTime(start.0.saturating_add(microseconds(since.elapsed())))
            }
            Self::Manual(time) => ServerTime(time.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the machine's cannot be moved and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(time) = self {
            time.fetch_add(microseconds(by), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_is_shared() {
        let clock = Clock::manual(ServerTime(5));
        let other = clock.clone();
        other.advance(Duration::from_micros(3));
        assert_eq!(clock.now(), ServerTime(8));
    }

    #[test]
    fn the_machines_clock_runs_and_cannot_be_moved() {
        let clock = Clock::system();
        let before = clock.now();
        clock.advance(Duration::from_hours(24));
        let after = clock.now();
        assert!(before <= after && after.0 - before.0 < 86_400_000_000);
    }
}
