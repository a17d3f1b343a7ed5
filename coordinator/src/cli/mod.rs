//! The command line: arguments to library calls, answers to text, failures to exit codes.

mod acl;
mod args;
mod check;
mod control;
mod dashboard;
mod examples;
mod fleet;
mod input;
mod manual;
mod merge;
mod plan;
mod private_file;
mod resume;
mod rights;
#[cfg(feature = "local")]
mod run;
mod status;
mod verify;

use std::io::IsTerminal as _;

use clap::{Parser, Subcommand};
use shared::exit::ExitCode;
use shared::settings::{FileSettings, environment, log_filter};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Embeds a few hundred thousand items with Qwen3-VL-Embedding on a fleet of GPU boxes, and loses none.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a few hundred items and a tiny random model, and run the whole pipeline on them
    #[cfg(feature = "local")]
    #[command(after_help = examples::DEMO)]
    Demo(run::DemoArgs),
    /// Read and match everything, write nothing
    #[command(after_help = examples::CHECK)]
    Check(check::CheckArgs),
    /// Split the items into shards and pack each into a bundle in the store
    #[command(after_help = examples::PLAN)]
    Plan(plan::PlanArgs),
    /// Plan, work, merge and verify on this machine
    #[cfg(feature = "local")]
    #[command(after_help = examples::RUN)]
    Run(run::RunArgs),
    /// Show how a run stands
    #[command(after_help = examples::STATUS)]
    Status(status::StatusArgs),
    /// Show a run on a page in the browser, and to Prometheus
    #[command(after_help = examples::DASHBOARD)]
    Dashboard(dashboard::DashboardArgs),
    /// Let workers stay and claim nothing
    #[command(after_help = examples::PAUSE)]
    Pause(control::ControlArgs),
    /// Let workers finish what they hold and exit
    #[command(after_help = examples::DRAIN)]
    Drain(control::ControlArgs),
    /// Make the queue agree with the store, and go on
    #[command(after_help = examples::RESUME)]
    Resume(resume::ResumeArgs),
    /// Merge the parts into one file
    #[command(after_help = examples::MERGE)]
    Merge(merge::MergeArgs),
    /// Check a merged file
    #[command(after_help = examples::VERIFY)]
    Verify(verify::VerifyArgs),
    /// Remove the run from the queue; the store is left alone
    #[command(after_help = examples::FORGET)]
    Forget(control::ControlArgs),
    /// Rent boxes for a run, watch them, and destroy them when it is done
    #[command(after_help = examples::LAUNCH)]
    Launch(Box<fleet::LaunchArgs>),
    /// Show a run's rented boxes and what they cost
    #[command(after_help = examples::INSTANCES)]
    Instances(fleet::InstancesArgs),
    /// Show the log of a rented box
    #[command(after_help = examples::LOGS)]
    Logs(fleet::LogsArgs),
    /// Destroy rented boxes, and see that they are gone
    #[command(after_help = examples::DESTROY)]
    Destroy(fleet::DestroyArgs),
    /// Make a user of the queue that may work on one run and do nothing else
    #[command(after_help = examples::QUEUE_ACL)]
    QueueAcl(acl::AclArgs),
    /// Print what completes these commands in a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(manual::CompletionsArgs),
    /// Print the manual, or write a page for every command
    #[command(after_help = examples::MAN)]
    Man(manual::ManArgs),
}

/// Parses the command line, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if !cli.command.takes_the_terminal() {
        start_log();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::Unexpected;
        }
    };
    let code = runtime.block_on(run_until_signal(cli.command));
    // A blocking read that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    code
}

/// Runs a command; a signal first asks it to stop (what holds leases or uploads gives them back), a second one ends
/// it at once.
async fn run_until_signal(command: Command) -> ExitCode {
    let stop = CancellationToken::new();
    if command.hears_signals() {
        return Box::pin(run(command, stop)).await.unwrap_or_else(|failure| report(&failure));
    }
    let stopping = command.stops_gracefully();
    let mut running = Box::pin(run(command, stop.clone()));
    let mut ended_by = None;
    loop {
        tokio::select! {
            result = &mut running => {
                return match (result, ended_by) {
                    (Ok(code), _) | (Err(_), Some(code)) => code,
                    (Err(failure), None) => report(&failure),
                };
            }
            code = next_signal() => {
                let Some(what) = stopping.filter(|_| ended_by.is_none()) else { return code };
                eprintln!("{what}; once more to stop now");
                ended_by = Some(code);
                stop.cancel();
            }
        }
    }
}

async fn next_signal() -> ExitCode {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => ExitCode::Terminated,
        _ = tokio::signal::ctrl_c() => ExitCode::Interrupted,
    }
}

impl Command {
    /// Whether it listens to signals itself: some leave boxes running that another command has to end.
    fn hears_signals(&self) -> bool {
        matches!(self, Self::Launch(_)) || matches!(self, Self::Destroy(args) if args.means_all())
    }

    /// Whether it draws on the whole terminal, where a log line would be in the way.
    fn takes_the_terminal(&self) -> bool {
        matches!(self, Self::Status(args) if args.takes_the_terminal())
    }

    /// What a command does when it is asked to stop; `None` for one that is simply ended.
    fn stops_gracefully(&self) -> Option<&'static str> {
        match self {
            #[cfg(feature = "local")]
            Self::Run(_) | Self::Demo(_) => Some("stopping after the batch that runs"),
            Self::Merge(_) => Some("stopping, and removing what was written so far"),
            _ => None,
        }
    }
}

/// A step that a signal ends at once: it holds nothing that must be given back.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = step => done,
        () = stop.cancelled() => Err(Failure::new(ExitCode::Interrupted, anyhow::anyhow!("stopped"))),
    }
}

async fn run(command: Command, stop: CancellationToken) -> Result<ExitCode, Failure> {
    let file = FileSettings::read(&std::env::current_dir()?)?;
    match command {
        #[cfg(feature = "local")]
        Command::Demo(args) => run::demo(args, stop).await,
        Command::Check(args) => check::check(args).await,
        Command::Plan(args) => plan::plan(args, &file).await,
        #[cfg(feature = "local")]
        Command::Run(args) => run::run(args, &file, stop).await,
        Command::Status(args) => status::status(args, &file, stop).await,
        Command::Dashboard(args) => dashboard::dashboard(args, &file).await,
        Command::Pause(args) => control::pause(args, &file).await,
        Command::Drain(args) => control::drain(args, &file).await,
        Command::Resume(args) => resume::resume(args, &file).await,
        Command::Merge(args) => merge::merge(args, &file, stop).await,
        Command::Verify(args) => verify::verify(args, &file).await,
        Command::Forget(args) => control::forget(args, &file).await,
        Command::Launch(args) => Box::pin(fleet::launch(*args, &file)).await,
        Command::Instances(args) => fleet::instances(args, &file).await,
        Command::Logs(args) => fleet::logs(args, &file).await,
        Command::Destroy(args) => fleet::destroy(args, &file).await,
        Command::QueueAcl(args) => acl::acl(args, &file).await,
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}

/// Prints an error and its causes, and answers with its exit code.
fn report(failure: &Failure) -> ExitCode {
    eprintln!("error: {}", failure.error);
    for cause in failure.error.chain().skip(1) {
        eprintln!("  caused by: {cause}");
    }
    failure.code
}

fn start_log() {
    let asked = std::env::var(environment::LOG).unwrap_or_else(|_| "warn".to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(log_filter(&asked))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(log_filter("warn")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
