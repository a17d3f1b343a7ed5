//! What the process is told: Ctrl-C ends the fleet, a second one or SIGTERM leaves it as it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// The signals that came so far.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    interrupts: Arc<AtomicU32>,
    terminated: Arc<AtomicU32>,
    came: Arc<Notify>,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        let signals = Self::default();
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let listening = signals.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {
                        if listening.interrupts.fetch_add(1, Ordering::Relaxed) == 0 {
                            super::tell::line(
                                "Ctrl-C: every box of this run is destroyed; once more leaves them working for another launcher",
                            );
                        }
                    }
                    _ = terminate.recv() => {
                        listening.terminated.fetch_add(1, Ordering::Relaxed);
                    }
                }
                listening.came.notify_one();
            }
        });
        Ok(signals)
    }

    /// Whether the fleet is to be ended.
    pub fn interrupted(&self) -> bool {
        self.interrupts.load(Ordering::Relaxed) > 0
    }

    /// Whether the boxes are to be left as they are.
    pub fn leaves(&self) -> bool {
        self.interrupts.load(Ordering::Relaxed) > 1 || self.terminated.load(Ordering::Relaxed) > 0
    }

    /// Waits for the next signal.
    pub async fn changed(&self) {
        self.came.notified().await;
    }
}
