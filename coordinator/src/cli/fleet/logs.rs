//! `logs`: the last lines of a box's log.

use clap::Args;
use shared::excerpt::lines;
use shared::exit::ExitCode;
use shared::settings::FileSettings;

use super::{ProviderArgs, open};
use crate::cli::args::StoreArgs;
use crate::failure::Failure;
use crate::provider::InstanceId;

/// Whose log.
#[derive(Debug, Args)]
pub struct LogsArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    provider: ProviderArgs,
    /// The box, as `coordinator instances` shows it
    #[arg(value_name = "ID")]
    id: InstanceId,
    /// How many lines
    #[arg(long, value_name = "N", default_value_t = 100)]
    tail: u32,
}

/// Prints the log, without what would steer the terminal: a box belongs to a stranger.
pub async fn logs(args: LogsArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let (_, _, journal) = open(&args.store, file).await?;
    let provider = args.provider.open(args.provider.name(journal.fleet()), 0)?;
    let log = provider.logs(args.id, args.tail).await?;
    println!("{}", lines(log.trim_end()));
    Ok(ExitCode::Done)
}
