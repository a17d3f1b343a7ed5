//! A status for a person.

use std::fmt::Write as _;

use shared::excerpt::one_line;
use shared::queue::{ShardState, WorkerSnapshot};

use super::Status;
use super::words::{Stage, percent};
use crate::watch::condition::{Condition, conditions};
use crate::watch::unnamed_failures;

/// A few lines: progress, shards, workers, failures, notes.
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut text, status);
    text
}

fn write_all(text: &mut String, status: &Status) -> std::fmt::Result {
    let state = Stage::of(status).words();
    writeln!(text, "run      {} ({state}), model {}, {} dimensions", status.run, status.model, status.dim)?;
    let settled = status.items_done + status.items_failed;
    write!(text, "items    {settled} of {} ({:.1} %)", status.items_total, percent(status))?;
    if status.items_failed > 0 {
        write!(text, ", {} failed", status.items_failed)?;
    }
    if status.items_in_flight > 0 {
        write!(text, ", {} in flight", status.items_in_flight)?;
    }
    writeln!(text)?;
    let shards = status.shards;
    writeln!(
        text,
        "shards   {} done, {} leased, {} pending, {} delayed, {} dead, {} in all",
        shards.done,
        shards.leased,
        shards.pending,
        shards.delayed,
        shards.dead,
        shards.total()
    )?;
    if let Some(rate) = status.items_per_second {
        let eta = status.eta_seconds.map_or_else(|| "unknown".to_owned(), duration);
        writeln!(text, "rate     {rate:.2} items/s, time left {eta}")?;
    }
    if let Some(cost) = &status.cost {
        text.push_str(&crate::fleet::view::text::cost(cost));
    }
    for (condition, worker) in conditions(&status.workers, &status.leases) {
        write_worker(text, condition, worker)?;
    }
    for failure in &status.failures {
        let state = if failure.state == ShardState::Dead { "dead" } else { "retry" };
        writeln!(
            text,
            "{state:<8} shard {} ({} attempts, {} lost leases): {}",
            failure.shard, failure.attempts, failure.lost_leases, failure.message
        )?;
    }
    let unnamed = unnamed_failures(status);
    if unnamed > 0 {
        writeln!(text, "failed   {unnamed} more shards that are dead or tried again")?;
    }
    for part in &status.refused_parts {
        writeln!(text, "refused  {}: {}", one_line(&part.name), one_line(&part.reason))?;
    }
    for note in &status.notes {
        writeln!(text, "note     {note}")?;
    }
    Ok(())
}

fn write_worker(text: &mut String, condition: Condition, worker: &WorkerSnapshot) -> std::fmt::Result {
    write!(
        text,
        "{:<8} {} on {}{}, seen {} ago, {} shards held, {} items done",
        condition.name(),
        worker.id,
        worker.info.device,
        on_box(&worker.info.instance),
        duration(worker.last_seen_seconds),
        worker.leases,
        worker.items_done
    )?;
    if let Some(percent) = worker.info.busy_percent {
        write!(text, ", device busy {percent} %")?;
    }
    if worker.host_failures > 0 {
        write!(text, ", {} failures of its machine", worker.host_failures)?;
    }
    writeln!(text)
}

/// Where a worker runs on a rented box: that box's label.
fn on_box(instance: &str) -> String {
    if instance.is_empty() { String::new() } else { format!(" of box {instance}") }
}

/// Seconds as a person says them: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::WorkerId;
    use shared::queue::{WorkerInfo, WorkerSnapshot};

    use super::{duration, render, write_worker};
    use crate::record::RefusedPart;
    use crate::status::{Status, sample};
    use crate::watch::condition::Condition;

    #[test]
    fn a_worker_on_a_rented_box_names_it() {
        let said = |instance: &str| {
            let worker = WorkerSnapshot {
                id: WorkerId("w".to_owned()),
                info: WorkerInfo {
                    device: "GPU".to_owned(),
                    instance: instance.to_owned(),
                    ..WorkerInfo::default()
                },
                last_seen_seconds: 1.0,
                leases: 2,
                items_done: 3,
                items_in_flight: 0,
                host_failures: 0,
                banned: false,
            };
            let mut text = String::new();
            write_worker(&mut text, Condition::Working, &worker).unwrap();
            text
        };
        assert_eq!(said(""), "working  w on GPU, seen 1.0 s ago, 2 shards held, 3 items done\n");
        let of_box = "working  w on GPU of box fleet-r-0-x, seen 1.0 s ago, 2 shards held, 3 items done\n";
        assert_eq!(said("fleet-r-0-x"), of_box);
    }

    #[test]
    fn a_run_is_told_as_in_other_views_and_on_lines_of_its_own() {
        let reason = "odd\u{1b}[2J\nnews".to_owned();
        let status = Status {
            items_total: 100_000,
            items_done: 99_960,
            items_failed: 0,
            refused_parts: vec![RefusedPart { name: "000001-x\u{7}.npz".to_owned(), reason }],
            ..sample::status()
        };
        let text = render(&status);
        assert!(text.contains("99960 of 100000 (99.9 %)"), "{text}");
        assert!(text.contains("\nsilent   box-b-712"), "its lease is overdue: {text}");
        assert!(!text.contains("failed   "), "the queue named them all: {text}");
        assert!(text.contains("\nrefused  000001-x .npz: odd [2J news\n"), "{text}");
    }

    #[test]
    fn failures_that_the_queue_does_not_name_are_counted() {
        let mut status = sample::status();
        status.shards.dead = 151;
        assert!(render(&status).contains("\nfailed   150 more shards"), "{}", render(&status));
    }

    #[test]
    fn durations_read_well() {
        for (seconds, text) in
            [(0.42, "0.4 s"), (12.4, "12 s"), (185.0, "3 min 05 s"), (7620.0, "2 h 07 min")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
