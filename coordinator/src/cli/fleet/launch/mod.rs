//! `launch`: rents boxes for a run, watches them, and destroys them when it is done.

mod args;
mod report;
mod show;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use jiff::Timestamp;
use shared::exit::ExitCode;
use shared::queue::redis::RedisQueue;
use shared::queue::{Queue as _, QueueErrorKind, RunState, Snapshot};
use shared::settings::{FileSettings, QueueAddress};

pub use args::LaunchArgs;

use super::equip::{Equipment, read_environment};
use super::{ProviderName, account_of, journal, table};
use crate::context::{planned_run, queue_for_a_look};
use crate::failure::Failure;
use crate::fleet::journal::Journal;
use crate::fleet::launch::{BoxPlan, Launcher, ONSTART, Outcome, Signals, Tools};
use crate::fleet::rank::{Ranked, Work, rank};
use crate::fleet::rights::{Rights, variable};
use crate::fleet::rules::Rules;
use crate::fleet::speeds::{Speeds, short_name};
use crate::fleet::view::{Seen, view};
use crate::merge::Run;
use crate::provider::Provider;
use crate::provider::vast::DEFAULT_URL;
use crate::record::{Depth, read_record};
use crate::resume::resume;

/// What a search without a result means.
const NO_OFFER: &str = "no offer holds what is wanted: try another --gpu, a higher --max-price, a lower \
                        --min-reliability or a wider --region";

/// Everything that is known before anything is rented.
struct Prepared {
    run: Run,
    provider: Arc<dyn Provider>,
    provider_name: ProviderName,
    account: String,
    queue: RedisQueue,
    state: Option<RunState>,
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
    if prepared.ranked.is_empty() {
        eprintln!("{NO_OFFER}");
    } else {
        eprint!("{}", table::offers(&prepared.ranked, needed));
        eprint!("{}", table::estimate(&prepared.ranked[..needed], prepared.work));
    }
    if args.dry_run {
        return show::show(&prepared, needed);
    }
    if needed == 0 && live == 0 {
        return Err(Failure::new(ExitCode::Incomplete, anyhow::anyhow!("nothing was rented")));
    }
    if !args.yes && !confirmed(needed)? {
        eprintln!("nothing was rented");
        return Ok(ExitCode::Done);
    }
    if args.detach {
        return detach(&prepared.run);
    }
    match prepared.state {
        Some(RunState::Draining) => {
            eprintln!("the run was draining; it goes on");
            prepared.queue.unpause().await?;
        }
        Some(RunState::Paused) => eprintln!("the run is paused: boxes will wait for `coordinator resume`"),
        Some(RunState::Running) | None => {}
    }
    Box::pin(args.work(prepared)).await
}

impl LaunchArgs {
    async fn prepare(&self, file: &FileSettings) -> Result<Prepared, Failure> {
        let store_url = self.store.url(file)?;
        let address = self.queue.required(file)?;
        let run = planned_run(self.store.open(file)?, self.store.run(file)).await?;
        let journal = journal(&run.store, &run.plan.run).await?;
        let provider_name = self.provider.name(journal.fleet());
        let provider = self.provider.open(provider_name, self.workers.saturating_mul(2))?;
        let account = account_of(provider.as_ref(), journal.fleet()).await?;
        let queue = queue_for_a_look(&address, &run.plan.run)?;
        let snapshot = self.ready_queue(&queue, &run).await?;
        let state = snapshot.as_ref().map(|snapshot| snapshot.state);
        let items = snapshot.map_or(run.plan.counts.items, |snapshot| {
            snapshot.items_total.saturating_sub(snapshot.items_done + snapshot.items_failed)
        });
        let rules = self.rules();
        let wanted = self.wanted(&run);
        let rights = self.rights(&run, &store_url, &address, provider_name, rules.until).await?;
        let speeds = Speeds::read(&self.speeds).map_err(|error| Failure::new(ExitCode::Usage, error))?;
        let work = Work { items, boxes: self.workers, start_seconds: rules.deadlines.start };
        let not = if self.forget_bans { BTreeSet::new() } else { journal.fleet().banned.clone() };
        let ranked = match items {
            0 => Vec::new(),
            _ => rank(&provider.offers(&wanted).await?, &run.plan, &speeds, work, &not),
        };
        let image = self.image.clone().unwrap_or_else(|| args::IMAGE.to_owned());
        let boxes = BoxPlan { wanted, image, onstart: ONSTART.to_owned() };
        Ok(Prepared {
            run,
            provider,
            provider_name,
            account,
            queue,
            state,
            journal,
            rules,
            boxes,
            rights,
            speeds,
            work,
            ranked,
        })
    }

    /// The queue as it stands; rebuilt where it has lost the run.
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
            snapshot => Ok(snapshot),
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

    /// Launches, and reports.
    async fn work(&self, prepared: Prepared) -> Result<ExitCode, Failure> {
        let Prepared {
            run,
            provider,
            provider_name,
            account,
            queue,
            journal,
            rules,
            boxes,
            rights,
            speeds,
            ..
        } = prepared;
        let (plan, store) = (run.plan.clone(), run.store.clone());
        let signals = Signals::listen()?;
        let mut measured = speeds.clone();
        let queue = Some(queue);
        let tools = Tools { provider, queue, run, rules, boxes, rights, speeds, journal, signals };
        let mut launcher = Launcher::open(tools, provider_name.name(), account, self.forget_bans).await?;
        let outcome = match launcher.run().await {
            Ok(outcome) => outcome,
            Err(error) => {
                let live = launcher.fleet().live().filter_map(|of| of.instance);
                let live: Vec<String> = live.map(|id| id.to_string()).collect();
                let failure = Failure::from(error);
                return Err(if live.is_empty() {
                    failure
                } else {
                    failure.context(format!("the launcher stops; these boxes may go on: {}", live.join(", ")))
                });
            }
        };
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
