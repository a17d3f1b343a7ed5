//! What a command works on: the store, the run in it, and the queue. Resolved once, from the flag,
//! the environment and `embed-fleet.toml`, in that order.

use std::time::Duration;

use shared::ids::RunId;
use shared::plan::{Plan, find_run, read_plan, read_shards};
use shared::queue::redis::{RedisOptions, RedisQueue};
use shared::settings::QueueAddress;
use shared::store::Store;

use crate::failure::Failure;
use crate::merge::Run;

/// The run named, or the only one in the store.
pub async fn run_of(store: &Store, named: Option<RunId>) -> Result<RunId, Failure> {
    find_run(store, named).await.map_err(|error| Failure::new(error.exit_code(), error))
}

/// The plan of a run, without its shards: what costs the same whatever their number.
pub async fn plan_of(store: &Store, named: Option<RunId>) -> Result<Plan, Failure> {
    let run = run_of(store, named).await?;
    read_plan(store, &run).await.map_err(|error| Failure::new(error.exit_code(), error))
}

/// A planned run: its plan and its shards.
pub async fn planned_run(store: Store, named: Option<RunId>) -> Result<Run, Failure> {
    let plan = plan_of(&store, named).await?;
    run_with_shards(store, plan).await
}

/// The run of a plan.
pub async fn run_with_shards(store: Store, plan: Plan) -> Result<Run, Failure> {
    let shards = read_shards(&store, &plan).await.map_err(|error| Failure::new(error.exit_code(), error))?;
    Run::new(store, plan, shards).map_err(|error| Failure::new(error.exit_code(), error))
}

/// The queue of a run on Redis. The in-memory queue lives in one process and is nobody else's to open.
pub fn queue_of(address: &QueueAddress, run: &RunId) -> Result<RedisQueue, Failure> {
    queue_with(address, run, RedisOptions::default())
}

/// The same for a look that has another source: it gives up after a few seconds.
pub fn queue_for_a_look(address: &QueueAddress, run: &RunId) -> Result<RedisQueue, Failure> {
    let options = RedisOptions { give_up_after: Duration::from_secs(5), ..RedisOptions::default() };
    queue_with(address, run, options)
}

fn queue_with(address: &QueueAddress, run: &RunId, options: RedisOptions) -> Result<RedisQueue, Failure> {
    if address.url().is_memory() {
        return Err(Failure::usage(
            "memory: is the queue of `coordinator run`, inside its own process; pass --queue redis://... here",
        ));
    }
    Ok(RedisQueue::connect(address, run, options)?)
}
