//! `plan`: prints the run's id alone on standard output.

use std::time::Duration;

use clap::{Args, ValueEnum};
use shared::exit::ExitCode;
use shared::model::{ModelRef, Places, Resolved, push, resolve};
use shared::plan::{Dtype, FleetSettings, LONGEST_LEASE_SECONDS, MOST_ITEMS_OF_A_SHARD, Plan, ShardRecord};
use shared::settings::{EmbeddingChoices, FileSettings, QueueAddress, environment, parse_duration};
use shared::store::Store;

use super::args::{QueueArgs, StoreArgs};
use super::input::InputArgs;
use super::rights;
use crate::context::queue_of;
use crate::failure::Failure;
use crate::merge::Run;
use crate::plan::{Balance, PlanProgress, PlanRequest, Planned, PlanningError, plan as make_plan};
use crate::progress::Progress;
use crate::record::{Depth, read_record};
use crate::resume::{add_missing, resume};

/// What decides a vector, and how the work is cut.
#[derive(Debug, Clone, Args)]
pub struct EmbeddingArgs {
    /// A folder, a Hugging Face id with an optional @revision, a store URL, or hash:DIM
    #[arg(long, env = environment::MODEL, value_name = "MODEL")]
    pub model: Option<String>,
    /// The precision computed in: bf16 or f32
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<Dtype>,
    /// Items a shard
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    shard_size: u64,
    /// How long a lease lasts without a sign of life: 60s, 2m
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_duration)]
    lease: Duration,
    /// The instruction
    #[arg(long)]
    instruction: Option<String>,
    /// The largest image in pixels
    #[arg(long, value_name = "N")]
    max_pixels: Option<u32>,
    /// The most tokens of an item
    #[arg(long, value_name = "N")]
    max_length: Option<u32>,
    /// Components of a vector: the first of the model's own
    #[arg(long, value_name = "N")]
    dim: Option<u32>,
}

/// How shards are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BalanceBy {
    /// The same number of items.
    Count,
    /// The same predicted time on a GPU; --shard-size items on average.
    Cost,
}

/// What to plan.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// Put a folder's model into the store, for workers that do not see the folder
    #[arg(long)]
    push_model: bool,
    /// How shards are cut
    #[arg(long, default_value = "count", value_enum)]
    balance: BalanceBy,
    /// Sign URLs for workers without credentials, for so long (1m to 7d), and write RUN.worker.env with them; S3 only
    #[arg(long, value_name = "TIME", value_parser = rights::lasting)]
    signed_urls: Option<Duration>,
}

impl EmbeddingArgs {
    /// Defaults for a model in a folder.
    #[cfg(feature = "local")]
    pub fn of(model: &std::path::Path, shard_size: u64) -> Self {
        Self {
            model: Some(model.display().to_string()),
            dtype: None,
            shard_size,
            lease: Duration::from_secs(60),
            instruction: None,
            max_pixels: None,
            max_length: None,
            dim: None,
        }
    }

    /// The model as named.
    pub fn model(&self, file: &FileSettings) -> Result<ModelRef, Failure> {
        let name = self.model.clone().or_else(|| file.model.clone()).ok_or_else(|| {
            Failure::usage(
                "no model: pass --model, set FLEET_MODEL, or write model = \"...\" into embed-fleet.toml",
            )
        })?;
        name.parse().map_err(|error: shared::model::ModelError| Failure::new(error.exit_code(), error))
    }

    /// The request, with `dtype` where none was asked for.
    pub fn request(
        &self,
        input: &InputArgs,
        resolved: Resolved,
        dtype: Dtype,
        store: &StoreArgs,
        file: &FileSettings,
    ) -> Result<PlanRequest, Failure> {
        if self.lease < Duration::from_secs(1) {
            return Err(Failure::usage("--lease must be 1s or more"));
        }
        if self.lease.as_secs_f64() > LONGEST_LEASE_SECONDS {
            return Err(Failure::usage("--lease must be a year or less"));
        }
        if self.shard_size > MOST_ITEMS_OF_A_SHARD {
            return Err(Failure::usage(format!("--shard-size must be {MOST_ITEMS_OF_A_SHARD} or less")));
        }
        let choices = EmbeddingChoices {
            instruction: self.instruction.clone().or_else(|| file.instruction.clone()),
            max_pixels: self.max_pixels.or(file.max_pixels),
            max_length: self.max_length.or(file.max_length),
            dim: self.dim.or(file.dim),
            text_template: input.text_template(),
        };
        let embedding = choices
            .resolve(self.dtype.unwrap_or(dtype), resolved.dim)
            .map_err(|error| Failure::new(ExitCode::Usage, error))?;
        Ok(PlanRequest {
            input: input.resolve()?,
            run: store.run(file),
            model: resolved.record,
            embedding,
            fleet: FleetSettings { shard_size: self.shard_size, lease_seconds: self.lease.as_secs_f64() },
            balance: Balance::Count,
        })
    }
}

/// Resolves a model's files and digest.
pub async fn resolve_model(model: &ModelRef, store: &Store) -> Result<Resolved, Failure> {
    resolve(model, &places(store)).await.map_err(|error| Failure::new(error.exit_code(), error))
}

/// Where models may lie.
pub fn places(store: &Store) -> Places {
    Places::from_environment(Some(store.clone()))
}

/// Plans with progress on standard error.
pub async fn plan_with_progress(store: &Store, request: PlanRequest) -> Result<Planned, Failure> {
    let progress = Progress::start("plan", "items", 0);
    let planned = make_plan(store, request, move |now| match now {
        PlanProgress::Read(items) => progress.set(items, 0),
        PlanProgress::Packed(items, total) => progress.set(items, total),
    })
    .await;
    planned.map_err(|error: PlanningError| Failure::new(error.exit_code(), error))
}

/// A planned run as one thing.
pub fn run_of(store: &Store, plan: &Plan, shards: Vec<ShardRecord>) -> Result<Run, Failure> {
    Run::new(store.clone(), plan.clone(), shards).map_err(|error| Failure::new(error.exit_code(), error))
}

/// Loads the functions and fills the queue from the store.
async fn fill_queue(address: &QueueAddress, run: Run, new: bool) -> Result<(), Failure> {
    let queue = queue_of(address, &run.plan.run)?;
    queue.check_server().await?;
    queue.load_functions().await?;
    let record = read_record(&run, Depth::Tail).await?;
    if new {
        resume(&queue, &run, &record, false).await?;
    } else {
        // A run that goes on is not touched: no pause ends, no dead shard comes back.
        add_missing(&queue, &run, &record).await?;
    }
    Ok(())
}

/// Plans a run, and fills its queue where one is named.
pub async fn plan(args: PlanArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    // Everything that can be wrong with the input is looked at before a store is made.
    let model = args.embedding.model(file)?;
    args.input.resolve()?;
    let queue = args.queue.address(file)?.filter(|address| !address.url().is_memory());
    if let Some(lasts) = args.signed_urls {
        rights::check_store(&args.store.url(file)?, lasts)?;
    }
    let store = args.store.open_or_create(file)?;
    let mut resolved = resolve_model(&model, &store).await?;
    if let Some(lasts) = args.signed_urls {
        rights::check_model(&resolved.record, lasts)?;
    }
    if args.push_model {
        let ModelRef::Folder(folder) = &model else {
            return Err(Failure::usage("--push-model is for a model in a folder"));
        };
        resolved.record = push(&store, &resolved.record, folder, &places(&store))
            .await
            .map_err(|error| Failure::new(error.exit_code(), error))?;
    }
    let mut request = args.embedding.request(&args.input, resolved, Dtype::Bf16, &args.store, file)?;
    request.balance = match args.balance {
        BalanceBy::Count => Balance::Count,
        BalanceBy::Cost => Balance::Cost,
    };
    let Planned { plan, shards, new, spreads } = plan_with_progress(&store, request).await?;
    if let Some([by_cost, by_count]) = spreads {
        eprintln!("predicted cost of a shard: {by_cost}; cut by number it would be {by_count}");
    }
    if let Some(lasts) = args.signed_urls {
        rights::write(&store, &args.store.url(file)?, &plan, &shards, lasts).await?;
    }
    if let Some(address) = queue {
        fill_queue(&address, run_of(&store, &plan, shards)?, new).await?;
    }
    eprintln!(
        "{} run {}: {} items in {} shards, {} of {} images, {:.1} MB in {}",
        if new { "planned" } else { "found" },
        plan.run,
        plan.counts.items,
        plan.counts.shards,
        plan.counts.images_found,
        plan.counts.images_named,
        plan.counts.bundle_bytes as f64 / 1e6,
        store.url()
    );
    println!("{}", plan.run);
    Ok(ExitCode::Done)
}
