//! A fleet as its entries tell it: which boxes were rented, what became of them and what they cost.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::event::{Closed, Entry, Event, Intent, Opened};
use super::label::{BoxId, FleetTag};
use crate::dollars::Dollars;
use crate::provider::{InstanceId, InstanceStatus, MachineId};

/// A status from a moment on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Since {
    /// The moment it was seen first.
    pub at: Timestamp,
    /// What it is.
    pub status: InstanceStatus,
    /// What an hour of running costs.
    pub price: Dollars,
}

/// How a box ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It never was, for sure.
    Refused,
    /// It was ordered, and never seen.
    GivenUp,
    /// It is gone since then.
    Gone(Timestamp),
}

/// A box that shall be destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// One box.
#[derive(Debug, Clone, PartialEq)]
pub struct Rental {
    /// What was meant.
    pub intent: Intent,
    /// When.
    pub ordered_at: Timestamp,
    /// What the market calls it, once that is known.
    pub instance: Option<InstanceId>,
    /// What it did, oldest first.
    pub history: Vec<Since>,
    /// When its worker was heard first, and its name.
    pub ready: Option<(Timestamp, String)>,
    /// Bids after the first, the last with its moment.
    pub last_bid: Option<(Timestamp, Dollars)>,
    /// Whether it shall be destroyed.
    pub condemned: Option<Condemned>,
    /// Why it was not made or was destroyed.
    pub end: Option<End>,
    /// Why it was refused.
    pub refusal: Option<String>,
}

impl Rental {
    fn new(intent: Intent, ordered_at: Timestamp) -> Self {
        Self {
            intent,
            ordered_at,
            instance: None,
            history: Vec::new(),
            ready: None,
            last_bid: None,
            condemned: None,
            end: None,
            refusal: None,
        }
    }

    /// Whether it may exist.
    pub fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// Whether it may exist and shall go on.
    pub fn is_wanted(&self) -> bool {
        self.is_live() && self.condemned.is_none()
    }

    /// What it does now, as far as is known.
    pub fn status(&self) -> InstanceStatus {
        self.history.last().map_or(InstanceStatus::Created, |since| since.status)
    }

    /// Since when it does that: another price is no other status.
    pub fn status_since(&self) -> Timestamp {
        let now = self.status();
        let same = self.history.iter().rev().take_while(|since| since.status == now);
        same.last().map_or(self.ordered_at, |since| since.at)
    }

    /// What an hour of it costs while it runs, as it was seen last.
    pub fn price(&self) -> Dollars {
        self.history.last().map_or(self.intent.price, |since| since.price)
    }

    /// The most that an hour of it can cost: the dearest price that was agreed, bid or seen.
    pub fn highest_price(&self) -> Dollars {
        let bid = self.bid().map_or(Dollars::ZERO, |bid| bid + self.intent.disk_price);
        let seen = self.history.iter().map(|since| since.price);
        seen.fold(self.intent.price.max(bid), Dollars::max)
    }

    /// The bid that holds.
    pub fn bid(&self) -> Option<Dollars> {
        self.last_bid.map(|(_, bid)| bid).or(self.intent.bid)
    }
}

/// A run's fleet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// Every box there ever was an intent for.
    pub boxes: BTreeMap<BoxId, Rental>,
    /// What the nonces of its labels begin with.
    pub tag: Option<FleetTag>,
    /// Instances with our label that no box accounted for.
    pub strays: BTreeSet<InstanceId>,
    /// When the last entry was written: somebody was watching then.
    pub written_at: Option<Timestamp>,
    /// Machines not to be rented again.
    pub banned: BTreeSet<MachineId>,
    /// Whose fleet it is, and what was asked for.
    pub opened: Option<(String, Opened)>,
    /// When the first launcher began.
    pub began_at: Option<Timestamp>,
    /// Why workers were told to exit.
    pub drained: Option<(Timestamp, String)>,
    /// How it ended; `None` while a launcher is at it.
    pub closed: Option<(Timestamp, Closed)>,
}

impl Fleet {
    /// Takes an entry in.
    pub fn apply(&mut self, entry: &Entry) {
        let at = entry.at;
        self.written_at = Some(at);
        match &entry.event {
            Event::Opened(opened) => {
                self.opened = Some((entry.by.clone(), opened.clone()));
                self.tag.get_or_insert_with(|| opened.tag.clone());
                if opened.forget_bans {
                    self.banned.clear();
                }
                self.began_at.get_or_insert(at);
                (self.drained, self.closed) = (None, None);
            }
            Event::Intent(intent) => {
                self.boxes.insert(intent.id.clone(), Rental::new(intent.clone(), at));
            }
            Event::Drained { why } => self.drained = Some((at, why.clone())),
            Event::Closed(closed) => self.closed = Some((at, closed.clone())),
            Event::Stray { instance, .. } => {
                self.strays.insert(*instance);
            }
            Event::Created { id, .. }
            | Event::Refused { id, .. }
            | Event::GivenUp { id }
            | Event::Status { id, .. }
            | Event::Ready { id, .. }
            | Event::Bid { id, .. }
            | Event::Condemned { id, .. }
            | Event::Gone { id, .. } => self.apply_to_box(id, at, &entry.event),
        }
    }

    fn apply_to_box(&mut self, id: &BoxId, at: Timestamp, event: &Event) {
        // An entry of a box without an intent cannot be: nothing can be said of it.
        let Some(of) = self.boxes.get_mut(id) else { return };
        match event {
            Event::Created { instance, .. } => of.instance = Some(*instance),
            Event::Refused { why, ban, .. } => {
                of.end = Some(End::Refused);
                of.refusal = Some(why.clone());
                if *ban {
                    self.banned.insert(of.intent.machine);
                }
            }
            Event::GivenUp { .. } => of.end = Some(End::GivenUp),
            Event::Status { since, status, price, .. } => {
                let price = price.unwrap_or_else(|| of.price());
                of.history.push(Since { at: *since, status: *status, price });
            }
            Event::Ready { worker, .. } => of.ready = Some((at, worker.clone())),
            Event::Bid { bid, .. } => of.last_bid = Some((at, *bid)),
            Event::Condemned { why, ban, .. } => {
                of.condemned.get_or_insert(Condemned { at, why: why.clone() });
                if *ban {
                    self.banned.insert(of.intent.machine);
                }
            }
            Event::Gone { since, .. } => of.end = Some(End::Gone((*since).max(of.status_since()))),
            _ => {}
        }
    }

    /// Boxes that may exist.
    pub fn live(&self) -> impl Iterator<Item = &Rental> {
        self.boxes.values().filter(|of| of.is_live())
    }

    /// The box that fills a slot: there is never a second one.
    pub fn in_slot(&self, slot: u32) -> Option<&Rental> {
        self.live().find(|of| of.intent.slot == slot)
    }

    /// The box of an instance.
    pub fn of_instance(&self, instance: InstanceId) -> Option<&Rental> {
        self.boxes.values().find(|of| of.instance == Some(instance))
    }

    /// Boxes ordered since a moment, without those that never were.
    pub fn launches_since(&self, moment: Timestamp) -> usize {
        let ordered = self.boxes.values().filter(|of| of.ordered_at >= moment);
        ordered.filter(|of| of.end != Some(End::Refused)).count()
    }

    /// Boxes in a row, the latest first, that came to nothing of their own: their worker was never heard.
    pub fn failed_in_a_row(&self) -> Vec<&Rental> {
        let mut ordered: Vec<&Rental> =
            self.boxes.values().filter(|of| of.end != Some(End::Refused)).collect();
        ordered.sort_by_key(|of| std::cmp::Reverse(of.ordered_at));
        let over = ordered.into_iter().filter(|of| of.ready.is_some() || !of.is_wanted());
        over.take_while(|of| of.ready.is_none()).collect()
    }
}
