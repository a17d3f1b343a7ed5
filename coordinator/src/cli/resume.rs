//! `resume`: makes the queue agree with the store, and says what it did.

use clap::Args;
use shared::excerpt::one_line;
use shared::exit::ExitCode;
use shared::settings::FileSettings;

use super::args::{QueueArgs, StoreArgs};
use crate::context::{planned_run, queue_of};
use crate::failure::Failure;
use crate::record::{Depth, read_record};
use crate::resume::{Resumed, preview, resume as rebuild};

/// What to look at, and what to run again.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Read every byte of every part, not only its name, size and tail
    #[arg(long)]
    deep: bool,
    /// Run shards that have failed items again
    #[arg(long)]
    failed_items: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Resumes a run.
pub async fn resume(args: ResumeArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let run = planned_run(args.store.open(file)?, args.store.run(file)).await?;
    let depth = if args.deep { Depth::Deep } else { Depth::Tail };
    let record = read_record(&run, depth).await?;
    let resumed = if args.dry_run {
        preview(&run, &record, args.failed_items)
    } else {
        let queue = queue_of(&args.queue.required(file)?, &run.plan.run)?;
        queue.check_server().await?;
        queue.load_functions().await?;
        let repaired = queue.audit().await?;
        if repaired > 0 {
            eprintln!(
                "{repaired} shards stood in no set of the queue, or in a wrong one; they are in place again"
            );
        }
        rebuild(&queue, &run, &record, args.failed_items).await?
    };
    if args.json {
        let json =
            serde_json::to_string(&resumed).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
        println!("{json}");
    } else {
        print(&resumed, args.dry_run);
    }
    Ok(ExitCode::Done)
}

fn print(resumed: &Resumed, dry_run: bool) {
    let Resumed { shards, with_part, added, requeued_dead, requeued_failed_items, refused_parts } = resumed;
    println!("{with_part} of {shards} shards have a valid part");
    if dry_run {
        println!("{} shards would be pending; nothing was done", shards - with_part);
    } else {
        println!("{added} shards were new to the queue, {requeued_dead} dead ones are pending again");
    }
    if *requeued_failed_items > 0 {
        println!("{requeued_failed_items} shards with failed items run again");
    }
    for part in refused_parts {
        println!("not a valid part: {}", one_line(part));
    }
}
