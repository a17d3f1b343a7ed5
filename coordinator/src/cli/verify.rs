//! `verify`: a merged file against its promises, and with `--run` against its plan.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use shared::exit::ExitCode;
use shared::settings::FileSettings;
use shared::store::Store;

use super::args::StoreArgs;
use super::merge::object;
use crate::context::planned_run;
use crate::failure::Failure;
use crate::merge::Run;
use crate::progress::Progress;
use crate::verify::{Source, VerifyReport, verify as examine};

/// Which file, and against which run.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The file: a path or a store URL; the name given to merge where it wrote several
    #[arg(value_name = "FILE|URL")]
    file: String,
    #[command(flatten)]
    store: StoreArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Verifies a file.
pub async fn verify(args: VerifyArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let source = match object(&args.file)? {
        Some((folder, name)) => Source::Object { store: Store::open(folder)?, key: name.to_owned() },
        None => Source::File(PathBuf::from(&args.file)),
    };
    // The file alone is enough: only a run that is named is compared with.
    let run = match args.store.run(file) {
        Some(id) => Some(Arc::new(planned_run(args.store.open(file)?, Some(id)).await?)),
        None => None,
    };
    let report = verify_with_progress(source, run).await?;
    if args.json {
        let json =
            serde_json::to_string(&report).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
        println!("{json}");
    } else {
        println!("{report}");
    }
    Ok(report.exit_code())
}

/// Verifies with progress on standard error.
pub async fn verify_with_progress(source: Source, run: Option<Arc<Run>>) -> Result<VerifyReport, Failure> {
    let progress = Progress::start("verify", "bytes", 0);
    let verified = examine(source, run, move |done, total| progress.set(done, total)).await;
    verified.map_err(|error| Failure::new(error.exit_code(), error))
}
