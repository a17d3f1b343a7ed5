//! `worker`: the plan's model on this machine's device, then the pipeline until the run ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use shared::exit::ExitCode;
use shared::ids::{RunId, WorkerId};
use shared::plan::{FindError, NUMERICS_VERSION, Plan, find_run, read_plan};
use shared::queue::WorkerInfo;
use shared::queue::redis::{RedisOptions, RedisQueue};
use shared::settings::{FileSettings, environment};
use shared::store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::model::{Loader, find_model, load_in_background, null_vector_of};
use super::queue::QueueArgs;
use crate::device::DeviceChoice;
use crate::embedder::BatchBudget;
use crate::isolate::probe::Wrap;
use crate::load;
use crate::pipeline::busy::BusyMeter;
use crate::pipeline::{Worker, WorkerEnd, WorkerError, WorkerSettings};

/// Which run to work on, and with what.
#[derive(Debug, Args)]
pub struct WorkArgs {
    #[command(flatten)]
    queue: QueueArgs,
    /// The store: a path, file:, s3://, gs:// or az://
    #[arg(long, env = environment::STORE, value_name = "URL", hide_env_values = true)]
    store: Option<String>,
    /// The run; the only one in the store is the default
    #[arg(long, env = environment::RUN, value_name = "ID")]
    run: Option<RunId>,
    /// A local copy of the plan's model
    #[arg(long, env = environment::MODEL, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// auto, cpu, cuda:N, several as cuda:0,1, or cuda:all
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// Use no more memory of each GPU than this (22GiB), and hold the rest
    #[arg(long, value_name = "SIZE", value_parser = crate::device::parse_memory)]
    gpu_memory: Option<u64>,
    /// Check the device and its kernels, and exit: 0 if they compute what they should, else 1
    #[arg(long)]
    pub check: bool,
    /// Text tokens plus vision patches of one batch: a number, or auto
    #[arg(long, default_value = "auto", value_name = "N|auto", value_parser = batch_tokens)]
    batch_tokens: BatchTokens,
    /// Exit with 6 after this long without a queue: 30m, 90s, 2h
    #[arg(long, default_value = "30m", value_name = "TIME", value_parser = shared::settings::parse_duration)]
    give_up_after: Duration,
    /// The shortest pause after a claim that found nothing; the longest is two and a half times that
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = shared::settings::parse_duration)]
    claim_poll: Duration,
    /// End when a batch, or preparing a shard, takes longer than this: an item may hang it (10m on a GPU,
    /// 1h on a CPU)
    #[arg(long, value_name = "TIME", value_parser = shared::settings::parse_duration)]
    step_limit: Option<Duration>,
    /// Memory that a child process may take that tries items on which workers died (8GiB); most of what is
    /// free by default
    #[arg(long, value_name = "SIZE", value_parser = crate::device::parse_memory)]
    isolate_memory: Option<u64>,
    /// The label of the rented box that this runs on, for `status` and the launcher
    #[arg(long, env = environment::INSTANCE, value_name = "LABEL", default_value = "", hide = true)]
    instance: String,
}

/// `--step-limit` where it is not given: a batch takes seconds on a GPU.
const STEP_LIMIT_OF_GPU: Duration = Duration::from_secs(10 * 60);

/// The same on a CPU, where a batch of the largest model takes minutes.
const STEP_LIMIT_OF_CPU: Duration = Duration::from_secs(60 * 60);

/// `--batch-tokens`.
#[derive(Debug, Clone, Copy)]
pub enum BatchTokens {
    /// What the device has room for.
    Auto,
    /// So many.
    Fixed(usize),
}

/// Parses `--batch-tokens`.
pub fn batch_tokens(text: &str) -> Result<BatchTokens, String> {
    match text {
        "auto" => Ok(BatchTokens::Auto),
        _ => match text.parse() {
            Ok(0) | Err(_) => Err("a whole number above 0, or auto".to_owned()),
            Ok(tokens) => Ok(BatchTokens::Fixed(tokens)),
        },
    }
}

impl BatchTokens {
    /// The budget; `auto` is the device's own, the same on every machine of a kind: a part depends on it.
    pub fn budget(self, auto: BatchBudget) -> BatchBudget {
        match self {
            Self::Auto => auto,
            Self::Fixed(tokens) => BatchBudget(tokens),
        }
    }
}

/// Works on a run until it ends.
pub async fn work(args: WorkArgs, file: &FileSettings, wrap: Wrap) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let stop = CancellationToken::new();
    let signalled = stop_on_signal(stop.clone())?;
    check(&args)?;
    let address = args.queue.address(file)?;
    let store_url = args.store.clone().or_else(|| file.store.clone()).ok_or_else(|| {
        Failure::usage(
            "no store: pass --store, set FLEET_STORE, or write store = \"...\" into embed-fleet.toml",
        )
    })?;
    let store = Store::open(&store_url)?;
    let plan = plan_of(&store, args.run.clone().or_else(|| file.run.clone())).await?;
    let run = plan.run.clone();
    let loading = async {
        let loader = Loader {
            model: find_model(args.model.as_deref(), &store, &plan).await?,
            settings: plan.embedding.clone(),
            device: args.device.clone(),
            gpu_memory: args.gpu_memory,
            wrap,
        };
        let embedders = load_in_background(&loader, plan.model.bytes()).await?;
        Ok::<_, Failure>((loader, embedders))
    };
    let (loader, embedders) = tokio::select! {
        loaded = loading => loaded?,
        // A model may take minutes to come; nothing is held yet.
        () = stop.cancelled() => return Ok(signalled.await.unwrap_or(ExitCode::Terminated)),
    };
    let embedder = Arc::clone(&embedders[0]);
    if embedder.dim() != plan.embedding.dim as usize {
        let error = load::EmbedderError::Dim { asked: plan.embedding.dim, has: embedder.dim() };
        return Err(Failure::new(ExitCode::Input, error));
    }
    let null_vector = null_vector_of(&embedder).await?;
    tracing::info!("the first vector came {:.1} s after the start", started.elapsed().as_secs_f64());
    let budget = args.batch_tokens.budget(embedder.default_budget());
    let step_limit = args.step_limit.unwrap_or(match embedder.memory() {
        0 => STEP_LIMIT_OF_CPU,
        _ => STEP_LIMIT_OF_GPU,
    });
    let isolation = loader.isolation(std::env::current_exe()?, budget, args.isolate_memory, step_limit);
    let queue = RedisQueue::connect(&address, &run, RedisOptions::default())?;
    let host = host_name();
    let worker = Worker {
        id: WorkerId::fresh(&host),
        info: WorkerInfo {
            host,
            device: embedder.device(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            memory: embedder.memory(),
            instance: args.instance,
            ..WorkerInfo::default()
        },
        queue: Arc::new(queue),
        store,
        plan: Arc::new(plan),
        busy: Arc::new(BusyMeter::new(embedders.len())),
        embedders,
        null_vector,
        settings: WorkerSettings {
            give_up_after: args.give_up_after,
            budget,
            claim_poll: (args.claim_poll, args.claim_poll.mul_f64(2.5)),
            step_limit,
        },
        stop,
        isolation: Some(isolation),
    };
    // A search gives the devices free: nothing else may hold the model.
    drop(embedder);
    tracing::info!(worker = %worker.id, %run, device = %worker.info.device, "ready");
    let end = worker.run().await.map_err(|error| {
        let code = match &error {
            WorkerError::Queue(error) => error.exit_code(),
            _ => ExitCode::Unexpected,
        };
        Failure::new(code, error)
    })?;
    let code = match end {
        WorkerEnd::Finished | WorkerEnd::Draining => ExitCode::Done,
        WorkerEnd::Stuck => ExitCode::Incomplete,
        WorkerEnd::Banned | WorkerEnd::Hung => ExitCode::Unexpected,
        WorkerEnd::QueueLost | WorkerEnd::StoreLost => ExitCode::Unreachable,
        WorkerEnd::Stopped => signalled.await.unwrap_or(ExitCode::Terminated),
    };
    tracing::info!(?end, "the worker ends");
    Ok(code)
}

/// Times too short to work with.
fn check(args: &WorkArgs) -> Result<(), Failure> {
    if args.give_up_after < Duration::from_secs(1) {
        return Err(Failure::usage("--give-up-after must be 1s or more"));
    }
    if args.claim_poll < Duration::from_millis(10) {
        return Err(Failure::usage("--claim-poll must be 10ms or more"));
    }
    if args.step_limit.is_some_and(|limit| limit < Duration::from_secs(1)) {
        return Err(Failure::usage("--step-limit must be 1s or more"));
    }
    Ok(())
}

/// Cancels the token at the first signal, ends the process at the second.
fn stop_on_signal(stop: CancellationToken) -> Result<tokio::sync::oneshot::Receiver<ExitCode>, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut tell = Some(tell);
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => ExitCode::Terminated,
                _ = interrupt.recv() => ExitCode::Interrupted,
            };
            match tell.take() {
                Some(tell) => {
                    tracing::info!("stopping after the batch that runs; leases are given back");
                    stop.cancel();
                    let _ = tell.send(code);
                }
                None => std::process::exit(code as i32),
            }
        }
    });
    Ok(told)
}

/// The plan of the run meant, if this worker computes its numbers.
async fn plan_of(store: &Store, named: Option<RunId>) -> Result<Plan, Failure> {
    let find = |error: FindError| Failure::new(error.exit_code(), error);
    let run = find_run(store, named).await.map_err(find)?;
    let plan = read_plan(store, &run).await.map_err(find)?;
    if plan.numerics_version != NUMERICS_VERSION {
        return Err(Failure::new(
            ExitCode::Input,
            anyhow::anyhow!(
                "run {run} was planned for numerics version {}, this worker computes version {NUMERICS_VERSION}: \
                 use the worker of that release",
                plan.numerics_version
            ),
        ));
    }
    Ok(plan)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
