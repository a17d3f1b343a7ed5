//! The share of the time that the devices work.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts from the first batch on.
#[derive(Debug, Default)]
pub struct BusyMeter(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    devices: u32,
    began: Option<Instant>,
    busy: Duration,
}

impl BusyMeter {
    /// Of so many devices.
    pub fn new(devices: usize) -> Self {
        Self(Mutex::new(Count { devices: devices as u32, ..Count::default() }))
    }

    /// A batch begins.
    pub fn begin(&self) {
        self.lock().began.get_or_insert_with(Instant::now);
    }

    /// A device worked for so long.
    pub fn add(&self, busy: Duration) {
        self.lock().busy += busy;
    }

    /// Busy time over time, between 0 and 1; `None` before the first batch.
    pub fn share(&self) -> Option<f64> {
        let count = self.lock();
        let seconds = count.began?.elapsed().as_secs_f64() * f64::from(count.devices);
        (seconds > 0.0).then(|| (count.busy.as_secs_f64() / seconds).min(1.0))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_all_devices_from_the_first_batch_on() {
        let meter = BusyMeter::new(2);
        assert_eq!(meter.share(), None);
        meter.begin();
        assert!(meter.share().unwrap() < 0.5);
        meter.add(Duration::from_secs(1_000_000));
        assert_eq!(meter.share(), Some(1.0));
    }
}
