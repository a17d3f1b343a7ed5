//! The rules of a launcher, told as short stories with times in seconds.

mod boxes;
mod end;
mod renting;
mod unknown;

use shared::queue::{RunState, ShardCounts, Snapshot, WorkerInfo, WorkerSnapshot};

use super::*;
use crate::dollars::Dollars;
use crate::fleet::event::{Event, Opened};
use crate::fleet::money::tests::{apply, at, id, intent, status};
use crate::fleet::rules::Deadlines;
use crate::provider::MachineId;

/// A fleet, what is seen of it, and the time.
pub struct Story {
    pub run: RunId,
    pub fleet: Fleet,
    pub memory: Memory,
    pub rules: Rules,
    pub instances: Result<Vec<Instance>, String>,
    pub queue: QueueSight,
    pub balance: Option<Dollars>,
    /// Whether the launcher and the queue were there from the start.
    pub since_the_start: bool,
}

impl Story {
    /// Two boxes wanted, ten shards pending, nothing rented.
    pub fn new() -> Self {
        let mut fleet = Fleet::default();
        let opened = Opened {
            provider: "vast".into(),
            account: "account 7".into(),
            tag: "0000".to_owned().try_into().unwrap(),
            forget_bans: false,
            workers: 2,
            budget: None,
            until: at(100_000),
        };
        apply(&mut fleet, 0, Event::Opened(opened));
        Self {
            run: "r".parse().unwrap(),
            fleet,
            memory: Memory::default(),
            rules: Rules {
                workers: 2,
                budget: None,
                max_price: None,
                max_rate: None,
                balance_floor: Dollars(1.0),
                max_bid: None,
                launches_an_hour: 9,
                until: at(100_000),
                deadlines: Deadlines::default(),
            },
            instances: Ok(Vec::new()),
            queue: QueueSight::Known(snapshot()),
            balance: None,
            since_the_start: true,
        }
    }

    /// A box that was ordered, made and seen at these seconds.
    pub fn with_box(mut self, number: u32, seen: &[(i64, InstanceStatus)]) -> Self {
        let slot = number - 1;
        apply(&mut self.fleet, 0, Event::Intent(intent(number, slot)));
        let instance = InstanceId(u64::from(number));
        apply(&mut self.fleet, 1, Event::Created { id: id(number), instance });
        for (seconds, what) in seen {
            apply(&mut self.fleet, *seconds, status(*seconds, number, *what));
        }
        let status = seen.last().map_or(InstanceStatus::Created, |(_, status)| *status);
        let listed = self.listed(number, status);
        self.instances.as_mut().unwrap().push(listed);
        self
    }

    /// The same with its worker heard at this second.
    pub fn with_worker(mut self, number: u32, running_at: i64) -> Self {
        self = self.with_box(number, &[(running_at, InstanceStatus::Running)]);
        apply(&mut self.fleet, running_at, Event::Ready { id: id(number), worker: format!("w{number}") });
        let worker = self.worker(number, 1.0);
        self.snapshot().workers.push(worker);
        self
    }

    pub fn listed(&self, number: u32, status: InstanceStatus) -> Instance {
        Instance {
            id: InstanceId(u64::from(number)),
            label: self.label(number),
            machine: MachineId(1000 + u64::from(number)),
            status,
            message: String::new(),
            price: None,
            min_bid: None,
        }
    }

    pub fn label(&self, number: u32) -> String {
        Label { run: self.run.clone(), slot: number - 1, id: id(number) }.to_string()
    }

    pub fn worker(&self, number: u32, last_seen_seconds: f64) -> WorkerSnapshot {
        WorkerSnapshot {
            id: shared::ids::WorkerId(format!("w{number}")),
            info: WorkerInfo { instance: self.label(number), ..WorkerInfo::default() },
            last_seen_seconds,
            leases: 1,
            items_done: 0,
            items_in_flight: 0,
            host_failures: 0,
            banned: false,
        }
    }

    pub fn snapshot(&mut self) -> &mut Snapshot {
        match &mut self.queue {
            QueueSight::Known(snapshot) => snapshot,
            _ => panic!("the queue is not known"),
        }
    }

    /// What is decided at a second.
    pub fn at(&mut self, seconds: i64) -> Vec<Action> {
        let sight = Sight {
            at: at(seconds),
            instances: self.instances.clone(),
            queue: self.queue.clone(),
            balance: self.balance,
        };
        self.memory.see(&self.fleet, &sight);
        // A launcher that has been there from the start, unless a story says otherwise.
        if self.since_the_start {
            self.memory.watching_since(at(0));
        }
        decide(&self.run, &self.fleet, &self.memory, &sight, &self.rules)
    }

    /// The same without what is only said and rented.
    pub fn about_boxes_at(&mut self, seconds: i64) -> Vec<Action> {
        let mut actions = self.at(seconds);
        actions.retain(|action| !matches!(action, Action::Say(..) | Action::Rent { .. }));
        actions
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        state: RunState::Running,
        shards: ShardCounts { pending: 10, ..ShardCounts::default() },
        items_total: 100_000,
        items_done: 0,
        items_failed: 0,
        items_in_flight: 0,
        items_per_second: 0.0,
        workers: Vec::new(),
        leases: Vec::new(),
        failures: Vec::new(),
    }
}

/// Why and whether with a ban the only box that is condemned is.
pub fn condemned(actions: &[Action]) -> Option<(&str, bool)> {
    let found: Vec<(&str, bool)> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Condemn { why, ban, .. } => Some((why.as_str(), *ban)),
            _ => None,
        })
        .collect();
    assert!(found.len() <= 1, "{found:?}");
    found.first().copied()
}

/// Places that boxes are rented for.
pub fn rented(actions: &[Action]) -> Vec<u32> {
    let slot = |action: &Action| match action {
        Action::Rent { slot } => Some(*slot),
        _ => None,
    };
    actions.iter().filter_map(slot).collect()
}

/// What is said.
pub fn said(actions: &[Action]) -> Vec<&str> {
    let mut said = Vec::new();
    for action in actions {
        if let Action::Say(_, text) = action {
            said.push(text.as_str());
        }
    }
    said
}
