//! The queue at scale, measured: `infra/bench/queue [--shards 200000] [--workers 2000] [--seconds 30] [--rounds 3]`. It
//! starts a redis-server of its own and needs as many open files as there are workers, twice.

use std::process::ExitCode;

use tests::scale::{self, Options};

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let is_read = match name.as_str() {
            "--shards" => value.parse().map(|value| options.shards = value).is_ok() && options.shards > 0,
            "--workers" => value.parse().map(|value| options.workers = value).is_ok() && options.workers > 0,
            "--rounds" => value.parse().map(|value| options.rounds = value).is_ok() && options.rounds > 0,
            "--seconds" => {
                value.parse().map(|value| options.seconds = value).is_ok()
                    && (0.1..=3600.0).contains(&options.seconds)
            }
            _ => false,
        };
        if !is_read {
            eprintln!(
                "error: queue-scale [--shards N] [--workers N] [--seconds S] [--rounds N]; not understood: {name} {value}"
            );
            return ExitCode::from(2);
        }
    }
    scale::run(&options).await
}
