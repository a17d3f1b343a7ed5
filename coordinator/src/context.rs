//! What a command works on: the store, the run in it, and the queue. Resolved once, from the flag,
//! the environment and `embed-fleet.toml`, in that order.

use shared::exit::ExitCode;
use shared::ids::RunId;
use shared::plan::{Plan, read_shards};
use shared::queue::redis::{RedisOptions, RedisQueue};
use shared::settings::QueueUrl;
use shared::store::{Store, StoreErrorKind, layout};

use crate::failure::Failure;
use crate::merge::Run;

/// The run named, or the only one in the store.
pub async fn run_of(store: &Store, named: Option<RunId>) -> Result<RunId, Failure> {
    if let Some(run) = named {
        return Ok(run);
    }
    let mut runs = store.folders(layout::RUNS).await?;
    match runs.len() {
        0 => Err(Failure::usage(format!("{} holds no run: make one with `coordinator plan`", store.url()))),
        1 => runs.remove(0).parse().map_err(|error| Failure::new(ExitCode::Usage, error)),
        _ => Err(Failure::usage(format!(
            "{} holds several runs; name one with --run:\n  {}",
            store.url(),
            runs.join("\n  ")
        ))),
    }
}

/// The plan of a run.
pub async fn plan_of(store: &Store, run: &RunId) -> Result<Plan, Failure> {
    let key = layout::plan_key(run);
    let bytes = store.get(&key).await.map_err(|error| {
        if error.kind == StoreErrorKind::NotFound {
            Failure::usage(format!(
                "{} does not exist: there is no run {run} in this store, or `coordinator plan` was \
                 interrupted; repeat it",
                store.url_of(&key)
            ))
        } else {
            error.into()
        }
    })?;
    Plan::parse(&bytes).map_err(|error| Failure::new(ExitCode::Input, error).context(store.url_of(&key)))
}

/// A planned run: its plan and its shards.
pub async fn planned_run(store: Store, named: Option<RunId>) -> Result<Run, Failure> {
    let run = run_of(&store, named).await?;
    let plan = plan_of(&store, &run).await?;
    let shards = read_shards(&store, &plan).await.map_err(|error| Failure::new(error.exit_code(), error))?;
    Run::new(store, plan, shards).map_err(|error| Failure::new(error.exit_code(), error))
}

/// The queue of a run on Redis. The in-memory queue lives in one process and is nobody else's to open.
pub fn queue_of(url: &QueueUrl, run: &RunId) -> Result<RedisQueue, Failure> {
    if url.is_memory() {
        return Err(Failure::usage(
            "memory: is the queue of `coordinator run`, inside its own process; pass --queue redis://... here",
        ));
    }
    Ok(RedisQueue::connect(url.expose(), run, RedisOptions::default())?)
}
