//! The task that looks at a run again and again, and hands out what it saw to any number of watchers.
//!
//! It looks every two seconds while somebody watches, and seldom otherwise, so that the history has no hole. A look
//! costs the queue O(workers).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Watched;
use super::cells::{Cells, cells};
use super::control::Control;
use super::done::DoneShards;
use super::history::History;
use crate::failure::Failure;
use crate::merge::Run;
use crate::status::Status;
use crate::status::look::Look;

/// The pause between two looks while somebody watches.
const WATCHED: Duration = Duration::from_secs(2);

/// The pause while nobody does.
const UNWATCHED: Duration = Duration::from_secs(15);

/// The least pause, however many ask for a look.
const LEAST: Duration = Duration::from_millis(250);

/// A status older than this is not handed to somebody who asks once.
const FRESH: Duration = Duration::from_secs(2);

/// What was seen last, and whoever wants to be told.
#[derive(Clone)]
pub struct Feed {
    seen: watch::Sender<Arc<Watched>>,
    look_now: Arc<Notify>,
    control: Control,
    /// The task ends with the last clone.
    _task: Arc<DropGuard>,
}

impl Feed {
    /// Looks once, which must succeed, and goes on looking until the last clone is gone.
    pub async fn start(mut look: Look) -> Result<Self, Failure> {
        let status = look.take().await?;
        // A queue that cannot be opened is told of by every look.
        let control = Control::new(look.queue().unwrap_or_default());
        let run = look.run().await?;
        let (history, done) = (History::default(), DoneShards::new(Arc::clone(&run)));
        let mut watcher = Watcher { look, run, history, done };
        let (seen, _) = watch::channel(Arc::new(watcher.see(status).await));
        let (look_now, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let task = watcher.go_on(seen.clone(), Arc::clone(&look_now));
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(task).await });
        Ok(Self { seen, look_now, control, _task: Arc::new(stop.drop_guard()) })
    }

    /// What was seen last, and a way to wait for the next; while it lives, looks are frequent.
    pub fn watch(&self) -> watch::Receiver<Arc<Watched>> {
        let receiver = self.seen.subscribe();
        self.look_now.notify_one();
        receiver
    }

    /// What was seen last, however long ago.
    pub fn last(&self) -> Arc<Watched> {
        Arc::clone(&self.seen.borrow())
    }

    /// What is seen now, or a moment ago.
    pub async fn fresh(&self) -> Arc<Watched> {
        let age = Timestamp::now().duration_since(self.seen.borrow().at);
        if age.unsigned_abs() > FRESH {
            let mut receiver = self.seen.subscribe();
            receiver.mark_unchanged();
            self.look_now.notify_one();
            // The sender lives as long as this feed.
            let _ = receiver.changed().await;
        }
        self.last()
    }

    /// Looks at once: something was changed.
    pub fn look_now(&self) {
        self.look_now.notify_one();
    }

    /// The queue, for orders.
    pub fn control(&self) -> &Control {
        &self.control
    }
}

struct Watcher {
    look: Look,
    run: Arc<Run>,
    history: History,
    done: DoneShards,
}

impl Watcher {
    async fn go_on(mut self, seen: watch::Sender<Arc<Watched>>, look_now: Arc<Notify>) {
        loop {
            // However many ask.
            tokio::time::sleep(LEAST).await;
            let pause = if seen.receiver_count() > 0 { WATCHED } else { UNWATCHED };
            // Either way a look follows.
            let _ = tokio::time::timeout(pause, look_now.notified()).await;
            let next = match self.look.take().await {
                Ok(status) => self.see(status).await,
                Err(failure) => {
                    let last = Watched::clone(&seen.borrow());
                    Watched { trouble: Some(format!("{:#}", failure.error)), ..last }
                }
            };
            seen.send_replace(Arc::new(next));
        }
    }

    async fn see(&mut self, status: Status) -> Watched {
        let at = Timestamp::now();
        self.history.record(at.as_millisecond() as f64 / 1e3, &status);
        let cells: Cells = cells(&self.run, self.done.look(status.shards.done).await, &status);
        Watched {
            at,
            trouble: None,
            rates: self.history.rates(),
            worker_rates: self.history.worker_rates(),
            cells,
            status,
        }
    }
}
