//! A status for Prometheus, in the OpenMetrics text format. `infra/grafana/embed-fleet.json` is a board of these names.
//!
//! Everything is made from what was seen last; nothing is counted here. Items are gauges, since shards that are embedded
//! again are counted back. What a worker embedded starts anew with the queue alone, so that it is a counter.

mod sheet;

use shared::queue::WorkerSnapshot;

use crate::fleet::view::Cost;
use crate::status::words::Stage;
use crate::status::{Source, Status};
use crate::watch::Watched;
use crate::watch::condition::{Condition, conditions, is_gone};
use sheet::{Sheet, labels};

/// What [`render`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a run. Workers that are gone are only counted, so that boxes that come and go do not fill a database.
pub fn render(watched: &Watched) -> String {
    let status = &watched.status;
    let mut sheet = Sheet::default();
    run(&mut sheet, status);
    look(&mut sheet, watched);
    progress(&mut sheet, status);
    let all = conditions(&status.workers, &status.leases);
    let of_condition = |condition: Condition| {
        let count = all.iter().filter(|(of, _)| *of == condition).count();
        (labels([("state", condition.name())]), count as f64)
    };
    sheet.gauges("workers", "Workers by what they are up to", Condition::ALL.map(of_condition));
    let present: Vec<&WorkerSnapshot> =
        all.iter().map(|(_, worker)| *worker).filter(|worker| !is_gone(worker)).collect();
    workers(&mut sheet, &present);
    if let Some(cost) = &status.cost {
        money(&mut sheet, cost);
    }
    sheet.text()
}

fn run(sheet: &mut Sheet, status: &Status) {
    let dim = status.dim.to_string();
    let about = [("run", status.run.as_str()), ("model", &status.model), ("dim", &dim)];
    sheet.info("run", "The run", labels(about));
    let stages = [Stage::Running, Stage::Paused, Stage::Draining, Stage::Finished, Stage::FromStore];
    let is = Stage::of(status);
    let one_hot = stages.map(|stage| (labels([("stage", stage.name())]), f64::from(u8::from(stage == is))));
    sheet.gauges("run_stage", "1 for the stage that the run is in, 0 for the others", one_hot);
    let up = f64::from(u8::from(status.source == Source::Queue));
    sheet.gauge("queue_up", "Whether the queue answered; without it the store tells what is finished", up);
}

fn look(sheet: &mut Sheet, watched: &Watched) {
    let at = watched.at.as_millisecond() as f64 / 1e3;
    sheet.gauge("status_timestamp_seconds", "When the run stood so, since the Unix epoch", at);
    let stale = f64::from(u8::from(watched.trouble.is_some()));
    sheet.gauge(
        "status_stale",
        "1 where the last look failed or is slow: all of this is what an older one saw",
        stale,
    );
}

fn progress(sheet: &mut Sheet, status: &Status) {
    let items = [("done", status.items_done), ("failed", status.items_failed)];
    sheet.gauges(
        "items",
        "Items in finished shards: with a vector, or failed",
        items.map(|(state, count)| (labels([("state", state)]), count as f64)),
    );
    sheet.gauge("planned_items", "Items of the run", status.items_total as f64);
    sheet.gauge("in_flight_items", "Items embedded in shards still held", status.items_in_flight as f64);
    let counts = status.shards;
    let shards = [
        ("pending", counts.pending),
        ("leased", counts.leased),
        ("delayed", counts.delayed),
        ("done", counts.done),
        ("dead", counts.dead),
    ];
    sheet.gauges(
        "shards",
        "Shards by state",
        shards.map(|(state, count)| (labels([("state", state)]), count as f64)),
    );
    sheet.gauge("refused_parts", "Objects that are no valid parts", status.refused_parts.len() as f64);
    if let Some(rate) = status.items_per_second {
        sheet.gauge("items_per_second", "Items a second over the last minutes", rate);
    }
    if let Some(left) = status.eta_seconds {
        sheet.gauge("time_left_seconds", "Time to the end at the rate of the last minutes", left);
    }
}

fn workers(sheet: &mut Sheet, workers: &[&WorkerSnapshot]) {
    let of = |worker: &WorkerSnapshot| labels([("worker", worker.id.0.as_str())]);
    let each =
        |value: fn(&WorkerSnapshot) -> f64| workers.iter().map(move |worker| (of(worker), value(worker)));
    for worker in workers {
        let info = &worker.info;
        let about = [
            ("worker", worker.id.0.as_str()),
            ("device", &info.device),
            ("host", &info.host),
            ("box", &info.instance),
            ("version", &info.version),
        ];
        sheet.info("worker", "A worker", labels(about));
    }
    let seen = "Since a worker's last claim or beat";
    sheet.gauges("worker_last_seen_seconds", seen, each(|worker| worker.last_seen_seconds));
    let items = workers.iter().map(|worker| (of(worker), worker.items_done));
    sheet.counters("worker_items", "Items that a worker embedded in finished shards", items);
    let in_flight = "Items that a worker embedded in shards it still holds";
    sheet.gauges("worker_in_flight_items", in_flight, each(|worker| worker.items_in_flight as f64));
    sheet.gauges("worker_leases", "Shards that a worker holds", each(|worker| worker.leases as f64));
    let failures = "Failures that were the fault of a worker's machine";
    sheet.gauges("worker_host_failures", failures, each(|worker| f64::from(worker.host_failures)));
    let busy = workers.iter().filter_map(|worker| {
        worker.info.busy_percent.map(|percent| (of(worker), f64::from(percent) / 100.0))
    });
    sheet.gauges("worker_busy_ratio", "The share of the time that a worker's devices work", busy);
}

fn money(sheet: &mut Sheet, cost: &Cost) {
    sheet.gauge("cost_dollars", "What rented boxes have cost by our own account", cost.so_far.0);
    sheet.gauge("cost_at_most_dollars", "What no bill exceeds by now", cost.at_most.0);
    sheet.gauge("cost_dollars_per_hour", "What an hour of all boxes costs", cost.an_hour.0);
    let optional = [
        ("cost_billed_dollars", "What the market billed, once the fleet has ended", cost.billed),
        ("cost_projected_dollars", "What they will have cost at the end, at today's rate", cost.projected),
        ("cost_budget_dollars", "The most for the run", cost.budget),
        ("cost_dollars_per_thousand_items", "What 1,000 items cost", cost.per_thousand),
    ];
    for (name, help, dollars) in optional {
        if let Some(dollars) = dollars {
            sheet.gauge(name, help, dollars.0);
        }
    }
    let of = |gpu: &str| labels([("gpu", gpu)]);
    let kinds = &cost.by_gpu;
    sheet.gauges(
        "gpu_cost_dollars",
        "What boxes of a kind have cost",
        kinds.iter().map(|kind| (of(&kind.gpu), kind.dollars.0)),
    );
    sheet.gauges(
        "gpu_boxes",
        "Boxes of a kind there were",
        kinds.iter().map(|kind| (of(&kind.gpu), kind.boxes as f64)),
    );
    let rates = kinds.iter().filter_map(|kind| kind.items_per_second.map(|rate| (of(&kind.gpu), rate)));
    sheet.gauges("gpu_items_per_second", "Items a second of one GPU of a kind", rates);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::status::sample;
    use crate::watch::sample::watched;

    /// Names of metrics as samples have them.
    fn names(text: &str) -> BTreeSet<&str> {
        let sample = |line: &&str| !line.starts_with('#');
        text.lines().filter(sample).map(|line| line.split(['{', ' ']).next().unwrap()).collect()
    }

    #[test]
    fn a_status_is_told_with_names_units_and_labels() {
        let text = render(&watched(sample::status()));
        for line in [
            "embed_fleet_items{state=\"done\"} 109551.0",
            "embed_fleet_items{state=\"failed\"} 17.0",
            "embed_fleet_planned_items 176443.0",
            "embed_fleet_shards{state=\"dead\"} 1.0",
            "embed_fleet_items_per_second 24.55",
            "embed_fleet_time_left_seconds 2699.0",
            "embed_fleet_run_stage{stage=\"running\"} 1.0",
            "embed_fleet_queue_up 1.0",
            "embed_fleet_status_stale 0.0",
            "embed_fleet_status_timestamp_seconds 1767229200.0",
            "embed_fleet_worker_items_total{worker=\"box-a-711-1f00aa01\"} 54000",
            "embed_fleet_workers{state=\"silent\"} 1.0",
            "embed_fleet_worker_last_seen_seconds{worker=\"box-a-711-1f00aa01\"} 6.0",
            "embed_fleet_worker_busy_ratio{worker=\"box-b-712-1f00aa02\"} 0.41",
            "embed_fleet_worker_last_seen_seconds{worker=\"box-\\\"c\\\"-713-1f00aa03\"} 31.0",
            "embed_fleet_cost_dollars 1.92",
            "embed_fleet_cost_budget_dollars 6.0",
            "embed_fleet_gpu_cost_dollars{gpu=\"RTX 4090\"} 1.92",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains(r#"device="NVIDIA \\ H100""#), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn without_queue_and_fleet_nothing_is_made_up() {
        let mut status = Status {
            source: Source::Store,
            state: None,
            items_per_second: None,
            eta_seconds: None,
            cost: None,
            ..sample::status()
        };
        status.workers.clear();
        let text = render(&Watched { trouble: Some("no answer".to_owned()), ..watched(status) });
        assert!(text.contains("embed_fleet_status_stale 1.0"), "{text}");
        assert!(text.contains("embed_fleet_queue_up 0.0"), "{text}");
        assert!(text.contains("embed_fleet_run_stage{stage=\"from_store\"} 1.0"), "{text}");
        for absent in ["per_second", "time_left", "cost", "gpu", "worker_"] {
            assert!(!names(&text).iter().any(|name| name.contains(absent)), "{absent} in\n{text}");
        }
    }

    #[test]
    fn workers_that_are_gone_are_only_counted() {
        let mut status = sample::status();
        let gone = &mut status.workers[1];
        (gone.leases, gone.last_seen_seconds) = (0, 900.0);
        status.leases.retain(|lease| lease.expires_in_seconds > 0.0);
        status.workers[2].last_seen_seconds = 900.0;
        let text = render(&watched(status));
        assert!(text.contains("embed_fleet_workers{state=\"gone\"} 1.0"), "{text}");
        assert!(text.contains("embed_fleet_workers{state=\"banned\"} 1.0"), "{text}");
        assert!(!text.contains("box-b") && !text.contains("1f00aa03"), "{text}");
    }

    #[test]
    fn the_board_shows_nothing_that_does_not_exist() {
        let board = include_str!("../../../infra/grafana/embed-fleet.json");
        let parsed: serde_json::Value = serde_json::from_str(board).unwrap();
        assert!(parsed["panels"].as_array().is_some_and(|panels| panels.len() >= 8));
        let mut status = sample::status();
        status.cost.as_mut().unwrap().billed = Some(crate::dollars::Dollars(2.0));
        let text = render(&watched(status));
        let exist = names(&text);
        let asked: BTreeSet<&str> = board
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("embed_fleet_"))
            .collect();
        assert!(asked.len() >= 12, "{asked:?}");
        for name in asked {
            assert!(exist.contains(name), "{name} is on the board; there are {exist:?}");
        }
    }

    /// Two series are only computed with where their labels agree; those of a job and an instance never do by luck.
    #[test]
    fn the_board_computes_with_sums_and_takes_rates_of_counters() {
        let board: serde_json::Value =
            serde_json::from_str(include_str!("../../../infra/grafana/embed-fleet.json")).unwrap();
        let panels = board["panels"].as_array().unwrap();
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
        let asked: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
        assert!(asked.len() >= 15, "{asked:?}");
        for expression in asked {
            let series = expression.matches("embed_fleet_").count();
            let sums = expression.matches("sum(embed_fleet_").count();
            assert!(series == 1 || series == sums, "{expression}");
            assert_eq!(expression.contains("rate("), expression.contains("_total{"), "{expression}");
        }
    }
}
