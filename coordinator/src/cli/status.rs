//! `status`: from the queue; without one, from the store. Its exit code is 0 whatever the run's state.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use shared::exit::ExitCode;
use shared::plan::Plan;
use shared::queue::{Queue as _, Snapshot};
use shared::settings::{FileSettings, QueueAddress};
use tokio_util::sync::CancellationToken;

use super::args::{QueueArgs, StoreArgs};
use crate::context::{planned_run, queue_for_a_look};
use crate::failure::Failure;
use crate::fleet::journal::Record;
use crate::fleet::view::{Cost, Seen, view};
use crate::merge::Run;
use crate::status::{Status, from_queue, from_store, text};

/// The pause between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// How a run stands.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// Look again every two seconds until the run is done
    #[arg(long)]
    watch: bool,
    /// One JSON object (with --watch a line each)
    #[arg(long)]
    json: bool,
}

/// Prints the status once, or again and again.
pub async fn status(
    args: StatusArgs,
    file: &FileSettings,
    stop: CancellationToken,
) -> Result<ExitCode, Failure> {
    let run = planned_run(args.store.open(file)?, args.store.run(file)).await?;
    let queue = args.queue.address(file)?;
    let mut fleet = Record::open(&run.store, &run.plan.run).await?;
    loop {
        let status = look(&run, queue.as_ref(), &mut fleet).await?;
        print(&status, &args)?;
        let over = status.shards.done == status.shards.total();
        if !args.watch || over || stop.is_cancelled() {
            return Ok(ExitCode::Done);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn look(run: &Run, queue: Option<&QueueAddress>, fleet: &mut Record) -> Result<Status, Failure> {
    fleet.read_on().await?;
    let note = match queue {
        None => None,
        Some(address) => match ask(address, &run.plan, fleet).await {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => Some(
                "the queue does not know this run: `coordinator resume` rebuilds it from the store"
                    .to_owned(),
            ),
            Err(failure) => {
                Some(format!("the queue does not answer ({:#}); this is what the store says", failure.error))
            }
        },
    };
    let mut status = from_store(run).await?;
    status.cost = cost(&run.plan, fleet, None);
    status.notes.extend(note);
    Ok(status)
}

async fn ask(address: &QueueAddress, plan: &Plan, fleet: &Record) -> Result<Option<Status>, Failure> {
    let queue = queue_for_a_look(address, &plan.run)?;
    let Some(snapshot) = queue.snapshot().await? else { return Ok(None) };
    let cost = cost(plan, fleet, Some(&snapshot));
    Ok(Some(Status { cost, ..from_queue(plan, snapshot) }))
}

/// What rented boxes cost, where there ever were any.
fn cost(plan: &Plan, fleet: &Record, snapshot: Option<&Snapshot>) -> Option<Cost> {
    let seen = Seen { run: &plan.run, snapshot, items: None, now: Timestamp::now() };
    (!fleet.is_empty()).then(|| view(fleet.fleet(), seen).cost)
}

fn print(status: &Status, args: &StatusArgs) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let json =
            serde_json::to_string(status).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
        writeln!(out, "{json}")?;
        return Ok(());
    }
    if args.watch && out.is_terminal() {
        // Home and clear: the next look takes this one's place.
        write!(out, "\x1b[H\x1b[2J")?;
    }
    write!(out, "{}", text::render(status))?;
    out.flush()?;
    Ok(())
}
