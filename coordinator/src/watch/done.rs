//! Which shards have a part, by the names in `parts/`.
//!
//! The queue tells how many shards are done, not which: that would cost O(shards) at every look. So the folder is listed
//! when that number has changed, beside the looks, and at most a thousand names (a page of S3, one request) for each look
//! on average: at every look for a small run, every few minutes for 200,000 shards. The names alone are read; `status`
//! and `merge` validate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use shared::ids::ContentName;
use shared::store::{StoreError, layout};
use tokio::task::JoinHandle;

use crate::merge::Run;

/// Names that one request lists.
const PAGE: usize = 1000;

/// The rest after a listing for each request that it took, a little less than the pause between two looks.
const REST: Duration = Duration::from_millis(1500);

/// A look waits this long for a listing, which is enough for a small run.
const WAIT: Duration = Duration::from_millis(250);

/// The shards that have a part, as last listed.
pub struct DoneShards {
    run: Arc<Run>,
    done: Vec<bool>,
    /// How many were done when the last listing began.
    known: Option<u64>,
    listing: Option<Listing>,
    not_before: Instant,
}

struct Listing {
    done_then: u64,
    task: JoinHandle<Result<Vec<bool>, StoreError>>,
}

impl DoneShards {
    /// Nothing is listed yet.
    pub fn new(run: Arc<Run>) -> Self {
        Self { run, done: Vec::new(), known: None, listing: None, not_before: Instant::now() }
    }

    /// By position, as last listed; `done_now` is how many are done by the queue's count. A listing that fails is made
    /// again: the numbers beside it are true without it.
    pub async fn look(&mut self, done_now: u64) -> &[bool] {
        let wanted = self.known != Some(done_now) && Instant::now() >= self.not_before;
        if self.listing.is_none() && wanted {
            let task = tokio::spawn(list(Arc::clone(&self.run)));
            self.listing = Some(Listing { done_then: done_now, task });
        }
        if let Some(mut listing) = self.listing.take() {
            match tokio::time::timeout(WAIT, &mut listing.task).await {
                Err(_) => self.listing = Some(listing),
                Ok(listed) => {
                    if let Ok(Ok(done)) = listed {
                        (self.done, self.known) = (done, Some(listing.done_then));
                    }
                    self.not_before = Instant::now() + rest(self.done.iter().filter(|done| **done).count());
                }
            }
        }
        &self.done
    }
}

/// After a listing of so many parts.
fn rest(parts: usize) -> Duration {
    REST * (parts / PAGE + 1) as u32
}

async fn list(run: Arc<Run>) -> Result<Vec<bool>, StoreError> {
    let mut done = vec![false; run.shards().len()];
    let mut parts = run.store.list(&layout::parts_folder(&run.plan.run));
    while let Some(object) = parts.try_next().await? {
        let position = ContentName::parse_part(&object.name).ok().and_then(|name| run.position(name.shard));
        if let Some(position) = position {
            done[position] = true;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;

    #[test]
    fn the_larger_a_run_the_longer_the_rest() {
        assert!(rest(345) < Duration::from_secs(2), "at every look");
        assert!(rest(200_000) > Duration::from_mins(5));
    }

    #[tokio::test]
    async fn names_tell_which_shards_are_done() {
        let run = Arc::new(sample::run(3));
        let mut done = DoneShards::new(Arc::clone(&run));
        assert_eq!(done.look(0).await, [false; 3]);
        for name in ["000001-0123456789abcdef.npz", "000009-0123456789abcdef.npz", "odd"] {
            let key = format!("{}/{name}", layout::parts_folder(&run.plan.run));
            run.store.put_new(&key, "x".into()).await.unwrap();
        }
        assert_eq!(done.look(0).await, [false; 3], "the count is as it was");
        done.not_before = Instant::now();
        assert_eq!(done.look(1).await, [false, true, false]);
    }
}
