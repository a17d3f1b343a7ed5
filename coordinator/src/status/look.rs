//! Looks at a run: at its queue, or where that is away at the store.
//!
//! A look at the queue costs O(workers): the shards are read when the store is to tell, or somebody wants to know of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shared::ids::RunId;
use shared::plan::Plan;
use shared::queue::redis::RedisQueue;
use shared::queue::{Queue as _, Snapshot};
use shared::settings::QueueAddress;
use shared::store::Store;

use super::{Status, from_queue, from_store};
use crate::context::{plan_of, queue_for_a_look, run_with_shards};
use crate::failure::Failure;
use crate::fleet::journal::Record;
use crate::fleet::view::{Cost, Seen, view};
use crate::merge::Run;

/// A look at the store reads the tail of every part. It is followed by so many times its own duration in which it is
/// not made again.
const REST: u32 = 10;

/// How long a look waits for news of rented boxes where the queue has answered.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is looked at. The connection to the queue is kept from one look to the next.
pub struct Look {
    store: Store,
    plan: Plan,
    run: Option<Arc<Run>>,
    address: Option<QueueAddress>,
    queue: Option<Arc<RedisQueue>>,
    fleet: Record,
    from_store: Option<FromStore>,
}

/// What the store said last.
struct FromStore {
    status: Status,
    not_before: Instant,
}

impl Look {
    /// The run named, or the only one in the store.
    pub async fn open(
        store: Store,
        named: Option<RunId>,
        address: Option<QueueAddress>,
    ) -> Result<Self, Failure> {
        let plan = plan_of(&store, named).await?;
        let fleet = Record::open(&store, &plan.run).await?;
        Ok(Self { store, plan, run: None, address, queue: None, fleet, from_store: None })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The run with its shards, which are read once.
    pub async fn run(&mut self) -> Result<Arc<Run>, Failure> {
        if let Some(run) = &self.run {
            return Ok(Arc::clone(run));
        }
        let run = Arc::new(run_with_shards(self.store.clone(), self.plan.clone()).await?);
        self.run = Some(Arc::clone(&run));
        Ok(run)
    }

    /// The queue, where one is named. Nothing is sent to it yet.
    pub fn queue(&mut self) -> Result<Option<Arc<RedisQueue>>, Failure> {
        if let (None, Some(address)) = (&self.queue, &self.address) {
            self.queue = Some(Arc::new(queue_for_a_look(address, &self.plan.run)?));
        }
        Ok(self.queue.clone())
    }

    /// The run as it stands. Fails where neither the queue nor the store tells.
    pub async fn take(&mut self) -> Result<Status, Failure> {
        let asked = self.ask().await;
        let boxes = self.read_on_of_boxes().await;
        let note = match asked {
            Ok(Some(snapshot)) => {
                self.from_store = None;
                let cost = self.cost(Some(&snapshot));
                let notes = boxes.into_iter().collect();
                return Ok(Status { cost, notes, ..from_queue(&self.plan, snapshot) });
            }
            Ok(None) if self.address.is_none() => None,
            Ok(None) => Some(
                "the queue does not know this run: `coordinator resume` rebuilds it from the store"
                    .to_owned(),
            ),
            Err(failure) => {
                Some(format!("the queue does not answer ({:#}); this is what the store says", failure.error))
            }
        };
        let mut status = self.ask_store().await?;
        status.cost = self.cost(None);
        status.notes.extend(note);
        Ok(status)
    }

    async fn ask(&mut self) -> Result<Option<Snapshot>, Failure> {
        match self.queue()? {
            Some(queue) => Ok(queue.snapshot().await?),
            None => Ok(None),
        }
    }

    /// What was written of rented boxes since; otherwise why that is not known.
    async fn read_on_of_boxes(&mut self) -> Option<String> {
        match tokio::time::timeout(PATIENCE, self.fleet.read_on()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("rented boxes as last known: {error}")),
            Err(_) => Some("rented boxes as last known: the store does not answer".to_owned()),
        }
    }

    async fn ask_store(&mut self) -> Result<Status, Failure> {
        let started = Instant::now();
        if let Some(last) = self.from_store.as_ref().filter(|last| started < last.not_before) {
            return Ok(last.status.clone());
        }
        let status = from_store(&*self.run().await?).await?;
        let rest = (started.elapsed() * REST).max(Duration::from_secs(1));
        self.from_store = Some(FromStore { status: status.clone(), not_before: Instant::now() + rest });
        Ok(status)
    }

    /// What rented boxes cost, where there ever were any.
    fn cost(&self, snapshot: Option<&Snapshot>) -> Option<Cost> {
        let seen = Seen { run: &self.plan.run, snapshot, items: None, now: Timestamp::now() };
        (!self.fleet.is_empty()).then(|| view(self.fleet.fleet(), seen).cost)
    }
}
