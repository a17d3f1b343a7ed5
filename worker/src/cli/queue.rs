//! Where the worker's queue is: flag, environment, settings file.

use std::path::PathBuf;

use clap::Args;
use shared::settings::{FileSettings, QueueAddress, QueueUrl, TlsFlags, environment};

use super::Failure;

/// The queue. The environment variables of the TLS settings also take PEM text, so they are read where
/// the settings are resolved.
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// The queue: redis:// or rediss://
    #[arg(long, env = environment::QUEUE, value_name = "URL", hide_env_values = true)]
    queue: Option<QueueUrl>,
    /// PEM file of the only CA to trust for rediss:// [env: FLEET_QUEUE_CA, also as PEM text]
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    queue_ca: Option<PathBuf>,
    /// PEM file of the certificate to show to the queue [env: FLEET_QUEUE_CERT, also as PEM text]
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    queue_cert: Option<PathBuf>,
    /// PEM file of that certificate's private key [env: FLEET_QUEUE_KEY, also as PEM text]
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    queue_key: Option<PathBuf>,
}

impl QueueArgs {
    /// The queue of a worker: another process's.
    pub fn address(&self, file: &FileSettings) -> Result<QueueAddress, Failure> {
        let url = self.queue.clone().or_else(|| file.queue.clone()).ok_or_else(|| {
            Failure::usage("no queue: pass --queue redis://..., set FLEET_QUEUE, or write queue = \"...\" into embed-fleet.toml")
        })?;
        if url.is_memory() {
            return Err(Failure::usage(
                "memory: is a queue inside one process; `coordinator run` works with it, a worker needs --queue redis://...",
            ));
        }
        let flags = TlsFlags {
            ca: self.queue_ca.clone(),
            certificate: self.queue_cert.clone(),
            key: self.queue_key.clone(),
        };
        Ok(QueueAddress::resolve(url, &flags, file)?)
    }
}
