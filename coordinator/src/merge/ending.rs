//! How a merge ends before its time: whoever writes hears of it, and what was begun in stores and folders is taken
//! back before the merge returns.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::MergeError;

/// How long a merge that ends waits for what it takes back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Told to all who write. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    stop: CancellationToken,
    /// What still holds a file or an upload, or gives one up.
    holders: TaskTracker,
}

impl Ending {
    /// Ends when `stop` is cancelled.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, holders: TaskTracker::new() }
    }

    /// For work that lasts: an error once it should last no longer.
    pub(super) fn check(&self) -> Result<(), MergeError> {
        if self.stop.is_cancelled() { Err(MergeError::Stopped) } else { Ok(()) }
    }

    /// What `work` gives, unless the merge is stopped first.
    pub(super) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, MergeError>>,
    ) -> Result<T, MergeError> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.stop.cancelled() => Err(MergeError::Stopped),
        }
    }

    /// Runs work that blocks and may own files and uploads: where nobody waits for it any more, they are dropped
    /// before [`Ending::wait`] returns.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, MergeError> {
        let held = self.holders.token();
        // The token is the last to go: what nobody takes is dropped in this order.
        let done = tokio::task::spawn_blocking(move || (work(), held)).await;
        done.map(|(result, _)| result).map_err(|error| MergeError::Thread(error.to_string()))
    }

    /// Lets `task` take something back.
    pub(super) fn take_back(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        self.holders.spawn_on(task, runtime);
    }

    /// Waits until everything is taken back, for as long as that makes sense: the process may end after.
    pub(super) async fn wait(&self) {
        self.holders.close();
        let _ = tokio::time::timeout(PATIENCE, self.holders.wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_thread_holds_is_dropped_before_the_wait_ends() {
        let ending = Ending::default();
        let held = Arc::new(());
        let ((begun, begin), (release, released)) = (channel(), channel());
        let work = {
            let held = Arc::clone(&held);
            move || {
                begun.send(()).unwrap();
                released.recv().unwrap();
                held
            }
        };
        let stop = ending.stop.clone();
        std::thread::spawn(move || begin.recv().map(|()| stop.cancel()));
        let stopped = ending.unless_stopped(ending.blocking(work)).await;
        assert!(matches!(stopped, Err(MergeError::Stopped)));
        assert_eq!(Arc::strong_count(&held), 2, "nobody waits for the thread, which goes on");
        release.send(()).unwrap();
        ending.wait().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
