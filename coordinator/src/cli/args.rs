//! Arguments that several commands share, and their resolution: flag, environment, settings file.

use std::path::PathBuf;

use clap::Args;
use shared::ids::RunId;
use shared::settings::{FileSettings, QueueAddress, QueueUrl, TlsFlags, environment};
use shared::store::Store;

use crate::failure::Failure;

/// Where `run` keeps its store when none is named.
#[cfg(feature = "local")]
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

    /// The store as named.
    pub fn url(&self, file: &FileSettings) -> Result<String, Failure> {
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
    #[command(flatten)]
    tls: TlsArgs,
}

/// TLS of a rediss:// queue. The environment variables also take PEM text, so they are read where the
/// settings are resolved.
#[derive(Debug, Clone, Args)]
pub struct TlsArgs {
    /// PEM file of the only CA to trust for rediss:// [env: FLEET_QUEUE_CA, also as PEM text]
    #[arg(long = "queue-ca", value_name = "FILE", allow_hyphen_values = true)]
    ca: Option<PathBuf>,
    /// PEM file of the certificate to show to the queue [env: FLEET_QUEUE_CERT, also as PEM text]
    #[arg(long = "queue-cert", value_name = "FILE", allow_hyphen_values = true)]
    certificate: Option<PathBuf>,
    /// PEM file of that certificate's private key [env: FLEET_QUEUE_KEY, also as PEM text]
    #[arg(long = "queue-key", value_name = "FILE", allow_hyphen_values = true)]
    key: Option<PathBuf>,
}

impl QueueArgs {
    /// The queue as named, if it is.
    pub fn address(&self, file: &FileSettings) -> Result<Option<QueueAddress>, Failure> {
        let Some(url) = self.queue.clone().or_else(|| file.queue.clone()) else {
            return Ok(None);
        };
        let TlsArgs { ca, certificate, key } = self.tls.clone();
        let flags = TlsFlags { ca, certificate, key };
        Ok(Some(QueueAddress::resolve(url, &flags, file)?))
    }

    /// The queue as named.
    pub fn required(&self, file: &FileSettings) -> Result<QueueAddress, Failure> {
        self.address(file)?.ok_or_else(|| {
            Failure::usage("no queue: pass --queue redis://..., set FLEET_QUEUE, or write queue = \"...\" into embed-fleet.toml")
        })
    }
}
