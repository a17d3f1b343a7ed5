//! `worker embed`: one item, its vector as JSON.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use shared::exit::ExitCode;
use shared::model::{ModelError, ModelRef, Places, local_copy, resolve};
use shared::settings::{EmbeddingChoices, FileSettings, environment};

use super::Failure;
use crate::device::DeviceChoice;
use crate::load;

/// One item and the model that embeds it.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// A folder, a hub id with an optional @revision, a store URL, or hash:DIM
    #[arg(long, env = environment::MODEL, value_name = "MODEL")]
    model: Option<String>,
    /// The text; without it and without images the literal NULL is embedded
    #[arg(long)]
    text: Option<String>,
    /// An image file; may be given several times
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,
    /// The precision: f32 on a CPU and bf16 on CUDA unless given
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<shared::plan::Dtype>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What decides a vector beside model and item.
#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// The instruction
    #[arg(long)]
    instruction: Option<String>,
    /// The largest image in pixels
    #[arg(long, value_name = "N")]
    max_pixels: Option<u32>,
    /// The most tokens of an item
    #[arg(long, value_name = "N")]
    max_length: Option<u32>,
    /// Components of the vector: the first of the model's own
    #[arg(long, value_name = "N")]
    dim: Option<u32>,
}

/// Embeds one item. An image that cannot be used is an error here: there is no run to note it in.
pub async fn embed(args: EmbedArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    let name = args.model.clone().or_else(|| file.model.clone()).ok_or_else(|| {
        Failure::usage(
            "no model: pass --model, set FLEET_MODEL, or write model = \"...\" into embed-fleet.toml",
        )
    })?;
    let wanted: ModelRef =
        name.parse().map_err(|error: ModelError| Failure::new(error.exit_code(), error))?;
    let places = Places::from_environment(None);
    let resolved = resolve(&wanted, &places).await.map_err(|error| Failure::new(error.exit_code(), error))?;
    let device = args.device.open().map_err(|error| Failure::new(ExitCode::Usage, error))?;
    let model = local_copy(&resolved.record, None, &places)
        .await
        .map_err(|error| Failure::new(error.exit_code(), error))?;
    let SettingsArgs { instruction, max_pixels, max_length, dim } = args.settings;
    let choices = EmbeddingChoices {
        instruction: instruction.or_else(|| file.instruction.clone()),
        max_pixels: max_pixels.or(file.max_pixels),
        max_length: max_length.or(file.max_length),
        dim: dim.or(file.dim),
        text_template: None,
    };
    let dtype = args.dtype.unwrap_or_else(|| load::default_dtype(&device));
    let settings =
        choices.resolve(dtype, resolved.dim).map_err(|error| Failure::new(ExitCode::Usage, error))?;
    let images = read_images(&args.images)?;
    let text = args.text;
    let vector = tokio::task::spawn_blocking(move || -> Result<Vec<f32>, Failure> {
        let embedder = load::embedder(&model, &settings, &device)
            .map_err(|error| Failure::new(ExitCode::Input, error))?;
        let mut prepared = Vec::with_capacity(images.len());
        for (path, bytes) in &images {
            let image = embedder.prepare_image(bytes).map_err(|error| {
                Failure::new(ExitCode::Input, anyhow::anyhow!("{} {error}", path.display()))
            })?;
            prepared.push(image);
        }
        let item = embedder.prepare_item(text.as_deref(), prepared).map_err(|error| {
            Failure::new(ExitCode::Input, anyhow::anyhow!("the item cannot be embedded: {error}"))
        })?;
        let mut rows = embedder.embed(&[item]).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
        Ok(rows.pop().unwrap_or_default())
    })
    .await
    .map_err(|error| Failure::new(ExitCode::Unexpected, error))??;
    println!("{}", json!(vector));
    Ok(ExitCode::Done)
}

fn read_images(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    paths
        .iter()
        .map(|path| {
            let bytes = std::fs::read(path).map_err(|error| {
                Failure::new(
                    ExitCode::Input,
                    anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
                )
            })?;
            Ok((path.clone(), bytes))
        })
        .collect()
}
