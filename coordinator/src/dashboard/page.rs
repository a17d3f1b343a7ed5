//! What the page is sent: a [`Watched`] without what it does not show.

use serde::Serialize;
use shared::ids::RunId;
use shared::queue::{ShardCounts, ShardFailure};

use crate::fleet::view::Cost;
use crate::record::RefusedPart;
use crate::status::words::{Stage, percent};
use crate::status::{Source, Status};
use crate::watch::Watched;
use crate::watch::cells::Cells;
use crate::watch::condition::{Condition, conditions};

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
    failures: &'a [ShardFailure],
    refused_parts: &'a [RefusedPart],
    cost: Option<&'a Cost>,
    notes: &'a [String],
    /// Why this is an old status, where the last look failed.
    trouble: Option<&'a str>,
    takes_orders: bool,
}

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
    pub fn of(watched: &'a Watched, takes_orders: bool) -> Self {
        let status = &watched.status;
        let stage = Stage::of(status);
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
            workers: workers(watched, status),
            workers_total: status.workers.len(),
            failures: &status.failures,
            refused_parts: &status.refused_parts[..status.refused_parts.len().min(MOST_ROWS)],
            cost: status.cost.as_ref(),
            notes: &status.notes,
            trouble: watched.trouble.as_deref(),
            takes_orders,
        }
    }
}

fn workers<'a>(watched: &Watched, status: &'a Status) -> Vec<Worker<'a>> {
    let of = |(condition, worker): (Condition, &'a shared::queue::WorkerSnapshot)| Worker {
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
    conditions(&status.workers, &status.leases).into_iter().take(MOST_ROWS).map(of).collect()
}

/// Two digits are what is shown.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}
