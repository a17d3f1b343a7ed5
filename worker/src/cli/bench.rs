//! `worker bench`: how fast this machine embeds.

use std::path::PathBuf;

use clap::Args;
use shared::exit::ExitCode;

use super::Failure;
use super::work::BatchTokens;
use crate::bench::{mix, model, shape::Shape};
use crate::device::{self, DeviceChoice, parse_memory};
use crate::load::default_dtype;
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
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// Text tokens plus vision patches of one batch: a number, or auto
    #[arg(long, default_value = "auto", value_name = "N|auto", value_parser = super::work::batch_tokens)]
    batch_tokens: BatchTokens,
    /// Use no more memory of the device than this: 22GiB
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
pub fn bench(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let unexpected = |error: candle_core::Error| Failure::new(ExitCode::Unexpected, error);
    let device = args.device.open().map_err(|error| Failure::new(ExitCode::Usage, error))?;
    device::limit_memory(&device, args.gpu_memory).map_err(|error| Failure::new(ExitCode::Usage, error))?;
    let config = args.shape.config();
    let dtype = device::dtype(default_dtype(&device));
    let peak = model::product_peak(&device).map_err(unexpected)?;
    let qwen = model::random_model(&config, dtype, &device).map_err(unexpected)?;
    let items = match &args.mix {
        Some(path) => {
            let sizes = mix::read(path).map_err(|error| Failure::new(ExitCode::Input, error))?;
            mix::items(&sizes, &config)
        }
        None => model::worst_items(&config),
    };
    let budget = args.batch_tokens.budget(budget(&config, dtype, &device).map_err(unexpected)?);
    let tokens: usize = items.iter().map(|item| item.token_ids.len()).sum();
    println!(
        "{} on {}: {} items, {:.1} tokens an item, batches of {} tokens and patches, product peak {peak:.1} TFLOP/s",
        model::name(args.shape),
        device::kind(&device).map_err(unexpected)?,
        items.len(),
        tokens as f64 / items.len().max(1) as f64,
        budget.0,
    );
    let run = || {
        model::run(&items, &config, budget, |batch| start(&qwen, batch, config.text.hidden_size))
            .map_err(|error| Failure::new(ExitCode::Unexpected, error))
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
    if let Some(gpu) = crate::kernels::cuda::Gpu::of_device(&device).map_err(unexpected)? {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let (total, used) = gpu.memory().map_err(unexpected)?;
        let held = args.gpu_memory.map_or(0, |limit| total.saturating_sub(limit));
        println!(
            "memory: {:.2} GiB at most in tensors, {:.2} GiB of the card with everything else",
            gib(gpu.peak_memory().map_err(unexpected)?),
            gib(used - held)
        );
        if args.profile {
            gpu.start_profile();
            run()?;
            let spent = gpu.end_profile().map_err(unexpected)?;
            let sum: f64 = spent.iter().map(|one| one.milliseconds).sum();
            for one in spent {
                println!(
                    "{:>10.2} ms {:>5.1} % {:>7} launches  {}",
                    one.milliseconds,
                    100.0 * one.milliseconds / sum,
                    one.launches,
                    one.name
                );
            }
        }
    }
    Ok(ExitCode::Done)
}
