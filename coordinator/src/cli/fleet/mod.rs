//! Rented boxes on the command line: `launch`, `instances`, `logs`, `destroy`.

mod destroy;
mod equip;
mod instances;
mod launch;
mod logs;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use shared::ids::{RunId, WorkerId};
use shared::settings::FileSettings;
use shared::store::Store;

pub use destroy::{DestroyArgs, destroy};
pub use instances::{InstancesArgs, instances};
pub use launch::{LaunchArgs, launch};
pub use logs::{LogsArgs, logs};

use super::args::StoreArgs;
use crate::context::run_of;
use crate::dollars::Dollars;
use crate::failure::Failure;
use crate::fleet::journal::{Journal, JournalError};
use crate::fleet::state::Fleet;
use crate::provider::Provider;
use crate::provider::local::Local;
use crate::provider::vast::{ApiKey, DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, Vast};

/// Where boxes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProviderName {
    /// The market of Vast.ai.
    Vast,
    /// Child processes of this machine, one for each of its GPUs.
    Local,
}

impl ProviderName {
    /// Its name in a fleet's record.
    fn name(self) -> &'static str {
        match self {
            Self::Vast => "vast",
            Self::Local => "local",
        }
    }
}

/// How the provider is reached.
#[derive(Debug, Clone, Args)]
pub struct ProviderArgs {
    /// Where boxes come from; that of the run's fleet is the default, and vast for a new one
    #[arg(long, value_enum)]
    provider: Option<ProviderName>,
    /// Another server than Vast.ai's
    #[arg(long, env = URL_VARIABLE, default_value = DEFAULT_URL, value_name = "URL", hide = true)]
    vast_url: url::Url,
    /// A factor on the pauses between calls of the market
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", hide = true)]
    api_pace: f64,
    /// Where boxes of this machine keep their logs
    #[arg(long, value_name = "DIR")]
    local_folder: Option<PathBuf>,
    /// What an hour of a box of this machine counts as
    #[arg(long, default_value = "0", value_name = "DOLLARS")]
    local_price: Dollars,
    /// The worker program; that beside this one is the default for boxes of this machine
    #[arg(long, value_name = "FILE")]
    worker_binary: Option<PathBuf>,
}

impl ProviderArgs {
    /// Which provider is meant.
    fn name(&self, fleet: &Fleet) -> ProviderName {
        let recorded = fleet.opened.as_ref().map(|(_, opened)| opened.provider.as_str());
        self.provider.unwrap_or(if recorded == Some("local") {
            ProviderName::Local
        } else {
            ProviderName::Vast
        })
    }

    /// Opens it. Without a GPU this machine has room for `cpu_boxes`.
    fn open(&self, name: ProviderName, cpu_boxes: u32) -> Result<Arc<dyn Provider>, Failure> {
        match name {
            ProviderName::Vast => {
                if !(self.api_pace.is_finite() && self.api_pace >= 0.0) {
                    return Err(Failure::usage("--api-pace must be 0 or more"));
                }
                let key = ApiKey::from_environment().ok_or_else(|| {
                    Failure::usage(format!(
                        "no key of Vast.ai: set {KEY_VARIABLE}, or write it into ~/.config/vastai/vast_api_key"
                    ))
                })?;
                Ok(Arc::new(Vast::open(self.vast_url.clone(), key, self.api_pace)?))
            }
            ProviderName::Local => {
                let folder = self.local_folder.clone().unwrap_or_else(default_folder);
                Ok(Arc::new(Local::open(&folder, self.local_worker()?, self.local_price, cpu_boxes)?))
            }
        }
    }

    /// The worker for boxes of this machine.
    fn local_worker(&self) -> Result<PathBuf, Failure> {
        let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("worker"));
        let worker = self.worker_binary.clone().map_or_else(beside, Ok)?;
        std::path::absolute(&worker).map_err(Failure::from)
    }
}

/// The account of a provider; refused where boxes of the fleet may live on another: there they would not be found, and
/// be taken for gone.
async fn account_of(provider: &dyn Provider, fleet: &Fleet) -> Result<String, Failure> {
    let account = provider.account().await?;
    match &fleet.opened {
        Some((_, opened)) if opened.account != account && fleet.live().next().is_some() => {
            Err(Failure::usage(format!(
                "boxes of this run may be on {}, and this is {account}: go on there, or end them there by `coordinator \
                 destroy --all`",
                opened.account
            )))
        }
        _ => Ok(account),
    }
}

/// `$XDG_STATE_HOME/embed-fleet/boxes`.
fn default_folder() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let state = std::env::var_os("XDG_STATE_HOME").map_or_else(|| home.join(".local/state"), PathBuf::from);
    state.join("embed-fleet/boxes")
}

/// The run's fleet as written down.
async fn journal(store: &Store, run: &RunId) -> Result<Journal, JournalError> {
    Journal::open(store, run, me()).await
}

/// Who writes: this machine, and something no other process has.
fn me() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    WorkerId::fresh(host.trim()).to_string()
}

/// The store, the run in it, and its fleet.
async fn open(args: &StoreArgs, file: &FileSettings) -> Result<(Store, RunId, Journal), Failure> {
    let store = args.open(file)?;
    let run = run_of(&store, args.run(file)).await?;
    let journal = journal(&store, &run).await?;
    Ok((store, run, journal))
}
