//! One look at the market and the queue.

use jiff::Timestamp;
use shared::queue::{Queue as _, QueueError, QueueErrorKind, Snapshot};

use super::Launcher;
use crate::fleet::label::Label;
use crate::fleet::money::seconds_between;
use crate::fleet::sight::{QueueSight, Sight};

/// The pause between two looks at the account's balance, in seconds.
const BALANCE_EVERY: f64 = 60.0;

impl Launcher {
    /// Looks at everything at once.
    pub(super) async fn look(&mut self) -> Sight {
        let (instances, snapshot, balance) =
            tokio::join!(self.provider.instances(), self.snapshot(), self.balance());
        if balance.is_some() {
            self.balance_read_at = Some(Timestamp::now());
        }
        let queue = match snapshot {
            Ok(Some(snapshot)) => QueueSight::Known(snapshot),
            Ok(None) => QueueSight::NoRun,
            Err(error) if error.kind == QueueErrorKind::FunctionsMissing => QueueSight::NoRun,
            Err(error) => QueueSight::Unknown(error.to_string()),
        };
        let at = Timestamp::now();
        if let QueueSight::Known(snapshot) = &queue {
            self.remember_items(snapshot);
        }
        Sight { at, instances: instances.map_err(|error| error.to_string()), queue, balance }
    }

    /// The queue; one that is not there says nothing.
    async fn snapshot(&self) -> Result<Option<Snapshot>, QueueError> {
        match &self.queue {
            Some(queue) => queue.snapshot().await,
            None => Err(QueueError::new(QueueErrorKind::Unreachable, "no queue is named")),
        }
    }

    async fn balance(&self) -> Option<crate::dollars::Dollars> {
        let due = self.balance_read_at.is_none_or(|at| seconds_between(at, Timestamp::now()) > BALANCE_EVERY);
        if !due {
            return None;
        }
        // A balance that cannot be read says nothing; the budget holds without it.
        self.provider.balance().await.ok().flatten()
    }

    /// Keeps what each box did: a worker may be gone from the queue when the report is made.
    fn remember_items(&mut self, snapshot: &Snapshot) {
        let mut items = std::collections::BTreeMap::new();
        for worker in &snapshot.workers {
            if Label::of(&self.run.plan.run, &worker.info.instance).is_some() {
                let sum: &mut u64 = items.entry(worker.info.instance.clone()).or_default();
                *sum += worker.items_done + worker.items_in_flight;
            }
        }
        for (label, count) in items {
            let known = self.items_by_box.entry(label).or_default();
            *known = count.max(*known);
        }
    }
}
