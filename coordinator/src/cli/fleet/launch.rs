//! `launch`: rents boxes for a run, watches them, and destroys them when it is done.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use shared::exit::ExitCode;
use shared::queue::redis::RedisQueue;
use shared::queue::{Queue as _, QueueErrorKind, RunState, Snapshot};
use shared::settings::{FileSettings, QueueAddress, parse_duration};

use super::equip::{Equipment, WorkerSource, read_environment};
use super::{ProviderArgs, ProviderName, journal, table};
use crate::cli::args::{QueueArgs, StoreArgs};
use crate::context::{planned_run, queue_for_a_look};
use crate::dollars::Dollars;
use crate::failure::Failure;
use crate::fleet::journal::Journal;
use crate::fleet::label::{BoxId, Label};
use crate::fleet::launch::{BoxPlan, Launcher, ONSTART, Outcome, Signals, Tools};
use crate::fleet::rank::{Ranked, Work, rank};
use crate::fleet::rights::{Rights, variable};
use crate::fleet::rules::{Deadlines, Rules};
use crate::fleet::speeds::{FILE_NAME, Speed, Speeds, short_name};
use crate::fleet::view::{FleetView, Seen, text, view};
use crate::merge::Run;
use crate::provider::vast::DEFAULT_URL;
use crate::provider::{Order, Provider, Region, Wanted};
use crate::record::{Depth, read_record};
use crate::resume::resume;

/// A stock image with CUDA's libraries (Ubuntu 24.04).
const IMAGE: &str = "nvidia/cuda:13.0.1-runtime-ubuntu24.04";

/// Boxes end by then: what is signed for them holds for seven days at most.
const LONGEST: Duration = Duration::from_secs(6 * 24 * 60 * 60);

/// Gigabytes of disk beside the model: worker, caches, logs.
const DISK_BESIDE: f64 = 12.0;

/// Bytes of a GPU's memory beside the model's weights.
const MEMORY_BESIDE: f64 = 2.5e9;

/// A run measures a GPU's speed when its boxes worked for so long.
const MEASURED_SECONDS: f64 = 30.0;

/// What to rent, for how much.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    provider: ProviderArgs,
    /// Boxes at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// GPUs to take, any of them: "RTX 4090,RTX 3090"; all that have room for the model by default
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    gpu: Vec<String>,
    /// GPUs of one box
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus_per_box: u32,
    /// The most for an hour of one box
    #[arg(long, value_name = "DOLLARS")]
    max_price: Option<Dollars>,
    /// Rent boxes that a higher bid may take away
    #[arg(long)]
    interruptible: bool,
    /// The most that is bid for an hour of an interruptible box; --max-price is the default
    #[arg(long, value_name = "DOLLARS", requires = "interruptible")]
    bid: Option<Dollars>,
    /// The most for the whole run: workers drain and boxes are destroyed before it is exceeded
    #[arg(long, value_name = "DOLLARS")]
    budget: Option<Dollars>,
    /// The most for an hour of all boxes
    #[arg(long, value_name = "DOLLARS")]
    max_rate: Option<Dollars>,
    /// What must stay on the account
    #[arg(long, value_name = "DOLLARS", default_value = "1.00")]
    balance_floor: Dollars,
    /// Boxes end after so many hours whatever happens
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    max_hours: f64,
    /// A container image that has the worker
    #[arg(long, value_name = "IMAGE", conflicts_with = "worker_url")]
    image: Option<String>,
    /// Where boxes may stand: country codes, or Europe, "North America", Asia, Oceania
    #[arg(long, value_name = "PLACES", default_value = "")]
    region: Region,
    /// The market's measure of a machine, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    min_reliability: f64,
    /// Gigabytes of disk; what the model needs by default
    #[arg(long, value_name = "GB", value_parser = clap::value_parser!(u32).range(8..=10_000))]
    disk: Option<u32>,
    /// Where boxes fetch a gzipped worker, in place of --worker-binary
    #[arg(long, value_name = "URL", requires = "worker_sha256", conflicts_with = "worker_binary")]
    worker_url: Option<url::Url>,
    /// The SHA-256 of that worker, unpacked
    #[arg(long, value_name = "HEX", requires = "worker_url")]
    worker_sha256: Option<String>,
    /// NAME=VALUE lines for boxes: a FLEET_STORE or FLEET_QUEUE here takes the place of signed URLs or of users made for them
    #[arg(long, value_name = "FILE")]
    worker_env: Option<PathBuf>,
    /// Arguments of the worker
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    worker_args: Option<String>,
    /// Measured speeds, read before renting and written after a run
    #[arg(long, value_name = "FILE", default_value = FILE_NAME)]
    speeds: PathBuf,
    /// Orders within an hour; three for each box and three more by default
    #[arg(long, value_name = "N")]
    launches_per_hour: Option<u32>,
    /// Show offers, costs and the exact requests, and rent nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on in the background, with the log in RUN.launch.log
    #[arg(long)]
    detach: bool,
    /// Ask no questions
    #[arg(long)]
    yes: bool,
    /// The report as one JSON object
    #[arg(long)]
    json: bool,
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

/// Everything that is known before anything is rented.
struct Prepared {
    run: Run,
    provider: Arc<dyn Provider>,
    provider_name: ProviderName,
    queue: RedisQueue,
    journal: Journal,
    rules: Rules,
    boxes: BoxPlan,
    rights: Rights,
    speeds: Speeds,
    work: Work,
    ranked: Vec<Ranked>,
}

/// Rents, watches and destroys.
pub async fn launch(args: LaunchArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    args.check()?;
    let prepared = args.prepare(file).await?;
    let live = prepared.journal.fleet().live().count();
    let needed = (args.workers as usize).saturating_sub(live).min(prepared.ranked.len());
    if live > 0 {
        eprintln!("taking over {live} boxes of this run");
    }
    if prepared.work.items == 0 && live == 0 {
        println!("the run is finished: nothing is rented");
        return Ok(ExitCode::Done);
    }
    eprint!("{}", table::offers(&prepared.ranked, needed));
    eprint!("{}", table::estimate(&prepared.ranked[..needed], prepared.work));
    if args.dry_run {
        return show(&prepared, needed);
    }
    if needed == 0 && live == 0 {
        return Err(Failure::new(
            ExitCode::Incomplete,
            anyhow::anyhow!(
                "no offer holds what is wanted: try another --gpu, a higher --max-price or a wider --region"
            ),
        ));
    }
    if !args.yes && !confirmed(needed)? {
        eprintln!("nothing was rented");
        return Ok(ExitCode::Done);
    }
    if args.detach {
        return detach(&prepared.run);
    }
    args.work(prepared).await
}

impl LaunchArgs {
    fn check(&self) -> Result<(), Failure> {
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

    async fn prepare(&self, file: &FileSettings) -> Result<Prepared, Failure> {
        let store_url = self.store.url(file)?;
        let address = self.queue.required(file)?;
        let run = planned_run(self.store.open(file)?, self.store.run(file)).await?;
        let journal = journal(&run.store, &run.plan.run).await?;
        let provider_name = self.provider.name(journal.fleet());
        let provider = self.provider.open(provider_name, self.workers.saturating_mul(2))?;
        let queue = queue_for_a_look(&address, &run.plan.run)?;
        let snapshot = self.ready_queue(&queue, &run).await?;
        let items = snapshot.map_or(run.plan.counts.items, |snapshot| {
            snapshot.items_total.saturating_sub(snapshot.items_done + snapshot.items_failed)
        });
        let rules = self.rules();
        let wanted = self.wanted(&run);
        let rights = self.rights(&run, &store_url, &address, provider_name, rules.until).await?;
        let speeds = Speeds::read(&self.speeds).map_err(|error| Failure::new(ExitCode::Usage, error))?;
        let work = Work { items, boxes: self.workers, start_seconds: rules.deadlines.start };
        let ranked = match items {
            0 => Vec::new(),
            _ => rank(&provider.offers(&wanted).await?, &run.plan, &speeds, work, &journal.fleet().banned),
        };
        let image = self.image.clone().unwrap_or_else(|| IMAGE.to_owned());
        let boxes = BoxPlan { wanted, image, onstart: ONSTART.to_owned() };
        Ok(Prepared {
            run,
            provider,
            provider_name,
            queue,
            journal,
            rules,
            boxes,
            rights,
            speeds,
            work,
            ranked,
        })
    }

    /// The queue as it stands; rebuilt where it has lost the run, and going on where it was drained.
    async fn ready_queue(&self, queue: &RedisQueue, run: &Run) -> Result<Option<Snapshot>, Failure> {
        let snapshot = match queue.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind == QueueErrorKind::FunctionsMissing => None,
            Err(error) => return Err(error.into()),
        };
        if self.dry_run {
            return Ok(snapshot);
        }
        match snapshot {
            None => {
                eprintln!("the queue does not know the run; rebuilding it from the store");
                queue.check_server().await?;
                queue.load_functions().await?;
                let record = read_record(run, Depth::Tail).await?;
                resume(queue, run, &record, false).await?;
                Ok(queue.snapshot().await?)
            }
            Some(snapshot) => {
                match snapshot.state {
                    RunState::Draining => {
                        eprintln!("the run was draining; it goes on");
                        queue.unpause().await?;
                    }
                    RunState::Paused => {
                        eprintln!("the run is paused: boxes will wait for `coordinator resume`");
                    }
                    RunState::Running => {}
                }
                Ok(Some(snapshot))
            }
        }
    }

    fn rules(&self) -> Rules {
        let hours = Duration::from_secs_f64(self.max_hours * 3600.0);
        let most = self.bid.or(self.max_price);
        Rules {
            workers: self.workers,
            budget: self.budget,
            max_rate: self.max_rate,
            balance_floor: self.balance_floor,
            max_bid: most.filter(|_| self.interruptible),
            launches_an_hour: self.launches_per_hour.unwrap_or(3 * self.workers + 3),
            until: Timestamp::now() + SignedDuration::try_from(hours).unwrap_or(SignedDuration::ZERO),
            deadlines: self.deadlines.resolve(),
        }
    }

    fn wanted(&self, run: &Run) -> Wanted {
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

    async fn rights(
        &self,
        run: &Run,
        store_url: &str,
        queue: &QueueAddress,
        provider: ProviderName,
        until: Timestamp,
    ) -> Result<Rights, Failure> {
        let mut given = self.worker_env.as_deref().map(read_environment).transpose()?.unwrap_or_default();
        if let Some(arguments) = &self.worker_args {
            given.insert(variable::WORKER_ARGS.to_owned(), arguments.clone());
        }
        if provider == ProviderName::Vast
            && self.provider.vast_url.as_str().trim_end_matches('/') != DEFAULT_URL
        {
            let url = self.provider.vast_url.as_str().trim_end_matches('/').to_owned();
            given.insert(variable::VAST_URL.to_owned(), url);
        }
        let worker = self.worker(provider)?;
        let equipment =
            Equipment { run, store_url, queue, provider, worker, until, given, dry: self.dry_run };
        equipment.prepare().await
    }

    fn worker(&self, provider: ProviderName) -> Result<WorkerSource, Failure> {
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

    /// Launches, and reports.
    async fn work(&self, prepared: Prepared) -> Result<ExitCode, Failure> {
        let Prepared { run, provider, provider_name, queue, journal, rules, boxes, rights, speeds, .. } =
            prepared;
        let (plan, store) = (run.plan.clone(), run.store.clone());
        let signals = Signals::listen()?;
        let mut measured = speeds.clone();
        let queue = Some(queue);
        let tools = Tools { provider, queue, run, rules, boxes, rights, speeds, journal, signals };
        let mut launcher = Launcher::open(tools, provider_name.name()).await?;
        let outcome = launcher.run().await?;
        let seen = Seen {
            run: &plan.run,
            snapshot: None,
            items: Some(launcher.items_by_box()),
            now: Timestamp::now(),
        };
        let view = view(launcher.fleet(), seen);
        self.report(&view, &outcome, &store.url_of(""))?;
        if matches!(outcome, Outcome::Closed { .. }) && provider_name == ProviderName::Vast {
            self.keep_speeds(&mut measured, &short_name(&plan.model), &view)?;
        }
        Ok(outcome.exit_code())
    }

    fn report(&self, view: &FleetView, outcome: &Outcome, store: &str) -> Result<(), Failure> {
        if self.json {
            let json =
                serde_json::to_string(view).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
            println!("{json}");
        } else {
            print!("{}", text::fleet(view, true));
        }
        let run = &view.run;
        match outcome {
            Outcome::Closed { ending, .. } if outcome.exit_code() == ExitCode::Done => {
                eprintln!(
                    "{ending}: every box is gone; next: coordinator merge --run {run} --out embeddings.npz"
                );
            }
            Outcome::Closed { ending, .. } => eprintln!(
                "{ending}: every box is gone; what is finished lies in {store}, `coordinator status --run {run}` says \
                 what is left, and the same command (with a higher --budget, if that was it) goes on"
            ),
            Outcome::Left => eprintln!(
                "this launcher stops; its boxes work on, and `coordinator launch` takes them over; `coordinator destroy \
                 --all --run {run}` ends them"
            ),
            Outcome::Unconfirmed { ending, instances } => {
                let ids: Vec<String> = instances.iter().map(ToString::to_string).collect();
                eprintln!(
                    "error: {ending}, and these boxes could not be confirmed to be gone: {}. They may cost money: run \
                     `coordinator destroy --all --run {run}`, or look at the market's own page",
                    ids.join(", ")
                );
            }
        }
        Ok(())
    }

    /// Writes down how fast this run's GPUs were.
    fn keep_speeds(&self, speeds: &mut Speeds, model: &str, view: &FleetView) -> Result<(), Failure> {
        let mut new = 0;
        for kind in &view.cost.by_gpu {
            let Some(rate) = kind.items_per_second else { continue };
            if kind.items as f64 / rate < MEASURED_SECONDS {
                continue;
            }
            new += 1;
            speeds.measure(Speed {
                model: model.to_owned(),
                gpu: kind.gpu.clone(),
                items_per_second: (rate * 10.0).round() / 10.0,
                source: format!("measured: run {}, {} boxes, {} items", view.run, kind.boxes, kind.items),
            });
        }
        if new > 0 {
            speeds.write(&self.speeds).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
            eprintln!("the speeds of {new} kinds of GPU are in {}", self.speeds.display());
        }
        Ok(())
    }
}

/// Prints the requests that would be sent.
fn show(prepared: &Prepared, needed: usize) -> Result<ExitCode, Failure> {
    println!("{}\n", prepared.provider.show_search(&prepared.boxes.wanted));
    for (slot, chosen) in prepared.ranked.iter().take(needed).enumerate() {
        let label = Label { run: prepared.run.plan.run.clone(), slot: slot as u32, id: BoxId::fresh() };
        let user = prepared.rights.draft(&label).map_err(|error| Failure::usage(error.to_string()))?;
        let environment = prepared.rights.environment(&label, prepared.rules.until, user.as_ref())?;
        let order = Order {
            label: label.to_string(),
            image: prepared.boxes.image.clone(),
            disk_gb: prepared.boxes.wanted.disk_gb,
            onstart: prepared.boxes.onstart.clone(),
            environment,
            bid: prepared.rules.max_bid.map(|most| most.min(chosen.offer.price)),
        };
        println!("{}\n", prepared.provider.show_create(&chosen.offer, &order));
    }
    eprintln!("nothing was rented (--dry-run)");
    Ok(ExitCode::Done)
}

/// Asks a person.
fn confirmed(boxes: usize) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("renting costs money, and nobody is there to ask: pass --yes"));
    }
    eprint!("rent {boxes} boxes? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The same command in the background.
fn detach(run: &Run) -> Result<ExitCode, Failure> {
    use std::os::unix::process::CommandExt as _;
    let id = &run.plan.run;
    let path = PathBuf::from(format!("{id}.launch.log"));
    let log = File::options().create(true).append(true).open(&path)?;
    let arguments =
        std::env::args_os().skip(1).filter(|argument| argument != "--detach" && argument != "--yes");
    let child = std::process::Command::new(std::env::current_exe()?)
        .args(arguments)
        .arg("--yes")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    println!("{}", child.id());
    eprintln!(
        "the launcher works on as process {}, its log is {}; `coordinator instances --run {id} --watch` shows its boxes, \
         `coordinator destroy --all --run {id}` ends them",
        child.id(),
        path.display()
    );
    Ok(ExitCode::Done)
}
