//! Between two passes of the pipeline: the devices are free, suspected items are searched in child processes,
//! and the model is loaded again.

use std::sync::Arc;
use std::time::Duration;

use super::fetch;
use super::lease::HeldLease;
use super::{Worker, WorkerEnd, WorkerError};
use crate::embedder::Embedder;
use crate::isolate::Isolation;

/// How often the model is tried to be loaded again.
const LOADS: u32 = 3;

/// The pause before another try.
const BETWEEN_LOADS: Duration = Duration::from_secs(5);

/// What ends a worker between two passes.
pub enum Between {
    /// Nothing is left to do for it.
    Over(WorkerEnd),
    /// It cannot go on.
    Failed(WorkerError),
}

impl Between {
    /// The end of the worker.
    pub fn into_end(self) -> Result<WorkerEnd, WorkerError> {
        match self {
            Self::Over(end) => Ok(end),
            Self::Failed(error) => Err(error),
        }
    }
}

/// Loads the model that was given free for a search; again after a while where it fails, since a child that
/// was killed may take a moment to give a device back.
pub async fn load_again(isolation: &Isolation) -> Result<Vec<Arc<dyn Embedder>>, Between> {
    let mut tries = 0;
    loop {
        let load = Arc::clone(&isolation.load);
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let why = match loaded {
            Ok(Ok(embedders)) => return Ok(embedders),
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        tries += 1;
        if tries == LOADS {
            return Err(Between::Failed(WorkerError::Reload(why)));
        }
        tracing::warn!(%why, "the model cannot be loaded again yet");
        tokio::time::sleep(BETWEEN_LOADS).await;
    }
}

/// Searches the suspected items of a lease, which beats keep alive; the lease knows then what to leave out.
/// Where this machine cannot tell, nothing is left out, and the shard is embedded as any other.
pub async fn search(worker: &Worker, isolation: &Isolation, held: &HeldLease) {
    crate::device::release_unused();
    let shard = held.lease().shard;
    let suspected = held.lease().isolate.unwrap_or_else(|| held.all_items());
    match fetch::fetch_bytes(&worker.store, &worker.plan.run, held.lease()).await {
        Ok(bundle) => match isolation.search(shard, suspected, &bundle).await {
            Ok(items) => held.leave_out(items),
            Err(why) => {
                tracing::warn!(%shard, %why, "the search found nothing; the shard is embedded as it is");
            }
        },
        // It is met again, and judged, where the shard is fetched to be embedded.
        Err(error) => tracing::warn!(%shard, %error, "no search without the bundle"),
    }
}
