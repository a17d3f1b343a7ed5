//! Where the time of a device goes, launch by launch, by events on its stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, sys::CUevent_flags};

use super::driver;

/// Launches between two marks.
#[derive(Default)]
pub struct Profile(Vec<(String, CudaEvent, CudaEvent)>);

/// The time one kind of work took.
#[derive(Debug, Clone)]
pub struct Spent {
    /// The kernel, or the product with its sizes.
    pub name: String,
    /// Launches of it.
    pub launches: u64,
    /// On the device.
    pub milliseconds: f64,
}

/// A moment on the stream.
pub fn mark(stream: &Arc<CudaStream>) -> Result<CudaEvent> {
    stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(driver)
}

impl Profile {
    /// One launch.
    pub fn add(&mut self, name: String, start: CudaEvent, end: CudaEvent) {
        self.0.push((name, start, end));
    }

    /// Sums by name, the largest first. All events have passed.
    pub fn sum(self) -> Result<Vec<Spent>> {
        let mut sums: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        for (name, start, end) in self.0 {
            let sum = sums.entry(name).or_default();
            sum.0 += 1;
            sum.1 += f64::from(start.elapsed_ms(&end).map_err(driver)?);
        }
        let mut spent: Vec<Spent> = sums
            .into_iter()
            .map(|(name, (launches, milliseconds))| Spent { name, launches, milliseconds })
            .collect();
        spent.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
        Ok(spent)
    }
}
