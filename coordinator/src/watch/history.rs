//! Rates over time, from what successive looks counted. Memory is bounded however long a run takes: when there are too
//! many points, every second one goes.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use shared::ids::WorkerId;
use shared::queue::WorkerSnapshot;

use crate::status::{Source, Status};

/// The most points kept of the run; with twice as many every second one goes.
const POINTS: usize = 240;

/// Seconds between two points at least: somebody who comes makes a look out of turn.
const LEAST_STEP: f64 = 1.0;

/// A point of the run's rate looks back this many seconds: workers report a few times a minute, in lumps.
const RUN_WINDOW: f64 = 30.0;

/// The same for one worker.
const WORKER_WINDOW: f64 = 60.0;

/// How many items were settled at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    /// Seconds since the Unix epoch.
    at: f64,
    items: u64,
}

/// The rate of a run at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// Items a second.
    pub items_per_second: f64,
}

/// What was counted since the watching began.
#[derive(Debug, Clone, Default)]
pub struct History {
    points: Vec<Point>,
    latest: Option<Point>,
    /// Seconds between two points kept, [`LEAST_STEP`] or more.
    step: f64,
    workers: HashMap<WorkerId, VecDeque<Point>>,
}

impl History {
    /// Takes a status in, seen at `at` (seconds since the Unix epoch). Only the queue's counts: the store does not
    /// know what is in flight, and a change between the two would look like a rate.
    pub fn record(&mut self, at: f64, status: &Status) {
        if status.source != Source::Queue {
            return;
        }
        match self.latest.map(|latest| at.total_cmp(&latest.at)) {
            None | Some(Ordering::Greater) => {}
            Some(Ordering::Equal) => return,
            // The clock was set back: how long ago the earlier points are is not known any more.
            Some(Ordering::Less) => *self = Self::default(),
        }
        let items = status.items_done + status.items_failed + status.items_in_flight;
        let point = Point { at, items };
        self.latest = Some(point);
        if self.points.last().is_none_or(|last| at - last.at >= self.step.max(LEAST_STEP)) {
            self.points.push(point);
        }
        if self.points.len() >= 2 * POINTS {
            self.thin_out();
        }
        self.record_workers(at, &status.workers);
    }

    fn thin_out(&mut self) {
        let mut keep = false;
        self.points.retain(|_| {
            keep = !keep;
            keep
        });
        let span = self.points.last().map_or(0.0, |last| last.at) - self.points[0].at;
        self.step = span / (self.points.len().max(2) - 1) as f64;
    }

    fn record_workers(&mut self, at: f64, workers: &[WorkerSnapshot]) {
        let mut seen = HashMap::with_capacity(workers.len());
        for worker in workers {
            let mut points = self.workers.remove(&worker.id).unwrap_or_default();
            points.push_back(Point { at, items: worker.items_done + worker.items_in_flight });
            // One point at the window's edge or before it stays.
            while points.get(1).is_some_and(|second| second.at <= at - WORKER_WINDOW) {
                points.pop_front();
            }
            seen.insert(worker.id.clone(), points);
        }
        self.workers = seen;
    }

    /// Items a second at each point but the first, the oldest first.
    pub fn rates(&self) -> Vec<Rate> {
        let newer = self.latest.filter(|latest| self.points.last().is_some_and(|last| last.at < latest.at));
        let points: Vec<Point> = self.points.iter().copied().chain(newer).collect();
        let mut from = 0;
        let mut rates = Vec::with_capacity(points.len());
        for (index, point) in points.iter().enumerate().skip(1) {
            while from + 1 < index && points[from + 1].at <= point.at - RUN_WINDOW {
                from += 1;
            }
            rates.push(Rate { at: point.at, items_per_second: rate_between(points[from], *point) });
        }
        rates
    }

    /// Items a second of each worker that was seen twice.
    pub fn worker_rates(&self) -> HashMap<WorkerId, f64> {
        let rate = |points: &VecDeque<Point>| match (points.front(), points.back()) {
            (Some(first), Some(last)) if first.at < last.at => Some(rate_between(*first, *last)),
            _ => None,
        };
        self.workers.iter().filter_map(|(id, points)| Some((id.clone(), rate(points)?))).collect()
    }
}

/// Not below 0: what a lost lease had in flight is counted back.
fn rate_between(earlier: Point, later: Point) -> f64 {
    later.items.saturating_sub(earlier.items) as f64 / (later.at - earlier.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;

    fn at(items: u64) -> Status {
        Status { items_done: items, items_failed: 0, items_in_flight: 0, ..sample::status() }
    }

    #[test]
    fn a_steady_run_has_a_steady_rate_however_long_it_takes() {
        let mut history = History::default();
        for look in 0..10_000 {
            history.record(f64::from(look) * 2.0, &at(u64::from(look as u32) * 10));
        }
        let rates = history.rates();
        assert!((200..=2 * POINTS).contains(&rates.len()), "{} points", rates.len());
        assert!(rates.iter().all(|rate| (rate.items_per_second - 5.0).abs() < 1e-9));
        assert!((rates.last().unwrap().at - 19_998.0).abs() < 1e-9, "the last look is there");
        assert!(rates[0].at < 200.0, "and the beginning");
    }

    #[test]
    fn lumps_are_spread_over_the_window_and_a_loss_is_no_negative_rate() {
        let mut history = History::default();
        for (second, items) in [(0.0, 0), (10.0, 300), (20.0, 300), (30.0, 300), (40.0, 0), (50.0, 0)] {
            history.record(second, &at(items));
        }
        let rates: Vec<f64> = history.rates().iter().map(|rate| rate.items_per_second).collect();
        assert_eq!(rates, [30.0, 15.0, 10.0, 0.0, 0.0]);
    }

    #[test]
    fn the_store_tells_no_rate() {
        let mut history = History::default();
        history.record(0.0, &at(100));
        history.record(10.0, &Status { source: Source::Store, ..at(0) });
        history.record(20.0, &at(200));
        assert_eq!(history.rates().len(), 1);
        assert!((history.rates()[0].items_per_second - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let mut history = History::default();
        let mut status = at(0);
        let id = status.workers[0].id.clone();
        for second in [5_000.0, 5_010.0, 1_000.0, 1_010.0, 1_010.0] {
            status.items_done += 20;
            status.workers[0].items_done += 20;
            history.record(second, &status);
        }
        assert_eq!(history.rates(), [Rate { at: 1_010.0, items_per_second: 2.0 }]);
        assert!((history.worker_rates()[&id] - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_workers_rate_is_that_of_its_last_minute() {
        let mut history = History::default();
        let mut status = sample::status();
        let id = status.workers[0].id.clone();
        for look in 0..100_u32 {
            let worker = &mut status.workers[0];
            worker.items_done += if look < 50 { 100 } else { 4 };
            history.record(f64::from(look) * 2.0, &status);
        }
        assert!((history.worker_rates()[&id] - 2.0).abs() < 1e-9);
        status.workers.clear();
        history.record(1000.0, &status);
        assert!(history.worker_rates().is_empty(), "one that is gone takes no memory");
    }
}
