//! The worker's command line.

mod bench;
mod check;
mod embed;
mod manual;
mod model;
mod queue;
mod work;

use std::io::IsTerminal as _;

use clap::{Parser, Subcommand};
use shared::exit::ExitCode;
use shared::queue::QueueError;
use shared::settings::{FileSettings, SettingsError, environment, log_filter};
use shared::store::StoreError;

use crate::isolate::probe::{self, Wrap};

const EXAMPLES: &str = "\
Examples:
  worker --run exam-2025
  worker --run exam-2025 --device cuda:all
  worker --check --device cuda:0";

const EMBED_EXAMPLES: &str = "\
Examples:
  worker embed --model ./model --text question
  worker embed --model ./model --image page.png --device cpu";

const BENCH_EXAMPLES: &str = "\
Examples:
  worker bench --shape 8b --mix infra/bench/mix.json --profile";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  worker completions bash > ~/.local/share/bash-completion/completions/worker";

const MAN_EXAMPLES: &str = "\
Examples:
  worker man | man -l -
  worker man ~/.local/share/man/man1";

/// Claims shards of a run, embeds their items, and uploads the parts.
#[derive(Debug, Parser)]
#[command(
    name = "worker",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    work: work::WorkArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Embed one item and print its vector as JSON
    #[command(after_help = EMBED_EXAMPLES)]
    Embed(embed::EmbedArgs),
    /// Measure how fast this machine embeds, with random weights
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(bench::BenchArgs),
    /// Print what completes these commands in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(manual::CompletionsArgs),
    /// Print the manual, or write a page for every command
    #[command(after_help = MAN_EXAMPLES)]
    Man(manual::ManArgs),
    /// Try items that workers died on; a worker starts this by itself
    #[command(hide = true)]
    Probe,
}

/// A failed command: what a script sees and what a person reads.
#[derive(Debug)]
struct Failure {
    code: ExitCode,
    error: anyhow::Error,
}

impl Failure {
    fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }

    fn usage(message: &str) -> Self {
        Self::new(ExitCode::Usage, anyhow::Error::msg(message.to_owned()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(ExitCode::Usage, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(ExitCode::Unexpected, error)
    }
}

/// Parses the command line, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    main_with(|embedder| embedder)
}

/// The same with a change to the embedder of workers and their children.
pub fn main_with(wrap: Wrap) -> ExitCode {
    let cli = Cli::parse();
    let asked = std::env::var(environment::LOG).unwrap_or_else(|_| "info".to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(log_filter(&asked))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(log_filter("info")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::Unexpected;
        }
    };
    let result = runtime.block_on(run(cli, wrap));
    runtime.shutdown_background();
    result.unwrap_or_else(|failure| {
        eprintln!("error: {}", failure.error);
        for cause in failure.error.chain().skip(1) {
            eprintln!("  caused by: {cause}");
        }
        failure.code
    })
}

async fn run(cli: Cli, wrap: Wrap) -> Result<ExitCode, Failure> {
    let file = FileSettings::read(&std::env::current_dir()?)?;
    match cli.command {
        None if cli.work.check => check::check_device(&cli.work.device),
        None => work::work(cli.work, &file, wrap).await,
        Some(Command::Embed(args)) => embed::embed(args, &file).await,
        Some(Command::Bench(args)) => bench::bench(args).await,
        Some(Command::Completions(args)) => manual::completions(&args),
        Some(Command::Man(args)) => manual::man(&args),
        Some(Command::Probe) => {
            let served = tokio::task::block_in_place(|| probe::serve(wrap));
            served.map(|()| ExitCode::Done).map_err(|error| Failure::new(ExitCode::Unexpected, error))
        }
    }
}
