//! What a worker is up to, as far as the queue can tell.

use std::collections::HashSet;

use serde::Serialize;
use shared::ids::WorkerId;
use shared::queue::{LeaseSnapshot, WorkerSnapshot};

/// A worker without a shard that is not heard for so long ended, or its box is gone.
const GONE_AFTER_SECONDS: f64 = 120.0;

/// A worker without a shard asks for one every few seconds: after so many it is silent.
const SILENT_AFTER_SECONDS: f64 = 15.0;

/// What a worker is up to; in the order in which they want to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its machine failed too often.
    Banned,
    /// It should have been heard by now.
    Silent,
    /// It holds shards.
    Working,
    /// It asks for shards.
    Idle,
    /// Not banned, and [gone](is_gone).
    Gone,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Banned, Self::Silent, Self::Working, Self::Idle, Self::Gone];

    /// Whether what it last said of its speed is still true.
    pub fn is_heard(self) -> bool {
        matches!(self, Self::Working | Self::Idle)
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Silent => "silent",
            Self::Working => "working",
            Self::Idle => "idle",
            Self::Gone => "gone",
        }
    }
}

/// Whether a worker is not heard for minutes, with nothing in its hands: it ended, or its box is gone. Those that were
/// banned before are still called that, but are no more there than the others.
pub fn is_gone(worker: &WorkerSnapshot) -> bool {
    worker.leases == 0 && worker.last_seen_seconds > GONE_AFTER_SECONDS
}

/// The workers with what they are up to: those that want to be looked at first, those that are gone last, then by name,
/// so that a row keeps its place from one look to the next.
pub fn conditions<'a>(
    workers: &'a [WorkerSnapshot],
    leases: &[LeaseSnapshot],
) -> Vec<(Condition, &'a WorkerSnapshot)> {
    let overdue: HashSet<&WorkerId> =
        leases.iter().filter(|lease| lease.expires_in_seconds < 0.0).map(|lease| &lease.worker).collect();
    let mut all: Vec<_> =
        workers.iter().map(|worker| (condition(worker, overdue.contains(&worker.id)), worker)).collect();
    let rank =
        |(condition, worker): &(Condition, &'a WorkerSnapshot)| (is_gone(worker), *condition, &worker.id);
    all.sort_by(|left, right| rank(left).cmp(&rank(right)));
    all
}

fn condition(worker: &WorkerSnapshot, overdue: bool) -> Condition {
    let waits = worker.leases == 0;
    if worker.banned {
        Condition::Banned
    } else if is_gone(worker) {
        Condition::Gone
    } else if overdue || (waits && worker.last_seen_seconds > SILENT_AFTER_SECONDS) {
        Condition::Silent
    } else if waits {
        Condition::Idle
    } else {
        Condition::Working
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;

    #[test]
    fn a_worker_is_what_its_leases_and_its_last_word_say() {
        let base = sample::status().workers[0].clone();
        for (leases, seen, overdue, banned, expected) in [
            (2, 40.0, false, false, Condition::Working),
            (2, 70.0, true, false, Condition::Silent),
            (0, 4.0, false, false, Condition::Idle),
            (0, 16.0, false, false, Condition::Silent),
            (0, 121.0, false, false, Condition::Gone),
            (0, 4.0, false, true, Condition::Banned),
            (0, 900.0, false, true, Condition::Banned),
        ] {
            let worker = WorkerSnapshot { leases, last_seen_seconds: seen, banned, ..base.clone() };
            assert_eq!(condition(&worker, overdue), expected, "{leases} leases, seen {seen} s ago");
        }
    }

    #[test]
    fn rows_keep_their_places() {
        let status = sample::status();
        let order = |workers: &[WorkerSnapshot]| -> Vec<String> {
            conditions(workers, &status.leases).iter().map(|(_, worker)| worker.id.to_string()).collect()
        };
        let mut reversed = status.workers.clone();
        reversed.reverse();
        assert_eq!(order(&status.workers), order(&reversed));
    }

    #[test]
    fn a_banned_worker_whose_box_is_gone_stands_at_the_end() {
        let mut status = sample::status();
        let of = |condition| move |(of, _): &(Condition, &WorkerSnapshot)| *of == condition;
        assert_eq!(
            conditions(&status.workers, &status.leases).iter().position(of(Condition::Banned)),
            Some(0)
        );
        status.workers[2].last_seen_seconds = 900.0;
        assert_eq!(
            conditions(&status.workers, &status.leases).iter().position(of(Condition::Banned)),
            Some(2)
        );
    }
}
