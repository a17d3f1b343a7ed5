//! The task that looks at a run again and again, and hands out what it saw to any number of watchers.
//!
//! It looks every two seconds while somebody watches, and seldom otherwise, so that the history has no hole. A look
//! costs the queue O(workers).

use std::pin::pin;
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

/// Somebody who asks once waits no longer for a look, and gets what was seen last.
const PATIENCE: Duration = Duration::from_secs(3);

/// A look that takes longer is told of.
const SLOW: Duration = Duration::from_secs(5);

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
        tokio::spawn(async move { Box::pin(stopped.run_until_cancelled(task)).await });
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

    /// What is seen now, or a moment ago; what was seen last, where looking takes long.
    pub async fn fresh(&self) -> Arc<Watched> {
        let age = Timestamp::now().duration_since(self.seen.borrow().at);
        if age.unsigned_abs() > FRESH {
            let mut receiver = self.seen.subscribe();
            receiver.mark_unchanged();
            self.look_now.notify_one();
            // Either way there is an answer.
            let _ = tokio::time::timeout(PATIENCE, receiver.changed()).await;
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
            match told_when_slow(self.look.take(), SLOW, &seen).await {
                Ok(status) => {
                    seen.send_replace(Arc::new(self.see(status).await));
                }
                Err(failure) => tell(&seen, format!("{:#}", failure.error)),
            }
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

/// What was seen last, with why there is nothing newer.
fn tell(seen: &watch::Sender<Arc<Watched>>, trouble: String) {
    let last = Watched::clone(&seen.borrow());
    seen.send_replace(Arc::new(Watched { trouble: Some(trouble), ..last }));
}

/// The look's answer, however late; those who watch are told once when it takes long.
async fn told_when_slow<T>(
    look: impl Future<Output = T>,
    slow: Duration,
    seen: &watch::Sender<Arc<Watched>>,
) -> T {
    let mut look = pin!(look);
    if let Ok(answer) = tokio::time::timeout(slow, look.as_mut()).await {
        return answer;
    }
    tell(seen, format!("no answer for {} s, and still waiting", slow.as_secs_f64()));
    look.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;
    use crate::watch::sample::watched;

    fn seen() -> watch::Sender<Arc<Watched>> {
        watch::channel(Arc::new(watched(sample::status()))).0
    }

    #[tokio::test]
    async fn a_slow_look_is_told_of_once_and_its_answer_taken() {
        let seen = seen();
        let mut told = seen.subscribe();
        let after = Duration::from_millis(500);
        told_when_slow(async {}, after, &seen).await;
        assert!(!told.has_changed().unwrap());
        let slow = async {
            told.changed().await.unwrap();
            told.borrow_and_update().trouble.clone()
        };
        let trouble = told_when_slow(slow, after, &seen).await;
        assert_eq!(trouble.as_deref(), Some("no answer for 0.5 s, and still waiting"));
        assert!(!told.has_changed().unwrap(), "once");
    }

    #[tokio::test]
    async fn somebody_who_asks_once_gets_an_answer_though_nobody_looks_any_more() {
        let stop = CancellationToken::new();
        let feed = Feed {
            seen: seen(),
            look_now: Arc::new(Notify::new()),
            control: Control::new(None),
            _task: Arc::new(stop.drop_guard()),
        };
        let answer = tokio::time::timeout(PATIENCE * 2, feed.fresh()).await.unwrap();
        assert_eq!(answer.status, sample::status());
    }
}
