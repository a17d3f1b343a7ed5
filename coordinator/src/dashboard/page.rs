//! What the page is sent: a [`Watched`] without what it does not show.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::ids::RunId;
use shared::queue::{ShardCounts, ShardFailure, WorkerSnapshot};

use crate::fleet::view::Cost;
use crate::record::RefusedPart;
use crate::status::Source;
use crate::status::words::{Stage, percent};
use crate::watch::cells::Cells;
use crate::watch::condition::{Condition, conditions};
use crate::watch::{Watched, unnamed_failures};

/// The most workers and refused parts sent: a page of more is not read, and every watcher gets it every two seconds.
const MOST_ROWS: usize = 300;

/// One message to the page.
#[derive(Debug, Serialize)]
pub struct Page<'a> {
    run: &'a RunId,
    model: &'a str,
    dim: u32,
    source: Source,
    stage: Stage,
    /// The stage in words.
    stage_words: &'static str,
    /// Seconds since the Unix epoch.
    at: f64,
    percent: f64,
    items: Items,
    items_per_second: Option<f64>,
    eta_seconds: Option<f64>,
    shards: ShardCounts,
    cells: &'a Cells,
    /// Seconds since the Unix epoch, and items a second.
    rates: Vec<(i64, f64)>,
    workers: Vec<Worker<'a>>,
    workers_total: usize,
    conditions: Counts,
    failures: &'a [ShardFailure],
    /// Failed shards beyond those.
    failures_unnamed: u64,
    refused_parts: &'a [RefusedPart],
    cost: Option<&'a Cost>,
    notes: &'a [String],
    /// Why this is an old status, where the last look failed.
    trouble: Option<&'a str>,
    /// What the one who looks may do.
    #[serde(flatten)]
    rights: Rights,
}

/// What the one who looks may do.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rights {
    /// With the token, to give orders.
    pub takes_orders: bool,
    /// To read without the token, so that a mere link leads somewhere.
    pub reads_freely: bool,
}

/// How many workers are in each condition, of all there are.
type Counts = BTreeMap<&'static str, usize>;

#[derive(Debug, Serialize)]
struct Items {
    total: u64,
    done: u64,
    failed: u64,
    in_flight: u64,
}

#[derive(Debug, Serialize)]
struct Worker<'a> {
    id: &'a str,
    device: &'a str,
    #[serde(rename = "box")]
    of_box: &'a str,
    condition: Condition,
    items_per_second: Option<f64>,
    busy_percent: Option<u8>,
    seen_seconds: f64,
    shards: u64,
    items: u64,
    host_failures: u32,
}

impl<'a> Page<'a> {
    /// Of what was seen.
    pub fn of(watched: &'a Watched, rights: Rights) -> Self {
        let status = &watched.status;
        let stage = Stage::of(status);
        let all = conditions(&status.workers, &status.leases);
        Self {
            run: &status.run,
            model: &status.model,
            dim: status.dim,
            source: status.source,
            stage,
            stage_words: stage.words(),
            at: watched.at.as_millisecond() as f64 / 1e3,
            percent: percent(status),
            items: Items {
                total: status.items_total,
                done: status.items_done,
                failed: status.items_failed,
                in_flight: status.items_in_flight,
            },
            items_per_second: status.items_per_second.map(rounded),
            eta_seconds: status.eta_seconds.map(f64::round),
            shards: status.shards,
            cells: &watched.cells,
            rates: watched
                .rates
                .iter()
                .map(|rate| (rate.at as i64, rounded(rate.items_per_second)))
                .collect(),
            workers_total: all.len(),
            conditions: counts(&all),
            workers: workers(watched, all),
            failures: &status.failures,
            failures_unnamed: unnamed_failures(status),
            refused_parts: &status.refused_parts[..status.refused_parts.len().min(MOST_ROWS)],
            cost: status.cost.as_ref(),
            notes: &status.notes,
            trouble: watched.trouble.as_deref(),
            rights,
        }
    }
}

fn counts(all: &[(Condition, &WorkerSnapshot)]) -> Counts {
    let count = |condition| all.iter().filter(|(of, _)| *of == condition).count();
    Condition::ALL.into_iter().map(|condition| (condition.name(), count(condition))).collect()
}

fn workers<'a>(watched: &Watched, all: Vec<(Condition, &'a WorkerSnapshot)>) -> Vec<Worker<'a>> {
    let of = |(condition, worker): (Condition, &'a WorkerSnapshot)| Worker {
        id: &worker.id.0,
        device: &worker.info.device,
        of_box: &worker.info.instance,
        condition,
        items_per_second: watched.rate_of(condition, worker).map(rounded),
        busy_percent: condition.is_heard().then_some(worker.info.busy_percent).flatten(),
        seen_seconds: worker.last_seen_seconds.max(0.0).round(),
        shards: worker.leases,
        items: worker.items_done + worker.items_in_flight,
        host_failures: worker.host_failures,
    };
    all.into_iter().take(MOST_ROWS).map(of).collect()
}

/// Two digits are what is shown.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use shared::ids::WorkerId;
    use shared::queue::ShardFailure;

    use super::*;
    use crate::status::{Status, sample};
    use crate::watch::sample::watched;

    const RIGHTS: Rights = Rights { takes_orders: false, reads_freely: true };

    fn sent(status: Status) -> serde_json::Value {
        serde_json::to_value(Page::of(&watched(status), RIGHTS)).unwrap()
    }

    #[test]
    fn workers_that_are_not_sent_are_counted() {
        let mut status = sample::status();
        let (working, banned) = (status.workers[0].clone(), status.workers[2].clone());
        let many = |one: &WorkerSnapshot, count: u32, name: &str| -> Vec<WorkerSnapshot> {
            let named =
                |number| WorkerSnapshot { id: WorkerId(format!("{name}-{number:03}")), ..one.clone() };
            (0..count).map(named).collect()
        };
        status.workers = [many(&banned, 250, "banned"), many(&working, 150, "working")].concat();
        let page = sent(status);
        assert_eq!(page["workers"].as_array().unwrap().len(), MOST_ROWS);
        assert_eq!(page["workers_total"], 400);
        assert_eq!(
            (&page["conditions"]["working"], &page["conditions"]["banned"]),
            (&150.into(), &250.into())
        );
        assert_eq!(page["conditions"]["gone"], 0);
    }

    #[test]
    fn failures_that_the_queue_does_not_name_are_counted() {
        let mut status = sample::status();
        assert_eq!(sent(status.clone())["failures_unnamed"], 0);
        (status.shards.dead, status.shards.delayed) = (130, 20);
        let one: ShardFailure = status.failures[0].clone();
        status.failures = vec![one; 100];
        assert_eq!(sent(status.clone())["failures_unnamed"], 50);
        status.source = Source::Store;
        assert_eq!(sent(status)["failures_unnamed"], 0, "the store names none and counts none");
    }

    #[test]
    fn rights_stand_beside_the_rest() {
        let page = sent(sample::status());
        assert_eq!((&page["takes_orders"], &page["reads_freely"]), (&false.into(), &true.into()));
    }
}
