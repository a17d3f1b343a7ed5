//! The plan's model: found on this machine or brought here, and loaded on the devices, once at the start and
//! again after a search for items that kill.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::exit::ExitCode;
use shared::model::{LocalModel, ModelRecord, Places, local_copy};
use shared::plan::{EmbeddingSettings, Plan};
use shared::store::Store;

use super::Failure;
use crate::device::{Device, DeviceChoice, DeviceError, share_memory};
use crate::embedder::{BatchBudget, Embedder};
use crate::isolate::Isolation;
use crate::isolate::probe::Wrap;
use crate::load;

/// What is loaded on what.
#[derive(Clone)]
pub struct Loader {
    /// The model on this machine.
    pub model: LocalModel,
    /// The plan's settings.
    pub settings: EmbeddingSettings,
    /// The devices.
    pub device: DeviceChoice,
    /// How much of each may be used.
    pub gpu_memory: Option<u64>,
    /// What this program changes in an embedder.
    pub wrap: Wrap,
}

/// The plan's model on this machine, fetched where it is not here.
pub async fn find_model(own: Option<&Path>, store: &Store, plan: &Plan) -> Result<LocalModel, Failure> {
    let started = Instant::now();
    let places = Places::from_environment(Some(store.clone()));
    // FLEET_MODEL is often set alike for the coordinator and its workers: the plan's own name for the model
    // is no local copy.
    let own = own.filter(|own| own.is_dir() || !names(own, &plan.model));
    let model = local_copy(&plan.model, own, &places)
        .await
        .map_err(|error| Failure::new(error.exit_code(), error))?;
    tracing::info!(model = %plan.model.name, "the model was found in {:.1} s", started.elapsed().as_secs_f64());
    Ok(model)
}

/// Loads a model of so many bytes without holding up what else goes on.
pub async fn load_in_background(loader: &Loader, bytes: u64) -> Result<Vec<Arc<dyn Embedder>>, Failure> {
    let started = Instant::now();
    let loader = loader.clone();
    let embedders = tokio::task::spawn_blocking(move || loader.load())
        .await
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))??;
    let loaded = started.elapsed().as_secs_f64();
    tracing::info!(
        devices = embedders.len(),
        "the model was loaded in {loaded:.1} s ({:.2} GB/s)",
        bytes as f64 / 1e9 / loaded
    );
    Ok(embedders)
}

/// The vector of an item with nothing in it.
pub async fn null_vector_of(embedder: &Arc<dyn Embedder>) -> Result<Arc<[f32]>, Failure> {
    let embedder = Arc::clone(embedder);
    tokio::task::spawn_blocking(move || load::null_vector(embedder.as_ref()))
        .await
        .map_err(|error| Failure::new(ExitCode::Unexpected, error))?
        .map_err(|error| Failure::new(ExitCode::Input, error))
}

impl Loader {
    /// The model on each device; never empty.
    fn load(&self) -> Result<Vec<Arc<dyn Embedder>>, Failure> {
        let usage = |error: DeviceError| Failure::new(ExitCode::Usage, error);
        let devices = self.device.open_all().map_err(usage)?;
        share_memory(&devices, self.gpu_memory).map_err(usage)?;
        let load = |device: &Device| {
            load::trust(device, self.settings.dtype)?;
            Ok((self.wrap)(load::embedder(&self.model, &self.settings, device)?))
        };
        let embedders = devices.iter().map(load).collect::<Result<Vec<_>, load::EmbedderError>>();
        of_one_kind(embedders.map_err(|error| Failure::new(error.exit_code(), error))?)
    }

    /// How items that kill are searched for with this model on these devices.
    pub fn isolation(
        &self,
        program: PathBuf,
        budget: BatchBudget,
        memory: Option<u64>,
        step_limit: Duration,
    ) -> Isolation {
        let loader = self.clone();
        Isolation {
            program,
            model: self.model.clone(),
            settings: self.settings.clone(),
            device: self.device.to_string(),
            gpu_memory: self.gpu_memory,
            budget,
            memory,
            step_limit,
            load: Arc::new(move || loader.load().map_err(|failure| format!("{:#}", failure.error))),
        }
    }
}

/// Parts name one device and one budget: a worker takes devices of one kind.
fn of_one_kind(embedders: Vec<Arc<dyn Embedder>>) -> Result<Vec<Arc<dyn Embedder>>, Failure> {
    let kind =
        |embedder: &Arc<dyn Embedder>| (embedder.device(), embedder.memory(), embedder.default_budget());
    let first = kind(&embedders[0]);
    match embedders.iter().map(kind).find(|other| *other != first) {
        None => Ok(embedders),
        Some(other) => Err(Failure::usage(&format!(
            "{} and {} are not of one kind: start a worker for each, with --device cuda:0, --device cuda:1 and so on",
            first.0, other.0
        ))),
    }
}

/// Whether this is what the plan calls its model, with or without a revision.
fn names(own: &Path, model: &ModelRecord) -> bool {
    let own = own.to_string_lossy();
    own.split('@').next() == Some(model.name.as_str())
}
