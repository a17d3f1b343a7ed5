//! What to do next: a pure function of what is written down, what is remembered, what is seen, and the rules.
//!
//! An unknown list of instances leads to no order and to the end of no box that is not known to be ours. What is
//! decided is carried out one by one by [`crate::fleet::launch`], each step written down before it is taken.

mod boxes;
mod budget;
mod end;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use shared::ids::RunId;
use shared::queue::{Snapshot, WorkerSnapshot};

pub use budget::{Need, affordable, reserve};

use super::label::{BoxId, Label};
use super::money::seconds_between;
use super::rules::{FAILURES, Rules, SETTLED};
use super::sight::{Ending, Memory, QueueSight, Sight};
use super::state::{End, Fleet, Rental};
use crate::dollars::Dollars;
use crate::provider::{Instance, InstanceId, InstanceStatus};

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// An instance with the label of an order without an answer was found: it is that box.
    Adopt {
        /// The box.
        id: BoxId,
        /// What was found.
        instance: InstanceId,
    },
    /// An order without an answer has led to nothing.
    GiveUp {
        /// The box.
        id: BoxId,
    },
    /// Write another status down.
    Note {
        /// The box.
        id: BoxId,
        /// Since when, as far as looks tell.
        since: Timestamp,
        /// What it does.
        status: InstanceStatus,
        /// What an hour costs.
        price: Option<Dollars>,
    },
    /// Its worker was heard.
    Ready {
        /// The box.
        id: BoxId,
        /// The worker.
        worker: String,
    },
    /// Look into its log for why its worker is not heard.
    ReadLog {
        /// The box.
        id: BoxId,
        /// Its instance.
        instance: InstanceId,
    },
    /// Offer more.
    Rebid {
        /// The box.
        id: BoxId,
        /// Its instance.
        instance: InstanceId,
        /// The new bid.
        bid: Dollars,
    },
    /// It shall be destroyed.
    Condemn {
        /// The box.
        id: BoxId,
        /// Why.
        why: String,
        /// Whether its machine is not to be rented again.
        ban: bool,
    },
    /// Ask for its end, again and again.
    Destroy {
        /// The box.
        id: BoxId,
        /// Its instance.
        instance: InstanceId,
    },
    /// It is not in the list: ask for it alone.
    Confirm {
        /// The box.
        id: BoxId,
        /// Its instance.
        instance: InstanceId,
    },
    /// An instance with our label that no box accounts for.
    DestroyStray {
        /// The instance.
        instance: InstanceId,
        /// Its label.
        label: String,
    },
    /// Look whether the queue still has its users, and make those again that it lost.
    CheckUsers,
    /// The queue has lost the run: rebuild it from the store.
    Rebuild,
    /// Tell workers to finish what they hold and exit.
    Drain {
        /// Why.
        why: String,
    },
    /// Begin to end the fleet.
    End(Ending),
    /// Rent no further box until a person acts.
    Refuse {
        /// Why.
        why: String,
    },
    /// Rent a box.
    Rent {
        /// The place it fills.
        slot: u32,
    },
    /// Nothing is left: write the end down.
    Close,
    /// Workers were told to exit, and the queue does not say so any more.
    DrainAgain,
    /// Tell the person, not too often about the same topic.
    Say(Topic, String),
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The list of instances is not known.
    Instances,
    /// The queue does not answer.
    Queue,
    /// The store does not.
    Store,
    /// An instance that is not ours any more.
    Foreign,
    /// Why no box is rented.
    Renting,
    /// A call that failed and is tried again.
    Failure,
}

/// What to do next, in this order.
pub fn decide(run: &RunId, fleet: &Fleet, memory: &Memory, sight: &Sight, rules: &Rules) -> Vec<Action> {
    let view = View { run, fleet, memory, sight, rules };
    let mut actions = view.say_unknowns();
    let ends = end::next(&view);
    let stops = ends.iter().any(|action| matches!(action, Action::End(_) | Action::Drain { .. }));
    actions.extend(ends);
    for of in fleet.live() {
        actions.extend(boxes::next(&view, of));
    }
    actions.extend(view.strays());
    if !stops {
        actions.extend(view.failing());
        actions.extend(view.rent());
    }
    actions
}

/// Everything a decision is made from.
pub(super) struct View<'a> {
    run: &'a RunId,
    fleet: &'a Fleet,
    memory: &'a Memory,
    sight: &'a Sight,
    rules: &'a Rules,
}

impl<'a> View<'a> {
    fn snapshot(&self) -> Option<&'a Snapshot> {
        match &self.sight.queue {
            QueueSight::Known(snapshot) => Some(snapshot),
            _ => None,
        }
    }

    /// The worker on a box, heard last.
    fn worker_of(&self, of: &Rental) -> Option<&'a WorkerSnapshot> {
        let label =
            Label { run: self.run.clone(), slot: of.intent.slot, id: of.intent.id.clone() }.to_string();
        let workers = self.snapshot()?.workers.iter().filter(|worker| worker.info.instance == label);
        workers.min_by(|left, right| left.last_seen_seconds.total_cmp(&right.last_seen_seconds))
    }

    /// Seconds until now.
    fn since(&self, moment: Timestamp) -> f64 {
        seconds_between(moment, self.sight.at)
    }

    /// Whether the end of this instance may be asked for now: not while that is being done, nor right after.
    fn may_destroy(&self, instance: InstanceId) -> bool {
        let asked = self.memory.destroyed_at.get(&instance);
        !self.memory.destroying.contains(&instance)
            && asked.is_none_or(|at| self.since(*at) >= self.rules.deadlines.tick)
    }

    /// Whether no worker was heard lately, of several.
    fn all_silent(&self) -> bool {
        let quiet = self.rules.deadlines.silent / 4.0;
        let ready: Vec<&Rental> =
            self.fleet.live().filter(|of| of.is_wanted() && of.ready.is_some()).collect();
        let heard = |of: &&Rental| self.worker_of(of).is_some_and(|worker| worker.last_seen_seconds <= quiet);
        ready.len() > 1 && !ready.iter().any(heard)
    }

    /// Users of the queue are looked through when it comes back and then now and then: a server that started again may
    /// have lost them, and with them every worker.
    fn users_are_due(&self) -> bool {
        const EVERY: f64 = 3.0;
        let since = self.memory.users_checked_at.filter(|at| *at >= self.memory.not_before_queue(*at));
        self.fleet.live().any(|of| of.intent.queue_user.is_some())
            && since.is_none_or(|at| self.since(at) > EVERY * self.rules.deadlines.tick)
    }

    fn ends(&self) -> bool {
        self.memory.ending.is_some()
    }

    fn say_unknowns(&self) -> Vec<Action> {
        let mut said = Vec::new();
        if let Err(why) = &self.sight.instances {
            said.push(Action::Say(Topic::Instances, format!(
                "the instances cannot be listed ({why}): nothing is rented, and no box is given up, until they can"
            )));
        }
        if self.ends() {
            return said;
        }
        if let QueueSight::Unknown(why) = &self.sight.queue {
            said.push(Action::Say(
                Topic::Queue,
                format!("the queue does not answer ({why}): nothing is rented until it does; boxes work on"),
            ));
        }
        if self.sight.queue == QueueSight::NoRun {
            said.push(Action::Rebuild);
        } else if self.snapshot().is_some() && self.users_are_due() {
            said.push(Action::CheckUsers);
        }
        said
    }

    /// A label of this fleet, taken apart: the same run in another store has a fleet of its own.
    fn own_label(&self, label: &str) -> Option<Label> {
        let label = Label::of(self.run, label)?;
        self.fleet.tag.as_ref().is_some_and(|tag| label.id.is_of(tag)).then_some(label)
    }

    /// Boxes that come to nothing one after the other have a common cause, and each costs money.
    fn failing(&self) -> Option<Action> {
        let failed = self.fleet.failed_in_a_row();
        let most = FAILURES.max(2 * self.rules.workers as usize);
        let why =
            failed.first()?.condemned.as_ref().map_or("they were never seen", |condemned| &condemned.why);
        (failed.len() >= most && self.memory.refused.is_none()).then(|| Action::Refuse {
            why: format!("{most} boxes in a row came to nothing; the last: {why}"),
        })
    }

    /// Instances with a label of this run that no box accounts for.
    fn strays(&self) -> Vec<Action> {
        let Ok(instances) = &self.sight.instances else { return Vec::new() };
        let is_stray = |instance: &&Instance| {
            let Some(label) = self.own_label(&instance.label) else { return false };
            match self.fleet.boxes.get(&label.id) {
                None => true,
                Some(of) => match (of.end, of.instance) {
                    // The list may lag behind the instance itself.
                    (Some(End::Gone(at)), Some(known)) if known == instance.id => {
                        self.since(at) > SETTLED * self.rules.deadlines.created
                    }
                    (Some(_), _) => true,
                    (None, Some(known)) => known != instance.id,
                    (None, None) => {
                        boxes::labelled(self, of).is_some_and(|adopted| adopted.id != instance.id)
                    }
                },
            }
        };
        instances
            .iter()
            .filter(is_stray)
            .filter(|instance| self.may_destroy(instance.id))
            .map(|instance| Action::DestroyStray { instance: instance.id, label: instance.label.clone() })
            .collect()
    }

    /// Orders for the places that no box fills.
    fn rent(&self) -> Vec<Action> {
        const HOUR: i64 = 3600;
        let (Some(snapshot), Ok(_)) = (self.snapshot(), &self.sight.instances) else { return Vec::new() };
        if self.ends() || self.fleet.drained.is_some() {
            return Vec::new();
        }
        if let Some(why) = &self.memory.refused {
            return vec![Action::Say(Topic::Renting, format!("no further box is rented: {why}"))];
        }
        let open = snapshot.shards.pending + snapshot.shards.delayed + snapshot.shards.leased;
        let live = self.fleet.live().count();
        let wanted = u64::from(self.rules.workers).min(open).saturating_sub(live as u64) as usize;
        let free = (0..self.rules.workers).filter(|slot| self.fleet.in_slot(*slot).is_none());
        let mut slots: Vec<u32> = free.take(wanted).collect();
        if slots.is_empty() {
            return Vec::new();
        }
        if let Some(left) = self.soon_done(snapshot) {
            return vec![Action::Say(
                Topic::Renting,
                format!(
                    "the run ends in about {}: a new box would not be ready sooner",
                    crate::status::text::duration(left)
                ),
            )];
        }
        let hour_ago = self.sight.at - jiff::SignedDuration::from_secs(HOUR);
        let room = (self.rules.launches_an_hour as usize).saturating_sub(self.fleet.launches_since(hour_ago));
        let mut actions = Vec::new();
        if room < slots.len() {
            slots.truncate(room);
            actions.push(Action::Say(
                Topic::Renting,
                format!(
                    "{} boxes were ordered within an hour (--launches-per-hour): waiting before more are",
                    self.rules.launches_an_hour
                ),
            ));
        }
        actions.extend(slots.into_iter().map(|slot| Action::Rent { slot }));
        actions
    }

    /// Seconds to the end of the run, where boxes work on it that need less than a new one would to begin.
    fn soon_done(&self, snapshot: &Snapshot) -> Option<f64> {
        let working: Vec<&Rental> = self.fleet.live().filter(|of| of.ready.is_some()).collect();
        let fetch = working.iter().map(|of| of.intent.fetch_seconds).fold(0.0, f64::max);
        let settled = snapshot.items_done + snapshot.items_failed + snapshot.items_in_flight;
        let left = snapshot.items_total.saturating_sub(settled) as f64 / snapshot.items_per_second;
        (!working.is_empty() && left < fetch + self.rules.deadlines.start).then_some(left)
    }
}
