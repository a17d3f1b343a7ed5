//! A run watched over time: one [`Watched`] every few seconds, which the terminal and the dashboard show.
//!
//! | module | what lies there |
//! |---|---|
//! | [`feed`] | the task that looks again and again, and hands out what it saw |
//! | [`history`] | rates over time, of the run and of each worker |
//! | [`cells`] | the shards of a run as a few hundred cells |
//! | [`done`] | which shards have a part, listed seldom |
//! | [`condition`] | what a worker is up to |
//! | [`control`] | pause, unpause and drain |

pub mod cells;
pub mod condition;
pub mod control;
pub mod done;
pub mod feed;
pub mod history;
#[cfg(test)]
pub(crate) mod sample;

use std::collections::HashMap;

use jiff::Timestamp;
use shared::ids::WorkerId;
use shared::queue::WorkerSnapshot;

use crate::status::{Source, Status};
use cells::Cells;
use condition::Condition;
use history::Rate;

/// What somebody who watches a run sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// When the status was true.
    pub at: Timestamp,
    /// The run as it stood.
    pub status: Status,
    /// Why the status is an old one, where the last look failed.
    pub trouble: Option<String>,
    /// Items a second over time, since the watching began.
    pub rates: Vec<Rate>,
    /// Items a second of each worker over the last minute.
    pub worker_rates: HashMap<WorkerId, f64>,
    /// The shards.
    pub cells: Cells,
}

/// Failed shards that the queue only counts: it names a hundred.
pub fn unnamed_failures(status: &Status) -> u64 {
    match status.source {
        Source::Queue => {
            (status.shards.dead + status.shards.delayed).saturating_sub(status.failures.len() as u64)
        }
        Source::Store => 0,
    }
}

impl Watched {
    /// Items a second of a worker; nothing of one that is not heard, whose last minute is over.
    pub fn rate_of(&self, condition: Condition, worker: &WorkerSnapshot) -> Option<f64> {
        self.worker_rates.get(&worker.id).copied().filter(|_| condition.is_heard())
    }
}
