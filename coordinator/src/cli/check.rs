//! `check`: reads and matches everything, writes nothing.

use clap::Args;
use shared::exit::ExitCode;

use super::input::InputArgs;
use crate::check::{check as examine, report};
use crate::failure::Failure;
use crate::progress::Progress;

/// What to check and how to count.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Also count by this field; may be given several times
    #[arg(long, value_name = "FIELD")]
    by: Vec<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the report.
pub async fn check(args: CheckArgs) -> Result<ExitCode, Failure> {
    let input = args.input.resolve()?;
    let by = args.by.clone();
    let progress = Progress::start("check", "items", 0);
    let report = tokio::task::spawn_blocking(move || {
        let report = examine(&input, &by, |items| progress.set(items, 0));
        progress.finish();
        report
    })
    .await
    .map_err(|error| Failure::new(ExitCode::Unexpected, error))?
    .map_err(|error| Failure::new(ExitCode::Input, error))?;
    if args.json {
        let json =
            serde_json::to_string(&report).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
        println!("{json}");
    } else {
        print!("{}", report::render(&report));
    }
    Ok(ExitCode::Done)
}
