//! `worker bench`: how fast this machine embeds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use shared::exit::ExitCode;
use shared::settings::EmbeddingChoices;

use super::Failure;
use super::work::BatchTokens;
use crate::bench::mix::{self, ItemSize};
use crate::bench::model;
use crate::bench::pipeline::Scene;
use crate::bench::shape::Shape;
use crate::device::{self, Device, DeviceChoice, DeviceError, parse_memory};
use crate::embedder::Embedder;
use crate::load::default_dtype;
use crate::prompt::Prompt;
use crate::qwen3_vl::QwenEmbedder;
use crate::qwen3_vl::budget::budget;
use crate::qwen3_vl::started::start;

/// What to measure.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The shape of the model, with random weights: 8b or 2b
    #[arg(long, value_name = "8b|2b")]
    shape: Shape,
    /// Sizes of the items; without it, the largest items that the defaults allow
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    /// From bundles with picture files through to written parts, beside the model alone
    #[arg(long, requires_all = ["mix", "tokenizer"], conflicts_with_all = ["repeats", "profile"])]
    pipeline: bool,
    /// The tokenizer.json of a Qwen3-VL model, for --pipeline
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Times the pipeline goes through the mix in one run
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    passes: u32,
    /// auto, cpu or cuda:N; for --pipeline also several, as cuda:0,1 or cuda:all
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Text tokens plus vision patches of one batch: a number, or auto
    #[arg(long, default_value = "auto", value_name = "N|auto", value_parser = super::work::batch_tokens)]
    batch_tokens: BatchTokens,
    /// Use no more memory of the device than this (22GiB), and hold the rest
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    gpu_memory: Option<u64>,
    /// Runs over all items; the median is reported
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Say where the time of the device goes, kernel by kernel
    #[arg(long)]
    profile: bool,
}

/// Measures and prints.
pub async fn bench(args: BenchArgs) -> Result<ExitCode, Failure> {
    if args.pipeline {
        return through_the_pipeline(&args).await;
    }
    tokio::task::spawn_blocking(move || model_alone(&args))
        .await
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))?
}

fn unexpected(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(ExitCode::Unexpected, error)
}

/// Items through the model, batches back to back.
fn model_alone(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let device = args.open()?;
    let config = args.shape.config();
    let dtype = device::dtype(default_dtype(&device));
    let peak = model::product_peak(&device).map_err(unexpected)?;
    let qwen = model::random_model(&config, dtype, &device).map_err(unexpected)?;
    let items = match &args.mix {
        Some(path) => mix::items(&sizes(path)?, &config),
        None => model::worst_items(&config),
    };
    let budget = args.batch_tokens.budget(budget(&config, dtype, &device).map_err(unexpected)?);
    let tokens: usize = items.iter().map(|item| item.token_ids.len()).sum();
    println!(
        "{} on {}: {} items, {:.1} tokens an item, batches of {} tokens and patches, product peak {peak:.1} TFLOP/s",
        args.shape,
        device::kind(&device).map_err(unexpected)?,
        items.len(),
        tokens as f64 / items.len().max(1) as f64,
        budget.0,
    );
    let run = || {
        model::run(&items, &config, budget, |batch| start(&qwen, batch, config.text.hidden_size))
            .map_err(unexpected)
    };
    // The first run loads kernels and takes memory.
    run()?;
    let mut runs = (0..args.repeats).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by(|a, b| a.items_per_second.total_cmp(&b.items_per_second));
    for one in &runs {
        println!("  {:.2} items/s, device busy {:.1} %", one.items_per_second, 100.0 * one.busy);
    }
    let median = runs[runs.len() / 2];
    println!(
        "median: {:.2} items/s, {:.1} useful TFLOP/s, {:.1} % of the product peak, device busy {:.1} %",
        median.items_per_second,
        median.useful_teraflops,
        100.0 * median.useful_teraflops / peak,
        100.0 * median.busy
    );
    #[cfg(feature = "cuda")]
    gpu_report(args, &device, || run().map(|_| ()))?;
    Ok(ExitCode::Done)
}

/// What the run took of the card, and where its time went.
#[cfg(feature = "cuda")]
fn gpu_report(
    args: &BenchArgs,
    device: &Device,
    run: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(gpu) = crate::kernels::cuda::Gpu::of_device(device).map_err(unexpected)? else { return Ok(()) };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let (total, used) = gpu.memory().map_err(unexpected)?;
    let held = args.gpu_memory.map_or(0, |limit| total.saturating_sub(limit));
    println!(
        "memory: {:.2} GiB at most in tensors, {:.2} GiB of the card with everything else",
        gib(gpu.peak_memory().map_err(unexpected)?),
        gib(used - held)
    );
    if !args.profile {
        return Ok(());
    }
    gpu.start_profile();
    run()?;
    let spent = gpu.end_profile().map_err(unexpected)?;
    let sum: f64 = spent.iter().map(|one| one.milliseconds).sum();
    for one in spent {
        let share = 100.0 * one.milliseconds / sum;
        println!("{:>10.2} ms {share:>5.1} % {:>7} launches  {}", one.milliseconds, one.launches, one.name);
    }
    Ok(())
}

/// The same items through a worker's pipeline and through the model alone.
async fn through_the_pipeline(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let (Some(mix), Some(tokenizer)) = (&args.mix, &args.tokenizer) else {
        return Err(Failure::usage("--pipeline needs --mix and --tokenizer"));
    };
    let sizes = sizes(mix)?;
    let devices = args.device.open_all().map_err(|error| Failure::new(ExitCode::Usage, error))?;
    let config = args.shape.config();
    let dtype = default_dtype(&devices[0]);
    let settings =
        EmbeddingChoices::default().resolve(dtype, config.text.hidden_size as u32).map_err(unexpected)?;
    let prompt = || {
        Prompt::from_file(tokenizer, &settings.instruction, settings.max_length as usize)
            .map_err(|error| Failure::new(ExitCode::Input, error))
    };
    let counting = prompt()?;
    let folder = tempfile::tempdir().map_err(unexpected)?;
    let tokens_of = |text: &str| counting.count(text).unwrap_or_default();
    let scene = Scene::new(folder.path(), &sizes, args.passes as usize, &settings, tokens_of)
        .await
        .map_err(unexpected)?;
    device::share_memory(&devices, args.gpu_memory).map_err(|error| Failure::new(ExitCode::Usage, error))?;
    let load = |device: &Device| {
        let model = model::random_model(&config, device::dtype(dtype), device).map_err(unexpected)?;
        Ok(Arc::new(QwenEmbedder::new(model, prompt()?, &settings).map_err(unexpected)?) as Arc<dyn Embedder>)
    };
    let embedders = devices.iter().map(load).collect::<Result<Vec<_>, Failure>>()?;
    let embedder = Arc::clone(&embedders[0]);
    let budget = args.batch_tokens.budget(embedder.default_budget());
    let items = scene.prepare(embedder.as_ref()).map_err(unexpected)?;
    let alone = || model::run(&items, &config, budget, |batch| embedder.start(batch)).map_err(unexpected);
    alone()?;
    let alone = alone()?;
    let devices = embedders.len();
    let worked = scene.work(embedders, budget).await.map_err(unexpected)?;
    println!(
        "{} on {}: {} items from {} bundles\n  model alone: {:.2} items/s\n  pipeline:    {:.2} items/s, \
         {:.1} % of the model alone on {devices} device(s), busy {:.1} %",
        args.shape,
        embedder.device(),
        items.len(),
        scene.bundles(),
        alone.items_per_second,
        worked.items_per_second,
        100.0 * worked.items_per_second / (alone.items_per_second * devices as f64),
        100.0 * worked.busy
    );
    Ok(ExitCode::Done)
}

impl BenchArgs {
    fn open(&self) -> Result<Device, Failure> {
        let usage = |error: DeviceError| Failure::new(ExitCode::Usage, error);
        let device = self.device.open().map_err(usage)?;
        device::share_memory(std::slice::from_ref(&device), self.gpu_memory).map_err(usage)?;
        Ok(device)
    }
}

fn sizes(path: &Path) -> Result<Vec<ItemSize>, Failure> {
    mix::read(path).map_err(|error| Failure::new(ExitCode::Input, error))
}
