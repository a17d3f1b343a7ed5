//! Pause, unpause and drain, for those who watch.

use std::sync::Arc;

use serde::Serialize;
use shared::queue::Queue as _;
use shared::queue::redis::RedisQueue;

use crate::failure::Failure;

/// A word to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Workers stay and claim nothing.
    Pause,
    /// Ends a pause or a drain. (`coordinator resume` does more: it makes the queue agree with the store.)
    Resume,
    /// Workers finish what they hold and exit.
    Drain,
}

/// The queue of a run, for orders alone.
#[derive(Clone)]
pub struct Control(Option<Arc<RedisQueue>>);

impl Control {
    /// Of this queue; without one every order is refused.
    pub fn new(queue: Option<Arc<RedisQueue>>) -> Self {
        Self(queue)
    }

    /// Whether there is anybody to take orders.
    pub fn is_possible(&self) -> bool {
        self.0.is_some()
    }

    /// Gives an order.
    pub async fn give(&self, order: Order) -> Result<(), Failure> {
        let Some(queue) = &self.0 else {
            return Err(Failure::usage("there is no queue to tell: pass --queue or set FLEET_QUEUE"));
        };
        match order {
            Order::Pause => queue.pause().await?,
            Order::Resume => queue.unpause().await?,
            Order::Drain => queue.drain().await?,
        }
        Ok(())
    }
}
