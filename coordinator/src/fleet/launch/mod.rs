//! Carries a fleet's decisions out, from the first order to the last confirmed end.
//!
//! Every step is written down before it is taken where it costs money, and after it where it is only known then.
//! The launcher may be killed at any moment: the next one reads what is written and goes on.

mod act;
mod calls;
mod look;
mod rent;
mod signals;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::exit::ExitCode;
use shared::queue::redis::RedisQueue;
use tokio::task::JoinSet;

use calls::Reply;
pub use rent::first_bid;
pub use signals::Signals;

use super::decide::{Action, Topic, decide};
use super::event::{Closed, Event, Opened};
use super::journal::{Journal, JournalError};
use super::label::{BoxId, FleetTag, Label};
use super::money::seconds_between;
use super::rights::Rights;
use super::rules::Rules;
use super::sight::{Ending, Memory};
use super::speeds::Speeds;
use super::state::Fleet;
use crate::dollars::Dollars;
use crate::failure::Failure;
use crate::merge::Run;
use crate::provider::{InstanceId, Offer, Provider, ProviderError, Wanted};

/// What a box runs at each start.
pub const ONSTART: &str = include_str!("../../../../infra/vast/onstart");

/// What boxes are made of.
#[derive(Debug, Clone)]
pub struct BoxPlan {
    /// What offers must have.
    pub wanted: Wanted,
    /// The container image.
    pub image: String,
    /// The script that starts the worker.
    pub onstart: String,
}

/// How a launcher ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// No box is left, and that is confirmed.
    Closed {
        /// Why.
        ending: Ending,
        /// What the market billed, where it says so.
        billed: Option<Dollars>,
    },
    /// It was told to leave the boxes as they are.
    Left,
    /// Boxes could not be confirmed to be gone.
    Unconfirmed {
        /// Why it was to end.
        ending: Ending,
        /// Those boxes.
        instances: Vec<InstanceId>,
        /// Labels of orders without an answer.
        labels: Vec<String>,
    },
}

/// A launcher cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Another has the fleet, or its record cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl LaunchError {
    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Journal(error) => error.exit_code(),
        }
    }
}

/// A launcher.
pub struct Launcher {
    provider: Arc<dyn Provider>,
    queue: Option<RedisQueue>,
    run: Run,
    rules: Rules,
    boxes: BoxPlan,
    rights: Rights,
    speeds: Speeds,
    journal: Journal,
    memory: Memory,
    tag: FleetTag,
    offers: Option<(Timestamp, Vec<Offer>)>,
    /// Orders in a row that were refused for reasons that another offer does not change.
    refusals: u32,
    balance_read_at: Option<Timestamp>,
    said: BTreeMap<Topic, Timestamp>,
    ending_since: Option<Timestamp>,
    /// What the queue said last, for the report.
    items_by_box: BTreeMap<String, u64>,
    /// Calls of the market that are on their way.
    calls: JoinSet<Reply>,
    signals: Signals,
}

/// What became of a step.
enum Step {
    /// It is taken, or was not needed.
    Taken,
    /// A box was ordered: that takes seconds, and what was seen before is old.
    Ordered,
    /// It was the last.
    Over(Outcome),
}

/// What a launcher works with.
pub struct Tools {
    /// Where boxes come from.
    pub provider: Arc<dyn Provider>,
    /// The queue; none where boxes are only to be ended.
    pub queue: Option<RedisQueue>,
    /// The run.
    pub run: Run,
    /// What it keeps to.
    pub rules: Rules,
    /// What boxes are made of.
    pub boxes: BoxPlan,
    /// What boxes are told.
    pub rights: Rights,
    /// What is known of GPUs.
    pub speeds: Speeds,
    /// The fleet so far.
    pub journal: Journal,
    /// What the process is told.
    pub signals: Signals,
}

impl Launcher {
    /// Takes the fleet over. `account` says whose boxes they are.
    pub async fn open(
        tools: Tools,
        provider: &str,
        account: String,
        forget_bans: bool,
    ) -> Result<Self, LaunchError> {
        let Tools { provider: source, queue, run, rules, boxes, rights, speeds, mut journal, signals } =
            tools;
        let known = journal.fleet().tag.clone();
        let tag = known.clone().unwrap_or_else(FleetTag::fresh);
        if known.is_none() {
            journal.check_exclusive(&BoxId::fresh(&tag).to_string()).await?;
        }
        let unwatched_since = journal.fleet().written_at;
        let opened = Opened {
            provider: provider.to_owned(),
            account,
            tag: tag.clone(),
            forget_bans,
            workers: rules.workers,
            budget: rules.budget,
            until: rules.until,
        };
        journal.intend(Event::Opened(opened)).await?;
        Ok(Self {
            provider: source,
            queue,
            run,
            rules,
            boxes,
            rights,
            speeds,
            // Another launcher may have made the tag meanwhile; that one's labels are found by it.
            tag: journal.fleet().tag.clone().unwrap_or(tag),
            journal,
            memory: Memory::unwatched_since(unwatched_since),
            offers: None,
            refusals: 0,
            balance_read_at: None,
            said: BTreeMap::new(),
            ending_since: None,
            items_by_box: BTreeMap::new(),
            calls: JoinSet::new(),
            signals,
        })
    }

    /// The fleet so far.
    pub fn fleet(&self) -> &Fleet {
        self.journal.fleet()
    }

    /// Items embedded by each box, by its label, as far as the queue told.
    pub fn items_by_box(&self) -> &BTreeMap<String, u64> {
        &self.items_by_box
    }

    /// Ends the fleet, whatever it is doing.
    pub fn end(&mut self, ending: Ending) {
        self.memory.ending = Some(ending);
    }

    /// Looks, decides and acts until no box is left, or it is told to leave them.
    pub async fn run(&mut self) -> Result<Outcome, LaunchError> {
        loop {
            if self.signals.leaves() {
                return Ok(Outcome::Left);
            }
            self.memory.interrupted |= self.signals.interrupted();
            let pause = match self.tick().await? {
                Step::Taken => Duration::from_secs_f64(self.rules.deadlines.tick),
                Step::Ordered => Duration::ZERO,
                Step::Over(outcome) => return Ok(outcome),
            };
            if let Some(outcome) = self.overdue() {
                return Ok(outcome);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.signals.changed() => {}
            }
        }
    }

    /// One look and what follows from it. A store that is away keeps nothing from being looked at and ended.
    async fn tick(&mut self) -> Result<Step, JournalError> {
        let refreshed = self.journal.refresh().await;
        self.bear(refreshed)?;
        let taken = self.take_replies().await;
        self.bear(taken)?;
        let sight = self.look().await;
        self.memory.see(self.journal.fleet(), &sight);
        let actions = decide(&self.run.plan.run, self.journal.fleet(), &self.memory, &sight, &self.rules);
        let step = self.carry_out(actions).await;
        if sight.instances.is_ok() {
            self.memory.unwatched_since = None;
        }
        step
    }

    /// Carries steps out until one makes the look old or is the last.
    async fn carry_out(&mut self, actions: Vec<Action>) -> Result<Step, JournalError> {
        for action in actions {
            // A call may take its time, and a person wants an end.
            if self.signals.leaves() || (self.signals.interrupted() && !self.memory.interrupted) {
                return Ok(Step::Ordered);
            }
            let acted = self.act(action).await;
            match self.bear(acted)? {
                None | Some(Step::Taken) => {}
                Some(step) => return Ok(step),
            }
        }
        Ok(Step::Taken)
    }

    /// Says that the store fails, and goes on; other failures are the launcher's end.
    fn bear<T>(&mut self, result: Result<T, JournalError>) -> Result<Option<T>, JournalError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.may_pass() => {
                self.say(Topic::Store, &format!("{error}: nothing is rented until the store answers"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A fleet that ought to have ended and cannot be confirmed to have.
    fn overdue(&mut self) -> Option<Outcome> {
        /// Each box may take so long beside the others: the market takes one destruction after the other.
        const SECONDS_A_BOX: f64 = 10.0;
        let ending = self.memory.ending.clone()?;
        let now = Timestamp::now();
        let boxes = self.fleet().live().count();
        let deadlines = &self.rules.deadlines;
        let allowed = 3.0 * deadlines.drain.max(deadlines.created)
            + SECONDS_A_BOX * (boxes as f64) * deadlines.tick.min(10.0) / 10.0;
        let since = *self.ending_since.get_or_insert(now);
        if seconds_between(since, now) <= allowed {
            return None;
        }
        let of_boxes = self.fleet().live().filter_map(|of| of.instance);
        let strays = self.memory.destroyed_at.keys().filter(|id| self.fleet().strays.contains(id)).copied();
        let instances = of_boxes.chain(strays).collect();
        let labels = self.fleet().live().filter(|of| of.instance.is_none());
        let labels = labels.map(|of| self.label_of(of.intent.slot, &of.intent.id)).collect();
        Some(Outcome::Unconfirmed { ending, instances, labels })
    }

    fn label_of(&self, slot: u32, id: &BoxId) -> String {
        Label { run: self.run.plan.run.clone(), slot, id: id.clone() }.to_string()
    }

    /// Writes the end down, with the bill.
    async fn close(&mut self) -> Result<Outcome, JournalError> {
        let ending = self.memory.ending.clone().unwrap_or(Ending::Asked);
        if let Some(users) = &self.rights.users
            && let Err(error) = users.delete_all().await
        {
            tell::line(&format!("warning: users of the queue may be left over: {error}"));
        }
        let billed = match self.billed().await {
            Ok(billed) => billed,
            Err(error) => {
                tell::line(&format!("warning: the bill cannot be read: {error}"));
                None
            }
        };
        self.journal.intend(Event::Closed(Closed { why: ending.to_string(), billed })).await?;
        Ok(Outcome::Closed { ending, billed })
    }

    /// What the market billed for this fleet's boxes.
    async fn billed(&self) -> Result<Option<Dollars>, ProviderError> {
        let fleet = self.fleet();
        let Some(began) = fleet.began_at else { return Ok(None) };
        let charges = self.provider.charges(began).await?;
        Ok(charges.map(|charges| {
            let ours = charges
                .iter()
                .filter(|(id, _)| fleet.of_instance(**id).is_some() || fleet.strays.contains(id));
            ours.map(|(_, dollars)| *dollars).sum()
        }))
    }

    /// Says something about a topic, at most once a minute.
    fn say(&mut self, topic: Topic, text: &str) {
        const MINUTE: f64 = 60.0;
        let now = Timestamp::now();
        if self.said.get(&topic).is_none_or(|last| seconds_between(*last, now) > MINUTE) {
            self.said.insert(topic, now);
            tell::line(text);
        }
    }
}

impl Outcome {
    /// The end of a launcher as an exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unconfirmed { .. } => ExitCode::Unexpected,
            Self::Left => ExitCode::Terminated,
            Self::Closed { ending, .. } => match ending {
                Ending::Finished | Ending::Asked => ExitCode::Done,
                Ending::Interrupted => ExitCode::Interrupted,
                Ending::Dead(_) | Ending::Exhausted(_) => ExitCode::Incomplete,
            },
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self::new(error.exit_code(), error)
    }
}
