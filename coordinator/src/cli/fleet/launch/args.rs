//! What `launch` is told, and what follows from it: rules, and what an offer must have.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use shared::settings::parse_duration;

use super::super::equip::WorkerSource;
use super::super::{ProviderArgs, ProviderName};
use crate::cli::args::{QueueArgs, StoreArgs};
use crate::dollars::Dollars;
use crate::failure::Failure;
use crate::fleet::rules::{Deadlines, Rules};
use crate::fleet::speeds::FILE_NAME;
use crate::merge::Run;
use crate::provider::{Region, Wanted};

/// A stock image with CUDA's libraries (Ubuntu 24.04).
pub(super) const IMAGE: &str = "nvidia/cuda:13.0.1-runtime-ubuntu24.04";

/// Boxes end by then: what is signed for them holds for seven days at most.
const LONGEST: Duration = Duration::from_secs(6 * 24 * 60 * 60);

/// Gigabytes of disk beside the model: worker, caches, logs.
const DISK_BESIDE: f64 = 12.0;

/// Bytes of a GPU's memory beside the model's weights.
const MEMORY_BESIDE: f64 = 2.5e9;

/// What to rent, for how much.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct LaunchArgs {
    #[command(flatten)]
    pub(super) store: StoreArgs,
    #[command(flatten)]
    pub(super) queue: QueueArgs,
    #[command(flatten)]
    pub(super) provider: ProviderArgs,
    /// Boxes at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) workers: u32,
    /// GPUs to take, any of them: "RTX 4090,RTX 3090"; all that have room for the model by default
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) gpu: Vec<String>,
    /// GPUs of one box
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) gpus_per_box: u32,
    /// The most for an hour of one box
    #[arg(long, value_name = "DOLLARS")]
    pub(super) max_price: Option<Dollars>,
    /// Rent boxes that a higher bid may take away
    #[arg(long)]
    pub(super) interruptible: bool,
    /// The most that is bid for an hour of an interruptible box; --max-price is the default
    #[arg(long, value_name = "DOLLARS", requires = "interruptible")]
    pub(super) bid: Option<Dollars>,
    /// The most for the whole run: workers drain and boxes are destroyed before it is exceeded
    #[arg(long, value_name = "DOLLARS")]
    pub(super) budget: Option<Dollars>,
    /// The most for an hour of all boxes
    #[arg(long, value_name = "DOLLARS")]
    pub(super) max_rate: Option<Dollars>,
    /// What must stay on the account
    #[arg(long, value_name = "DOLLARS", default_value = "1.00")]
    pub(super) balance_floor: Dollars,
    /// Boxes end after so many hours whatever happens
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    pub(super) max_hours: f64,
    /// A container image that has the worker
    #[arg(long, value_name = "IMAGE", conflicts_with = "worker_url")]
    pub(super) image: Option<String>,
    /// Where boxes may stand: country codes, or Europe, "North America", Asia, Oceania
    #[arg(long, value_name = "PLACES", default_value = "")]
    pub(super) region: Region,
    /// The market's measure of a machine, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    pub(super) min_reliability: f64,
    /// Gigabytes of disk; what the model needs by default
    #[arg(long, value_name = "GB", value_parser = clap::value_parser!(u32).range(8..=10_000))]
    pub(super) disk: Option<u32>,
    /// Where boxes fetch a gzipped worker, in place of --worker-binary
    #[arg(long, value_name = "URL", requires = "worker_sha256", conflicts_with = "worker_binary")]
    pub(super) worker_url: Option<url::Url>,
    /// The SHA-256 of that worker, unpacked
    #[arg(long, value_name = "HEX", requires = "worker_url")]
    pub(super) worker_sha256: Option<String>,
    /// NAME=VALUE lines for boxes: a FLEET_STORE or FLEET_QUEUE here takes the place of signed URLs or of users made for them
    #[arg(long, value_name = "FILE")]
    pub(super) worker_env: Option<PathBuf>,
    /// Arguments of the worker
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    pub(super) worker_args: Option<String>,
    /// Measured speeds, read before renting and written after a run
    #[arg(long, value_name = "FILE", default_value = FILE_NAME)]
    pub(super) speeds: PathBuf,
    /// Orders within an hour; three for each box and three more by default
    #[arg(long, value_name = "N")]
    pub(super) launches_per_hour: Option<u32>,
    /// Try machines again that failed before in this run
    #[arg(long)]
    pub(super) forget_bans: bool,
    /// Show offers, costs and the exact requests, and rent nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Go on in the background, with the log in RUN.launch.log
    #[arg(long)]
    pub(super) detach: bool,
    /// Ask no questions
    #[arg(long)]
    pub(super) yes: bool,
    /// The report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    deadlines: DeadlineArgs,
}

/// Deadlines, for other markets than the one they are made for.
#[derive(Debug, Clone, Args)]
struct DeadlineArgs {
    /// From an order until the box loads
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration, hide = true)]
    created_within: Duration,
    /// Without progress while it loads
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = parse_duration, hide = true)]
    loading_within: Duration,
    /// From running until the worker is heard, beside the time to fetch the model
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration, hide = true)]
    beat_within: Duration,
    /// Without a word of the worker
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration, hide = true)]
    silent_after: Duration,
    /// From draining until boxes are destroyed
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration, hide = true)]
    drain_within: Duration,
    /// What a box needs from running to its first item
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration, hide = true)]
    start_within: Duration,
    /// Between two looks
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, hide = true)]
    tick: Duration,
}

impl DeadlineArgs {
    fn resolve(&self) -> Deadlines {
        Deadlines {
            created: self.created_within.as_secs_f64(),
            loading: self.loading_within.as_secs_f64(),
            beat: self.beat_within.as_secs_f64(),
            silent: self.silent_after.as_secs_f64(),
            offline: self.beat_within.as_secs_f64(),
            resumed: self.beat_within.as_secs_f64(),
            drain: self.drain_within.as_secs_f64(),
            start: self.start_within.as_secs_f64(),
            tick: self.tick.as_secs_f64(),
        }
    }
}

impl LaunchArgs {
    /// Refuses what no launch can have.
    pub fn check(&self) -> Result<(), Failure> {
        if !(self.max_hours > 0.0 && self.max_hours <= LONGEST.as_secs_f64() / 3600.0) {
            return Err(Failure::usage(
                "--max-hours must be above 0 and at most 144: rights are signed for a week",
            ));
        }
        if !(0.0..=1.0).contains(&self.min_reliability) {
            return Err(Failure::usage("--min-reliability is a share between 0 and 1"));
        }
        if self.interruptible && self.bid.or(self.max_price).is_none() {
            return Err(Failure::usage("--interruptible needs --bid or --max-price: the most that is bid"));
        }
        if self.deadlines.tick.is_zero() {
            return Err(Failure::usage("--tick must be above 0"));
        }
        Ok(())
    }

    /// What the launcher keeps to.
    pub fn rules(&self) -> Rules {
        let hours = Duration::from_secs_f64(self.max_hours * 3600.0);
        let most = self.bid.or(self.max_price);
        Rules {
            workers: self.workers,
            budget: self.budget,
            max_price: self.max_price.filter(|_| !self.interruptible),
            max_rate: self.max_rate,
            balance_floor: self.balance_floor,
            max_bid: most.filter(|_| self.interruptible),
            launches_an_hour: self.launches_per_hour.unwrap_or(3 * self.workers + 3),
            until: Timestamp::now() + SignedDuration::try_from(hours).unwrap_or(SignedDuration::ZERO),
            deadlines: self.deadlines.resolve(),
        }
    }

    /// What an offer must have.
    pub fn wanted(&self, run: &Run) -> Wanted {
        let model = run.plan.model.bytes() as f64;
        let disk = (model / 1e9 * 1.15 + DISK_BESIDE).ceil() as u32;
        Wanted {
            gpus: self
                .gpu
                .iter()
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            gpus_per_box: self.gpus_per_box,
            gpu_memory: (model * 1.1 + MEMORY_BESIDE) as u64,
            interruptible: self.interruptible,
            max_price: if self.interruptible { self.bid.or(self.max_price) } else { self.max_price },
            min_reliability: self.min_reliability,
            region: self.region.clone(),
            disk_gb: self.disk.unwrap_or(disk),
            duration_seconds: (self.max_hours * 3600.0).round(),
        }
    }

    /// Where a box's worker comes from.
    pub fn worker(&self, provider: ProviderName) -> Result<WorkerSource, Failure> {
        match (&self.provider.worker_binary, &self.worker_url, &self.worker_sha256, &self.image) {
            (Some(program), ..) => Ok(WorkerSource::Program(program.clone())),
            (None, Some(url), Some(sha256), _) => Ok(WorkerSource::Url(url.clone(), sha256.to_lowercase())),
            (None, _, _, Some(_)) => Ok(WorkerSource::Image),
            _ if provider == ProviderName::Local => Ok(WorkerSource::Image),
            _ => Err(Failure::usage(
                "boxes need a worker: pass --worker-binary (built with --features cuda), --worker-url with \
                 --worker-sha256, or an --image that has one",
            )),
        }
    }
}
