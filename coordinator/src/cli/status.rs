//! `status`: from the queue; without one, from the store. Its exit code is 0 whatever the run's state.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use shared::exit::ExitCode;
use shared::settings::FileSettings;
use tokio_util::sync::CancellationToken;

use super::args::{QueueArgs, StoreArgs};
use crate::failure::Failure;
use crate::status::look::Look;
use crate::status::words::Stage;
use crate::status::{Status, text};
use crate::terminal::{self, Ended};
use crate::watch::feed::Feed;

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

impl StatusArgs {
    /// Whether the run is shown on the whole terminal, where nothing else may be written meanwhile.
    pub fn takes_the_terminal(&self) -> bool {
        self.watch && !self.json && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
    }
}

/// Prints the status once, or again and again; on a terminal `--watch` takes all of it until the run is done.
pub async fn status(
    args: StatusArgs,
    file: &FileSettings,
    stop: CancellationToken,
) -> Result<ExitCode, Failure> {
    let mut look =
        Look::open(args.store.open(file)?, args.store.run(file), args.queue.address(file)?).await?;
    if args.takes_the_terminal() {
        return on_the_terminal(look).await;
    }
    loop {
        let status = look.take().await?;
        print(&status, &args)?;
        let over = Stage::of(&status) == Stage::Finished;
        if !args.watch || over || stop.is_cancelled() {
            return Ok(ExitCode::Done);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// What was seen last stays on the terminal when it is given back.
async fn on_the_terminal(look: Look) -> Result<ExitCode, Failure> {
    let feed = Feed::start(look).await?;
    let ended = terminal::watch(&feed).await?;
    // One that was hung up takes nothing.
    let _ = write!(std::io::stdout(), "{}", text::render(&feed.last().status));
    Ok(if ended == Ended::Interrupted { ExitCode::Interrupted } else { ExitCode::Done })
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
        // Nobody is there to press a key. Home and clear: the next look takes this one's place.
        write!(out, "\x1b[H\x1b[2J")?;
    }
    write!(out, "{}", text::render(status))?;
    out.flush()?;
    Ok(())
}
