//! What a launcher sees at one moment, and what it must remember from one look to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use shared::queue::Snapshot;

use super::label::BoxId;
use super::state::Fleet;
use crate::dollars::Dollars;
use crate::provider::{Instance, InstanceId, InstanceStatus};

/// The queue at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum QueueSight {
    /// It does not answer; why.
    Unknown(String),
    /// It does not know the run.
    NoRun,
    /// As it stands.
    Known(Snapshot),
}

/// Everything seen at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// The moment.
    pub at: Timestamp,
    /// All instances of the account; why they are not known otherwise. An unknown list says nothing of any box.
    pub instances: Result<Vec<Instance>, String>,
    /// The queue.
    pub queue: QueueSight,
    /// What the account may still spend, where that was read.
    pub balance: Option<Dollars>,
}

/// Why a fleet ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// All shards are done.
    Finished,
    /// Only done and so many dead shards are left.
    Dead(u64),
    /// Money, time or offers are at their end; which.
    Exhausted(String),
    /// Ctrl-C.
    Interrupted,
    /// `coordinator destroy --all`.
    Asked,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the run is finished"),
            Self::Dead(shards) => write!(f, "only {shards} dead shards are left"),
            Self::Exhausted(why) => f.write_str(why),
            Self::Interrupted => f.write_str("it was interrupted"),
            Self::Asked => f.write_str("it was asked to"),
        }
    }
}

/// What is remembered between looks. Losing it does no harm: deadlines then count from now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    messages: BTreeMap<BoxId, (String, Timestamp)>,
    /// When this launcher looked first.
    began_at: Option<Timestamp>,
    /// When the list was read before, and last.
    listed_at: Option<(Option<Timestamp>, Timestamp)>,
    /// When somebody watched the boxes last before this launcher did, until it has read the list itself.
    pub unwatched_since: Option<Timestamp>,
    /// Since when the queue is known without a break: nobody was heard before that.
    pub queue_known_since: Option<Timestamp>,
    /// What the account may still spend, as it was read last.
    pub balance: Option<Dollars>,
    /// Instances whose destruction is being asked for.
    pub destroying: BTreeSet<InstanceId>,
    /// When the answer to that came last.
    pub destroyed_at: BTreeMap<InstanceId, Timestamp>,
    /// When the market said that a box is destroyed, unless it was listed after that.
    pub ended_at: BTreeMap<BoxId, Timestamp>,
    /// Boxes that more is being offered for.
    pub bidding: BTreeSet<BoxId>,
    /// When a log was asked for last.
    pub log_read_at: BTreeMap<BoxId, Timestamp>,
    /// What a log says of a worker that failed its start.
    pub failures: BTreeMap<BoxId, String>,
    /// When the users of the queue were looked through last.
    pub users_checked_at: Option<Timestamp>,
    /// Why no further box can be rented until a person acts.
    pub refused: Option<String>,
    /// Why the fleet shall end, once that is decided.
    pub ending: Option<Ending>,
    /// Whether Ctrl-C was pressed.
    pub interrupted: bool,
}

impl Memory {
    /// Of a launcher that takes over where somebody watched last at this moment.
    pub fn unwatched_since(moment: Option<Timestamp>) -> Self {
        Self { unwatched_since: moment, ..Self::default() }
    }

    /// Takes a look in.
    pub fn see(&mut self, fleet: &Fleet, sight: &Sight) {
        self.began_at.get_or_insert(sight.at);
        self.balance = sight.balance.or(self.balance);
        match &sight.queue {
            QueueSight::Known(_) => {
                self.queue_known_since.get_or_insert(sight.at);
            }
            _ => self.queue_known_since = None,
        }
        let Ok(instances) = &sight.instances else { return };
        self.listed_at = Some((self.listed_at.map(|(_, last)| last), sight.at));
        for of in fleet.live() {
            let Some(seen) = instances.iter().find(|instance| Some(instance.id) == of.instance) else {
                continue;
            };
            self.ended_at.remove(&of.intent.id);
            let known = self.messages.get(&of.intent.id).map(|(text, _)| text.as_str());
            if known != Some(seen.message.as_str()) {
                self.messages.insert(of.intent.id.clone(), (seen.message.clone(), sight.at));
            }
        }
    }

    /// As if it had looked since a moment.
    #[cfg(test)]
    pub fn watching_since(&mut self, moment: Timestamp) {
        self.began_at = Some(moment);
        self.queue_known_since = self.queue_known_since.map(|_| moment);
    }

    /// The later of a moment and this launcher's first look: by another clock, or unwatched, nothing was waited for.
    pub fn not_before_me(&self, moment: Timestamp) -> Timestamp {
        self.began_at.map_or(moment, |began| moment.max(began))
    }

    /// The later of a moment and the one since when the queue is known.
    pub fn not_before_queue(&self, moment: Timestamp) -> Timestamp {
        self.queue_known_since.map_or(moment, |known| moment.max(known))
    }

    /// When a change happened that shows now: half way back to the list before. What nobody watched is taken to
    /// have changed at once, as it costs most.
    pub fn changed_at(&self, now: Timestamp) -> Timestamp {
        match (self.unwatched_since, self.listed_at) {
            (Some(at), _) => at.min(now),
            (None, Some((Some(before), last))) if last == now => now - now.duration_since(before) / 2,
            _ => now,
        }
    }

    /// Since when a box is gone that is not there now.
    pub fn gone_since(&self, id: &BoxId, now: Timestamp) -> Timestamp {
        if self.unwatched_since.is_some() {
            return now;
        }
        let listed = self.listed_at.map_or(now, |(_, last)| self.changed_at(last));
        self.ended_at.get(id).copied().unwrap_or(listed).min(now)
    }

    /// When a box showed the last progress in loading: a new message, or the status itself.
    pub fn moved_at(&self, of: &super::state::Rental) -> Timestamp {
        let message = self.messages.get(&of.intent.id).map(|(_, at)| *at);
        message.unwrap_or_else(|| of.status_since()).max(of.status_since())
    }
}

/// Whether a message of the market says that the image itself cannot be had: another box would fail the same way.
pub fn is_about_image(status: InstanceStatus, message: &str) -> bool {
    const SIGNS: [&str; 5] = [
        "manifest unknown",
        "pull access denied",
        "repository does not exist",
        "invalid reference format",
        "unauthorized",
    ];
    let text = message.to_lowercase();
    status != InstanceStatus::Running && SIGNS.iter().any(|sign| text.contains(sign))
}
