//! The queue at the scale it is made for, measured: simulated workers on a real redis-server.
//!
//! | file | job |
//! |---|---|
//! | `case` | a fleet of a size on a server of its own, and whether its sums are right |
//! | `phase` | a fleet at work for a while, with somebody who asks for its status beside |
//! | `worker` | a worker that claims, beats and completes, and embeds nothing |
//! | `command` | `coordinator status` as a person runs it |
//! | `overhead` | one worker alone: what the fleet costs a shard |
//! | `server` | what redis-server says of itself |
//! | `samples` | durations, percentiles, medians |
//! | `report` | the table |

pub mod case;
pub mod command;
pub mod overhead;
pub mod phase;
mod report;
pub mod samples;
pub mod server;
pub mod worker;

use std::process::ExitCode;
use std::time::Duration;

use shared::queue::QueueError;

use crate::redis::RedisServer;
use case::Case;
use report::{Figure, figures, figures_of_overhead, missed, table};

/// Shards of a small run, to show what grows with their number; and those of the overhead.
const FEW_SHARDS: u64 = 2000;
/// Connections that a fleet shares, where it has not one a worker.
const SHARED_CONNECTIONS: usize = 64;
/// Claims a minute of a fleet on paper.
const CLAIMS_A_MINUTE: f64 = 2000.0;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Shards of the large run.
    pub shards: u64,
    /// Workers of the large fleet; the small one has a tenth.
    pub workers: usize,
    /// How long each phase lasts, in seconds.
    pub seconds: f64,
    /// How often everything is measured; the medians are printed.
    pub rounds: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { shards: 200_000, workers: 2000, seconds: 30.0, rounds: 3 }
    }
}

/// Measures and prints a table; fails where a shard was done twice or not at all, or a gate is missed.
pub async fn run(options: &Options) -> ExitCode {
    let cases = cases(options);
    let mut columns: Vec<(String, Vec<Vec<Figure>>)> =
        cases.iter().map(|case| (heading(case), Vec::new())).collect();
    let mut overhead = Vec::new();
    for round in 1..=options.rounds {
        for (case, column) in cases.iter().zip(&mut columns) {
            eprintln!("round {round} of {}: {}", options.rounds, heading(case));
            match measure(case.clone()).await {
                Ok(figures) => column.1.push(figures),
                Err(failure) => return failed(&failure),
            }
        }
        match measure_overhead().await {
            Ok(figures) => overhead.push(figures),
            Err(failure) => return failed(&failure),
        }
    }
    println!("{}\n", table(&columns));
    let alone = [(format!("one worker, {FEW_SHARDS} shards"), overhead)];
    println!("{}", table(&alone));
    let missed = [missed(&columns), missed(&alone)].concat();
    if missed.is_empty() { ExitCode::SUCCESS } else { failed(&missed.join("; ")) }
}

fn failed(failure: &str) -> ExitCode {
    eprintln!("error: {failure}");
    ExitCode::FAILURE
}

fn cases(options: &Options) -> Vec<Case> {
    let lasts = Duration::from_secs_f64(options.seconds);
    let case = |shards: u64, workers: usize, connections: usize| Case {
        shards,
        workers,
        connections: connections.min(workers),
        claims_a_minute: CLAIMS_A_MINUTE,
        paced: lasts,
        flat_out: lasts,
    };
    let (shards, many, few) = (options.shards, options.workers, (options.workers / 10).max(1));
    vec![
        case(FEW_SHARDS, few, SHARED_CONNECTIONS),
        case(shards, few, SHARED_CONNECTIONS),
        case(shards, many, SHARED_CONNECTIONS),
        case(shards, many, many),
    ]
}

fn heading(case: &Case) -> String {
    format!("{} shards, {} workers, {} connections", case.shards, case.workers, case.connections)
}

async fn measure(case: Case) -> Result<Vec<Figure>, String> {
    let outcome = case::run(&start_server()?, case).await.map_err(told)?;
    let faults = outcome.faults();
    if !faults.is_empty() {
        return Err(faults.join("; "));
    }
    if let Some((name, took)) = &outcome.flat_out.slow.slowest_other {
        eprintln!("  slowest on the server while flat out: {name}, {:.1} ms", took.as_secs_f64() * 1e3);
    }
    let figures = figures(&outcome);
    eprintln!("{}", table(&[(heading(&outcome.case), vec![figures.clone()])]));
    Ok(figures)
}

async fn measure_overhead() -> Result<Vec<Figure>, String> {
    let outcome = overhead::run(&start_server()?, FEW_SHARDS).await.map_err(told)?;
    if outcome.done != FEW_SHARDS {
        return Err(format!("one worker alone: {} shards done of {FEW_SHARDS}", outcome.done));
    }
    Ok(figures_of_overhead(&outcome))
}

fn start_server() -> Result<RedisServer, String> {
    RedisServer::start().ok_or_else(|| "redis-server is not installed".to_owned())
}

fn told(error: QueueError) -> String {
    error.to_string()
}
