//! Memory of processes and keys of the queue over the time of a soak.

use std::fmt;
use std::time::{Duration, Instant};

use super::Fleet;
use crate::program::Running;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(2);
/// What memory may grow by from the second quarter of a soak to the last: noise of an allocator.
const NOISE: f64 = 6.0;
/// Keys of a run beside those of its shards and workers.
const OTHER_KEYS: u64 = 12;

/// One moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// MiB of the steady worker that holds the most.
    worker: f64,
    /// MiB of `coordinator status --watch`.
    coordinator: f64,
    /// MiB of redis-server.
    redis: f64,
    keys: u64,
}

/// Memory of one process at a moment.
type Of = fn(&Moment) -> f64;

/// All moments.
#[derive(Debug, Default)]
pub struct Measurements {
    last: Option<Instant>,
    moments: Vec<Moment>,
}

impl Measurements {
    /// Measures, if it is time, and reads the account on that occasion.
    pub fn take(&mut self, fleet: &mut Fleet, watch: &Running) {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let redis = fleet.world.redis.borrow();
        let Ok(keys) = redis.cli(&["DBSIZE"]).parse() else { return };
        fleet.ledger.follow(&redis, &fleet.world.run_id());
        let workers = fleet.steady.iter().map(|worker| resident(worker.process.id()));
        self.moments.push(Moment {
            worker: workers.fold(0.0, f64::max),
            coordinator: resident(watch.id()),
            redis: redis.process().map_or(0.0, resident),
            keys,
        });
    }

    /// Asserts that nothing grew.
    ///
    /// # Panics
    /// Where it did.
    pub fn check(&self, shards: u64, workers: u64) {
        let most = self.moments.iter().map(|moment| moment.keys).max().unwrap_or(0);
        // Each worker has a hash, and a set while it holds something.
        let bound = shards + 2 * workers + OTHER_KEYS;
        assert!(most <= bound, "{most} keys, where {bound} are accounted for");
        // In a short soak everything is still warming up.
        if self.moments.len() >= 100 {
            for (name, of) in Self::PROCESSES {
                let (early, late) = (self.quarter(1, of), self.quarter(3, of));
                assert!(late <= early * 1.1 + NOISE, "{name} grew from {early:.1} to {late:.1} MiB");
            }
        }
    }

    const PROCESSES: [(&'static str, Of); 3] = [
        ("a worker", |moment| moment.worker),
        ("coordinator status --watch", |moment| moment.coordinator),
        ("redis-server", |moment| moment.redis),
    ];

    /// The median of a quarter of the time.
    fn quarter(&self, number: usize, of: Of) -> f64 {
        let quarter = self.moments.len() / 4;
        let mut values: Vec<f64> =
            self.moments.iter().skip(number * quarter).take(quarter.max(1)).map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    }
}

impl fmt::Display for Measurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| resident memory, MiB | 1st quarter | 2nd | 3rd | 4th |\n|---|---|---|---|---|")?;
        for (name, of) in Self::PROCESSES {
            write!(f, "| {name} |")?;
            for number in 0..4 {
                write!(f, " {:.1} |", self.quarter(number, of))?;
            }
            writeln!(f)?;
        }
        let most = self.moments.iter().map(|moment| moment.keys).max().unwrap_or(0);
        write!(f, "\nAt most {most} keys in Redis.")
    }
}

/// Resident memory of a process in MiB; 0 where it is gone.
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
