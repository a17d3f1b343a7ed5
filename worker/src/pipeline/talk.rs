//! Talking to a queue that may be away: repeats, and how long it has been silent.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use shared::queue::QueueError;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// When the queue last answered for our run.
#[derive(Debug)]
pub struct Contact(Mutex<Instant>);

impl Contact {
    /// Starts now.
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// The queue answered.
    pub fn made(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until it has been silent for this long.
    pub async fn lost_for(&self, longest: Duration) {
        loop {
            let left = longest.saturating_sub(self.silence());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// How long it has been silent.
    pub fn silence(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// A pause that grows with the number of tries, with jitter so that a fleet does not knock in step.
pub fn pause(tries: u32) -> Duration {
    let longest = Duration::from_millis(200).saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
    longest.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// Repeats a queue operation (safe: every one is idempotent by token or nonce) while it fails in a
/// way that may pass and the queue has been silent for less than `give_up_after`.
pub async fn persist<T, F: Future<Output = Result<T, QueueError>>>(
    contact: &Contact,
    give_up_after: Duration,
    mut operation: impl FnMut() -> F,
) -> Result<T, QueueError> {
    let mut tries = 0;
    loop {
        match operation().await {
            Ok(answer) => {
                contact.made();
                return Ok(answer);
            }
            Err(error) if error.is_transient() && contact.silence() < give_up_after => {
                tracing::warn!(%error, "the queue does not answer; trying again");
                tokio::time::sleep(pause(tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
