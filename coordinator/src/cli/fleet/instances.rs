//! `instances`: a run's boxes, what they do and what they cost.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use shared::exit::ExitCode;
use shared::queue::Queue as _;
use shared::settings::FileSettings;

use crate::cli::args::{QueueArgs, StoreArgs};
use crate::context::{queue_for_a_look, run_of};
use crate::failure::Failure;
use crate::fleet::journal::Record;
use crate::fleet::view::{Seen, text, view};

/// The pause between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// How a fleet stands.
#[derive(Debug, Args)]
pub struct InstancesArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// Look again every five seconds until the fleet has ended
    #[arg(long)]
    watch: bool,
    /// Boxes that are gone too
    #[arg(long)]
    all: bool,
    /// One JSON object (with --watch a line each)
    #[arg(long)]
    json: bool,
}

/// Prints the fleet once, or again and again. It needs the store alone; the queue adds what workers do.
pub async fn instances(args: InstancesArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let address = args.queue.address(file)?;
    let store = args.store.open(file)?;
    let run = run_of(&store, args.store.run(file)).await?;
    let mut record = Record::open(&store, &run).await?;
    loop {
        record.read_on().await?;
        let snapshot = match &address {
            Some(address) => queue_for_a_look(address, &run)?.snapshot().await.ok().flatten(),
            None => None,
        };
        let seen = Seen { run: &run, snapshot: snapshot.as_ref(), items: None, now: Timestamp::now() };
        let fleet = view(record.fleet(), seen);
        let mut out = std::io::stdout().lock();
        if args.json {
            let json =
                serde_json::to_string(&fleet).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
            writeln!(out, "{json}")?;
        } else {
            if args.watch && out.is_terminal() {
                write!(out, "\x1b[H\x1b[2J")?;
            }
            write!(out, "{}", text::fleet(&fleet, args.all))?;
        }
        out.flush()?;
        if !args.watch || fleet.launcher.is_none() {
            return Ok(ExitCode::Done);
        }
        drop(out);
        tokio::time::sleep(WATCH_EVERY).await;
    }
}
