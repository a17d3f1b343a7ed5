//! Arguments that several commands share, and their resolution: flag, environment, settings file.

use clap::Args;
use shared::ids::RunId;
use shared::settings::{FileSettings, QueueUrl, environment};
use shared::store::Store;

use crate::failure::Failure;

/// Where `run` keeps its store when none is named.
pub const DEFAULT_STORE: &str = "./embed-fleet-store";

/// The store and the run in it.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// The store: a path, file:, s3://, gs:// or az://
    #[arg(long, env = environment::STORE, value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,
    /// The run; the only one in the store is the default
    #[arg(long, env = environment::RUN, value_name = "ID")]
    pub run: Option<RunId>,
}

impl StoreArgs {
    /// Opens the store.
    pub fn open(&self, file: &FileSettings) -> Result<Store, Failure> {
        Ok(Store::open(&self.url(file)?)?)
    }

    /// Opens the store, making a local folder where it is missing.
    pub fn open_or_create(&self, file: &FileSettings) -> Result<Store, Failure> {
        Ok(Store::open_or_create(&self.url(file)?)?)
    }

    /// The run as named.
    pub fn run(&self, file: &FileSettings) -> Option<RunId> {
        self.run.clone().or_else(|| file.run.clone())
    }

    fn url(&self, file: &FileSettings) -> Result<String, Failure> {
        self.store.clone().or_else(|| file.store.clone()).ok_or_else(|| {
            Failure::usage(
                "no store: pass --store, set FLEET_STORE, or write store = \"...\" into embed-fleet.toml",
            )
        })
    }
}

/// The queue.
#[derive(Debug, Clone, Args)]
pub struct QueueArgs {
    /// The queue: redis:// or rediss://
    #[arg(long, env = environment::QUEUE, value_name = "URL", hide_env_values = true)]
    pub queue: Option<QueueUrl>,
}

impl QueueArgs {
    /// The queue as named, if it is.
    pub fn url(&self, file: &FileSettings) -> Option<QueueUrl> {
        self.queue.clone().or_else(|| file.queue.clone())
    }

    /// The queue as named.
    pub fn required(&self, file: &FileSettings) -> Result<QueueUrl, Failure> {
        self.url(file).ok_or_else(|| {
            Failure::usage("no queue: pass --queue redis://..., set FLEET_QUEUE, or write queue = \"...\" into embed-fleet.toml")
        })
    }
}
