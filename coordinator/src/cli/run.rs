//! `run` and `demo`: the whole job on this machine.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use shared::exit::ExitCode;
use shared::model::{ModelRef, local_copy};
use shared::plan::{Dtype, Plan};
use shared::settings::FileSettings;
use shared::store::Store;
use tokio_util::sync::CancellationToken;
use worker::device::DeviceChoice;
use worker::embedder::Embedder;
use worker::load;

use super::args::{DEFAULT_STORE, StoreArgs};
use super::input::InputArgs;
use super::merge::{OutputArgs, merge_with_progress, render};
use super::plan::{EmbeddingArgs, places, plan_with_progress, resolve_model, run_of};
use super::unless_stopped;
use super::verify::verify_with_progress;
use crate::demo;
use crate::failure::Failure;
use crate::local::{LocalRun, embed_missing};
use crate::merge::{Destination, MergeRequest, OutputType, Run};
use crate::plan::Planned;
use crate::verify::Source;

/// Items a shard of the demo: small, so that there are shards for two workers.
const SHARD_SIZE: u64 = 32;

/// The whole job.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Workers in this process; they share one copy of the model
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
}

/// Plans, works, merges and verifies.
pub async fn run(args: RunArgs, file: &FileSettings, stop: CancellationToken) -> Result<ExitCode, Failure> {
    let device = args.device.open().map_err(|error| Failure::new(ExitCode::Usage, error))?;
    let request = args.output.request(OutputType::F32)?;
    let model = args.embedding.model(file)?;
    args.input.resolve()?;
    // A folder that no worker could load is refused before anything is written.
    if let ModelRef::Folder(folder) = &model {
        load::check_folder(folder).map_err(|error| Failure::new(ExitCode::Input, error))?;
    }
    let store = store_of(&args, file)?;
    let resolved = unless_stopped(&stop, resolve_model(&model, &store)).await?;
    let dtype = if device.is_cpu() { Dtype::F32 } else { Dtype::Bf16 };
    let plan_request = args.embedding.request(&args.input, resolved, dtype, &args.store, file)?;
    let Planned { plan, shards, new, .. } =
        unless_stopped(&stop, plan_with_progress(&store, plan_request)).await?;
    eprintln!(
        "{} run {}: {} items in {} shards, {} of {} images found",
        if new { "planned" } else { "going on with" },
        plan.run,
        plan.counts.items,
        plan.counts.shards,
        plan.counts.images_found,
        plan.counts.images_named
    );
    let embedder = unless_stopped(&stop, embedder_of(&plan, &store, &device)).await?;
    let run = Arc::new(run_of(&store, &plan, shards)?);
    let work = LocalRun { run: Arc::clone(&run), embedder, workers: args.workers.into() };
    let embedded = embed_missing(work, stop.clone()).await?;
    eprintln!("embedded {embedded} of {} shards; the others had a part", plan.counts.shards);
    finish(run, &args.output, request, &stop).await
}

fn store_of(args: &RunArgs, file: &FileSettings) -> Result<Store, Failure> {
    let mut store = args.store.clone();
    if store.store.is_none() && file.store.is_none() {
        store.store = Some(DEFAULT_STORE.to_owned());
    }
    store.open_or_create(file)
}

async fn embedder_of(
    plan: &Plan,
    store: &Store,
    device: &worker::device::Device,
) -> Result<Arc<dyn Embedder>, Failure> {
    let model = local_copy(&plan.model, None, &places(store)).await;
    let model = model.map_err(|error| Failure::new(error.exit_code(), error))?;
    let (settings, device) = (plan.embedding.clone(), device.clone());
    let load = move || {
        load::trust(&device, settings.dtype)?;
        load::embedder(&model, &settings, &device)
    };
    tokio::task::spawn_blocking(load)
        .await
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))?
        .map_err(|error| Failure::new(error.exit_code(), error))
}

/// Merges and verifies, and says what came out.
async fn finish(
    run: Arc<Run>,
    output: &OutputArgs,
    request: MergeRequest,
    stop: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let merged = merge_with_progress(Arc::clone(&run), &request, stop).await?;
    print!("{}", render(&merged));
    let source = match request.destination {
        Destination::File(path) => Source::File(path),
        Destination::Object { store, key } => Source::Object { store, key },
    };
    let verified = unless_stopped(stop, verify_with_progress(source, Some(run))).await?;
    println!("{verified}");
    Ok(match verified.exit_code() {
        ExitCode::Done => merged.exit_code(output.strict),
        wrong => wrong,
    })
}

/// Something to try it on.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder to make
    #[arg(long, default_value = "embed-fleet-demo", value_name = "DIR")]
    dir: PathBuf,
}

/// Makes items, figures and a tiny model, and runs the pipeline on them with two workers.
pub async fn demo(args: DemoArgs, stop: CancellationToken) -> Result<ExitCode, Failure> {
    let folder = args.dir.clone();
    let made = tokio::task::spawn_blocking(move || demo::make(&folder))
        .await
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))?
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
    let dir = args.dir.display();
    println!("made {} items, {} figures and a tiny random model in {dir}", made.items, made.figures);
    let out = args.dir.join("embeddings.npz");
    let run_args = RunArgs {
        input: InputArgs::of(&made.item_files, &made.images),
        embedding: EmbeddingArgs::of(&made.model, SHARD_SIZE),
        output: OutputArgs::of(&out),
        store: StoreArgs { store: Some(args.dir.join("store").display().to_string()), run: None },
        workers: 2,
        device: DeviceChoice::Cpu,
    };
    let code = run(run_args, &FileSettings::default(), stop).await?;
    println!(
        "\nThe model's weights are random: these vectors mean nothing. They show the way of the real ones.\n\
         Look at them:     python3 -c \"import numpy; f = numpy.load('{}', allow_pickle=False); \
         print(f['item_ids'][:3], f['embeddings'].shape, f['image_counts'].sum())\"\n\
         Look at a figure: {}\n\
         Look at what was not complete: {dir}/store/runs/*/failed.jsonl",
        out.display(),
        made.example.display()
    );
    Ok(code)
}
