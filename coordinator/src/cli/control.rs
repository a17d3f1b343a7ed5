//! `pause`, `drain`, `forget`: one word to the queue.

use clap::Args;
use shared::exit::ExitCode;
use shared::ids::RunId;
use shared::queue::Queue as _;
use shared::queue::redis::RedisQueue;
use shared::settings::FileSettings;

use super::args::{QueueArgs, StoreArgs};
use crate::context::{queue_of, run_of};
use crate::failure::Failure;

/// Which run, and where its queue is.
#[derive(Debug, Args)]
pub struct ControlArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

impl ControlArgs {
    /// The store is asked only where the run is not named.
    async fn open(&self, file: &FileSettings) -> Result<(RunId, RedisQueue), Failure> {
        let run = match self.store.run(file) {
            Some(run) => run,
            None => run_of(&self.store.open(file)?, None).await?,
        };
        let queue = queue_of(&self.queue.required(file)?, &run)?;
        Ok((run, queue))
    }
}

/// Workers stay and claim nothing.
pub async fn pause(args: ControlArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let (run, queue) = args.open(file).await?;
    queue.pause().await?;
    println!("run {run} is paused; `coordinator resume` goes on");
    Ok(ExitCode::Done)
}

/// Workers finish what they hold and exit.
pub async fn drain(args: ControlArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let (run, queue) = args.open(file).await?;
    queue.drain().await?;
    println!("run {run} is draining: workers finish what they hold and exit; `coordinator resume` ends that");
    Ok(ExitCode::Done)
}

/// Removes the run from the queue.
pub async fn forget(args: ControlArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let (run, queue) = args.open(file).await?;
    queue.forget().await?;
    println!("run {run} is gone from the queue; its store is as it was");
    Ok(ExitCode::Done)
}
