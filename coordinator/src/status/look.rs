//! Looks at a run: at its queue, or where that is away at the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shared::ids::RunId;
use shared::queue::redis::RedisQueue;
use shared::queue::{Queue as _, Snapshot};
use shared::settings::QueueAddress;
use shared::store::Store;

use super::{Status, from_queue, from_store};
use crate::context::{planned_run, queue_for_a_look};
use crate::failure::Failure;
use crate::fleet::journal::Record;
use crate::fleet::view::{Cost, Seen, view};
use crate::merge::Run;

/// A look at the store reads the tail of every part. It is followed by so many times its own duration in which it is
/// not made again.
const REST: u32 = 10;

/// What is looked at. The connection to the queue is kept from one look to the next.
pub struct Look {
    run: Arc<Run>,
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
        let run = planned_run(store, named).await?;
        let fleet = Record::open(&run.store, &run.plan.run).await?;
        Ok(Self { run: Arc::new(run), address, queue: None, fleet, from_store: None })
    }

    /// The run.
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// The queue, where one is named. Nothing is sent to it yet.
    pub fn queue(&mut self) -> Result<Option<Arc<RedisQueue>>, Failure> {
        if let (None, Some(address)) = (&self.queue, &self.address) {
            self.queue = Some(Arc::new(queue_for_a_look(address, &self.run.plan.run)?));
        }
        Ok(self.queue.clone())
    }

    /// The run as it stands. Fails where the store does.
    pub async fn take(&mut self) -> Result<Status, Failure> {
        self.fleet.read_on().await?;
        let note = match self.ask().await {
            Ok(Some(snapshot)) => {
                self.from_store = None;
                let cost = self.cost(Some(&snapshot));
                return Ok(Status { cost, ..from_queue(&self.run.plan, snapshot) });
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

    async fn ask_store(&mut self) -> Result<Status, Failure> {
        let started = Instant::now();
        if let Some(last) = self.from_store.as_ref().filter(|last| started < last.not_before) {
            return Ok(last.status.clone());
        }
        let status = from_store(&self.run).await?;
        let rest = (started.elapsed() * REST).max(Duration::from_secs(1));
        self.from_store = Some(FromStore { status: status.clone(), not_before: Instant::now() + rest });
        Ok(status)
    }

    /// What rented boxes cost, where there ever were any.
    fn cost(&self, snapshot: Option<&Snapshot>) -> Option<Cost> {
        let seen = Seen { run: &self.run.plan.run, snapshot, items: None, now: Timestamp::now() };
        (!self.fleet.is_empty()).then(|| view(self.fleet.fleet(), seen).cost)
    }
}
