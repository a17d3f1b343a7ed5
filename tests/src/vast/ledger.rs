//! All that happened, with times: what a test judges a launcher by.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answer::Request;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The account's key.
    Account,
    /// The key of this instance.
    Instance(u64),
    /// No key, or a wrong one.
    Nobody,
}

/// A request that arrived. Keys are not kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// Since the epoch.
    pub at: Duration,
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    /// As it came.
    pub body: String,
    /// Whose key it carried.
    pub caller: Caller,
    /// What it was answered; `None`: the connection was closed.
    pub status: Option<u16>,
}

/// What became of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Created from an offer on a machine, by the request at this place of the ledger.
    Created {
        /// The offer.
        offer: u64,
        /// The machine.
        machine: u64,
        /// The request's place among the arrivals.
        request: usize,
    },
    /// Its `actual_status` is this from now on.
    Status(Option<&'static str>),
    /// Its container starts.
    Started,
    /// Its script ended with this code, or by a signal.
    ScriptEnded(Option<i32>),
    /// It has another label.
    Labelled(String),
    /// Somebody asked for its end; whether they were told that it worked.
    DestroyAsked {
        /// Who.
        caller: Caller,
        /// Whether the answer said so.
        granted: bool,
    },
    /// It exists no more, and costs no more.
    Gone,
}

/// Something that became of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Since the epoch.
    pub at: Duration,
    /// The instance.
    pub instance: u64,
    /// The label it was created with.
    pub label: String,
    /// What.
    pub what: What,
}

/// All that happened so far, in order.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// What became of instances.
    pub events: Vec<Event>,
    /// What arrived.
    pub arrivals: Vec<Arrival>,
}

impl Ledger {
    /// Writes a request down, unanswered as yet; its place.
    pub fn arrive(&mut self, request: &Request, caller: Caller, at: Duration) -> usize {
        self.arrivals.push(Arrival {
            at,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            body: request.body.clone(),
            caller,
            status: None,
        });
        self.arrivals.len() - 1
    }

    /// Requests with this method whose path holds this.
    pub fn requests(&self, method: &str, path: &str) -> Vec<&Arrival> {
        let wanted = |arrival: &&Arrival| arrival.method == method && arrival.path.contains(path);
        self.arrivals.iter().filter(wanted).collect()
    }

    /// What became of one instance.
    pub fn of(&self, instance: u64) -> Vec<&Event> {
        self.events.iter().filter(|event| event.instance == instance).collect()
    }

    /// Every instance created under such a label, in order.
    pub fn created(&self, label_prefix: &str) -> Vec<u64> {
        let created = self.lives(label_prefix).filter(|(_, step)| *step == 1);
        created.map(|(event, _)| event.instance).collect()
    }

    /// Those of them that still exist.
    pub fn alive(&self, label_prefix: &str) -> Vec<u64> {
        let mut alive = self.created(label_prefix);
        let gone =
            |id: &u64| self.lives(label_prefix).any(|(event, step)| step == -1 && event.instance == *id);
        alive.retain(|id| !gone(id));
        alive
    }

    /// How many existed at once, at most.
    pub fn most_alive(&self, label_prefix: &str) -> usize {
        let mut now = 0;
        let counts = self.lives(label_prefix).map(|(_, step)| {
            now += step;
            now
        });
        counts.max().unwrap_or(0) as usize
    }

    /// The same by slot, of labels `fleet-<run>-<slot>-<nonce>`.
    pub fn most_alive_per_slot(&self, label_prefix: &str) -> BTreeMap<String, usize> {
        let mut slots: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for (event, step) in self.lives(label_prefix) {
            let (now, most) = slots.entry(slot(&event.label).to_owned()).or_default();
            *now += step;
            *most = (*most).max(*now);
        }
        slots.into_iter().map(|(slot, (_, most))| (slot, most as usize)).collect()
    }

    /// Births and deaths.
    fn lives(&self, label_prefix: &str) -> impl Iterator<Item = (&Event, i64)> {
        let events = self.events.iter().filter(move |event| event.label.starts_with(label_prefix));
        events.filter_map(|event| match event.what {
            What::Created { .. } => Some((event, 1)),
            What::Gone => Some((event, -1)),
            _ => None,
        })
    }
}

/// The slot in `fleet-<run>-<slot>-<nonce>`; a run may hold dashes too.
pub fn slot(label: &str) -> &str {
    label.rsplit('-').nth(1).unwrap_or(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(lives: &[(u64, &str, bool)]) -> Ledger {
        let events = lives.iter().map(|(instance, label, born)| Event {
            at: Duration::ZERO,
            instance: *instance,
            label: (*label).to_owned(),
            what: if *born { What::Created { offer: 1, machine: 1, request: 0 } } else { What::Gone },
        });
        Ledger { events: events.collect(), arrivals: Vec::new() }
    }

    #[test]
    fn lives_are_counted_by_prefix_and_slot() {
        let ledger = ledger(&[
            (1, "fleet-my-run-0-aa", true),
            (2, "fleet-my-run-1-bb", true),
            (9, "somebody-else", true),
            (1, "fleet-my-run-0-aa", false),
            (3, "fleet-my-run-0-cc", true),
            (4, "fleet-my-run-0-dd", true),
        ]);
        assert_eq!(ledger.created("fleet-my-run-"), [1, 2, 3, 4]);
        assert_eq!(ledger.alive("fleet-my-run-"), [2, 3, 4]);
        assert_eq!(ledger.most_alive("fleet-my-run-"), 3);
        let slots = ledger.most_alive_per_slot("fleet-my-run-");
        assert_eq!(slots, BTreeMap::from([("0".to_owned(), 2), ("1".to_owned(), 1)]));
        assert_eq!((ledger.most_alive("none"), ledger.alive("").len()), (0, 4));
    }
}
