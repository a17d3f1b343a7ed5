//! A status for a person.

use std::fmt::Write as _;

use shared::queue::{ShardState, WorkerSnapshot};

use super::Status;
use super::words::Stage;

/// Workers not seen for this long are listed as gone.
pub const GONE_AFTER_SECONDS: f64 = 120.0;

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
    let share = 100.0 * settled as f64 / (status.items_total.max(1)) as f64;
    write!(text, "items    {settled} of {} ({share:.1} %)", status.items_total)?;
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
    for worker in &status.workers {
        write_worker(text, worker)?;
    }
    for failure in &status.failures {
        let state = if failure.state == ShardState::Dead { "dead" } else { "retry" };
        writeln!(
            text,
            "{state:<8} shard {} ({} attempts, {} lost leases): {}",
            failure.shard, failure.attempts, failure.lost_leases, failure.message
        )?;
    }
    for part in &status.refused_parts {
        writeln!(text, "refused  {}: {}", part.name, part.reason)?;
    }
    for note in &status.notes {
        writeln!(text, "note     {note}")?;
    }
    Ok(())
}

fn write_worker(text: &mut String, worker: &WorkerSnapshot) -> std::fmt::Result {
    let what = if worker.banned {
        "banned"
    } else if worker.last_seen_seconds > GONE_AFTER_SECONDS {
        "gone"
    } else {
        "worker"
    };
    write!(
        text,
        "{what:<8} {} on {}{}, seen {} ago, {} shards held, {} items done",
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

    use super::{duration, write_worker};

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
            write_worker(&mut text, &worker).unwrap();
            text
        };
        assert_eq!(said(""), "worker   w on GPU, seen 1.0 s ago, 2 shards held, 3 items done\n");
        let of_box = "worker   w on GPU of box fleet-r-0-x, seen 1.0 s ago, 2 shards held, 3 items done\n";
        assert_eq!(said("fleet-r-0-x"), of_box);
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
