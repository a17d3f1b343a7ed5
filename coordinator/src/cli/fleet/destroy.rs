//! `destroy`: the end of boxes, confirmed by the market.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use shared::exit::ExitCode;
use shared::ids::RunId;
use shared::settings::{FileSettings, QueueAddress, parse_duration};

use super::{ProviderArgs, ProviderName, account_of, open};
use crate::cli::args::{QueueArgs, StoreArgs};
use crate::context::{planned_run, queue_for_a_look};
use crate::failure::Failure;
use crate::fleet::event::Event;
use crate::fleet::journal::Journal;
use crate::fleet::label::Label;
use crate::fleet::launch::{BoxPlan, Launcher, Outcome, Signals, Tools};
use crate::fleet::rights::{Rights, Users};
use crate::fleet::rules::{Deadlines, Rules};
use crate::fleet::sight::Ending;
use crate::fleet::speeds::Speeds;
use crate::provider::{InstanceId, Provider, Region, Wanted};

/// Which boxes.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    provider: ProviderArgs,
    /// Every box of the run, also those that no record knows; a launcher that works on it stops
    #[arg(long, conflicts_with = "ids", required_unless_present = "ids")]
    all: bool,
    /// Boxes, as `coordinator instances` shows them; a launcher rents others in their place
    #[arg(value_name = "ID")]
    ids: Vec<InstanceId>,
    /// How long an order without an answer is waited for
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration, hide = true)]
    created_within: Duration,
    /// Between two looks
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration, hide = true)]
    tick: Duration,
    /// How long it is tried
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration, hide = true)]
    give_up_after: Duration,
}

impl DestroyArgs {
    /// Whether the whole fleet is meant.
    pub fn means_all(&self) -> bool {
        self.all
    }
}

/// Destroys boxes until the market confirms that they are gone.
pub async fn destroy(args: DestroyArgs, file: &FileSettings) -> Result<ExitCode, Failure> {
    if !args.all {
        let (_, run, journal) = open(&args.store, file).await?;
        let provider = args.provider.open(args.provider.name(journal.fleet()), 0)?;
        account_of(provider.as_ref(), journal.fleet()).await?;
        return some(&args, &run, journal, provider.as_ref()).await;
    }
    match open(&args.store, file).await {
        Ok((store, run, journal)) => {
            let name = args.provider.name(journal.fleet());
            let provider = args.provider.open(name, 0)?;
            let account = account_of(provider.as_ref(), journal.fleet()).await?;
            let run = planned_run(store, Some(run)).await?;
            let queue = args.queue.address(file)?;
            all(&args, (name, account), provider, run, journal, queue).await
        }
        // The record cannot be read, and boxes cost money all the same.
        Err(failure) => {
            let Some(run) = args.store.run(file) else { return Err(failure) };
            eprintln!("warning: {:#}; destroying by label alone", failure.error);
            let name = args.provider.provider.unwrap_or(ProviderName::Vast);
            by_label(&args, &run, args.provider.open(name, 0)?.as_ref()).await
        }
    }
}

/// Takes the fleet over and ends it.
async fn all(
    args: &DestroyArgs,
    (name, account): (ProviderName, String),
    provider: Arc<dyn Provider>,
    run: crate::merge::Run,
    journal: Journal,
    queue: Option<QueueAddress>,
) -> Result<ExitCode, Failure> {
    let id = run.plan.run.clone();
    let users = queue.as_ref().map(|address| Users::open(address, &id)).transpose()?;
    let deadlines = Deadlines {
        created: args.created_within.as_secs_f64(),
        tick: args.tick.as_secs_f64(),
        drain: args.give_up_after.as_secs_f64() / 3.0,
        ..Deadlines::default()
    };
    let tools = Tools {
        provider,
        queue: queue.as_ref().map(|address| queue_for_a_look(address, &id)).transpose()?,
        run,
        rules: Rules::to_end(journal.fleet(), deadlines),
        boxes: BoxPlan { wanted: nothing(), image: String::new(), onstart: String::new() },
        rights: Rights { common: BTreeMap::new(), users },
        speeds: Speeds::none(),
        journal,
        signals: Signals::listen()?,
    };
    let mut launcher = Launcher::open(tools, name.name(), account, false).await?;
    launcher.end(Ending::Asked);
    let outcome = launcher.run().await?;
    match &outcome {
        Outcome::Closed { billed, .. } => {
            println!("no box of run {id} is left");
            if let Some(billed) = billed {
                println!("the market billed {billed} for them");
            }
        }
        Outcome::Left => eprintln!("stopped: boxes of run {id} may be left"),
        Outcome::Unconfirmed { instances, labels, .. } => return Ok(unconfirmed(instances, labels)),
    }
    Ok(outcome.exit_code())
}

fn nothing() -> Wanted {
    Wanted {
        gpus: Vec::new(),
        gpus_per_box: 1,
        gpu_memory: 0,
        interruptible: false,
        max_price: None,
        min_reliability: 0.0,
        region: Region::default(),
        disk_gb: 8,
        duration_seconds: 0.0,
    }
}

/// Single boxes: written down, so that a launcher replaces them, and ended here.
async fn some(
    args: &DestroyArgs,
    run: &RunId,
    mut journal: Journal,
    provider: &dyn Provider,
) -> Result<ExitCode, Failure> {
    for id in &args.ids {
        let seen = provider.instance(*id).await?;
        let recorded = journal.fleet().of_instance(*id).is_some();
        let ours = seen.as_ref().map_or(recorded, |seen| Label::of(run, &seen.label).is_some());
        if !ours {
            let label = seen.map_or_else(|| "nothing".to_owned(), |seen| format!("{:?}", seen.label));
            return Err(Failure::usage(format!(
                "instance {id} is labelled {label}, which is no box of run {run}: it is left alone"
            )));
        }
    }
    let mut left = Vec::new();
    for id in &args.ids {
        let of = journal.fleet().of_instance(*id).filter(|of| of.is_live()).map(|of| of.intent.id.clone());
        if let Some(of) = &of {
            let why = "a person asked for it".to_owned();
            journal.happened(Event::Condemned { id: of.clone(), why, ban: false }).await?;
        }
        if until_gone(args, provider, *id).await {
            println!("instance {id} is gone");
            if let Some(of) = of {
                journal.happened(Event::Gone { id: of, since: Timestamp::now() }).await?;
            }
        } else {
            left.push(*id);
        }
    }
    Ok(if left.is_empty() { ExitCode::Done } else { unconfirmed(&left, &[]) })
}

/// Asks for the end of a box until both the list and the market's answer about it say that it is gone; `false` when the
/// time is over.
async fn until_gone(args: &DestroyArgs, provider: &dyn Provider, id: InstanceId) -> bool {
    let (started, mut said) = (Instant::now(), String::new());
    while started.elapsed() < args.give_up_after {
        if let Err(error) = provider.destroy(id).await {
            say_once(&mut said, &error.to_string());
        }
        match (provider.instances().await, provider.instance(id).await) {
            (Ok(all), Ok(None)) if all.iter().all(|instance| instance.id != id) => return true,
            (Ok(_), Ok(_)) => {}
            (Err(error), _) | (_, Err(error)) => say_once(&mut said, &error.to_string()),
        }
        tokio::time::sleep(args.tick).await;
    }
    false
}

/// Says what failed, unless it is what was said last.
fn say_once(said: &mut String, text: &str) {
    if said != text {
        eprintln!("{text}; trying again");
        text.clone_into(said);
    }
}

/// Without a record: everything with a label of the run, until two lists in a row have none.
async fn by_label(args: &DestroyArgs, run: &RunId, provider: &dyn Provider) -> Result<ExitCode, Failure> {
    let (started, mut empty, mut left) = (Instant::now(), 0, Vec::new());
    while started.elapsed() < args.give_up_after {
        match provider.instances().await {
            Ok(instances) => {
                let ours = instances.into_iter().filter(|instance| Label::of(run, &instance.label).is_some());
                left = ours.map(|instance| instance.id).collect();
                empty = if left.is_empty() { empty + 1 } else { 0 };
                if empty == 2 {
                    println!("no box of run {run} is left");
                    return Ok(ExitCode::Done);
                }
                for id in &left {
                    if let Err(error) = provider.destroy(*id).await {
                        eprintln!("instance {id}: {error}; trying again");
                    }
                }
            }
            Err(error) => {
                empty = 0;
                eprintln!("{error}; trying again");
            }
        }
        tokio::time::sleep(args.tick).await;
    }
    Ok(unconfirmed(&left, &[]))
}

fn unconfirmed(instances: &[InstanceId], labels: &[String]) -> ExitCode {
    let mut which: Vec<String> = instances.iter().map(ToString::to_string).collect();
    which.extend(labels.iter().map(|label| format!("an order labelled {label}")));
    if which.is_empty() {
        which.push("the list of instances, or the store, cannot be used".to_owned());
    }
    eprintln!(
        "error: not confirmed to be gone at {:.0}: {}. They may cost money: try again, or look at the market's own page",
        Timestamp::now(),
        which.join(", ")
    );
    ExitCode::Unexpected
}
