//! The connection: one, shared by all operations, and made anew when it is of no more use.
//!
//! The client library neither repeats a command nor notices silent packet loss: with a connection
//! that lost its peer it answers "timed out" for ever. So commands are repeated here, which is safe
//! because every operation of the queue is idempotent by token or nonce, and the connection is made
//! anew when it was dropped and after [`TIMEOUTS_TO_RECONNECT`] timeouts in a row.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::super::{QueueError, QueueErrorKind};
use super::failure::{Peer, kind_of, queue_error};
use super::options::{RedisOptions, open_client};
use crate::settings::QueueAddress;

/// One timeout may be a slow server; three in a row are a connection that lost its peer.
const TIMEOUTS_TO_RECONNECT: u32 = 3;

/// A connection to one server, for any number of concurrent calls.
pub(super) struct Link {
    client: Client,
    peer: Peer,
    options: RedisOptions,
    current: Mutex<Current>,
}

/// The connection that is in use.
#[derive(Default)]
struct Current {
    connection: Option<MultiplexedConnection>,
    /// Tells this connection's failures from those of one that is gone already.
    generation: u64,
    timeouts_in_a_row: u32,
}

impl Link {
    /// A link that connects at its first call.
    pub(super) fn open(address: &QueueAddress, options: RedisOptions) -> Result<Self, QueueError> {
        let client = open_client(address)?;
        Ok(Self { client, peer: Peer::of(address), options, current: Mutex::default() })
    }

    /// The URL, masked.
    pub(super) fn shown(&self) -> &str {
        &self.peer.shown
    }

    /// Sends a command until it is answered, or refused, or [`RedisOptions::give_up_after`] has
    /// passed. `operation` names it in messages.
    pub(super) async fn call(&self, operation: &str, command: &Cmd) -> Result<Value, QueueError> {
        let deadline = Instant::now() + self.options.give_up_after;
        let mut last_error = None;
        let repeated = timeout_at(deadline, self.repeat(command, &mut last_error)).await;
        match (repeated, last_error) {
            (Ok(Ok(value)), _) => Ok(value),
            (Ok(Err(error)), _) | (Err(_), Some(error)) => Err(queue_error(&self.peer, operation, error)),
            (Err(_), None) => {
                let seconds = self.options.give_up_after.as_secs_f64();
                let message = format!("queue {}: {operation}: no answer for {seconds} s", self.peer.shown);
                Err(QueueError::new(QueueErrorKind::Unreachable, message))
            }
        }
    }

    async fn repeat(&self, command: &Cmd, last_error: &mut Option<RedisError>) -> Result<Value, RedisError> {
        let mut pause = self.options.first_pause;
        loop {
            match self.try_once(command).await {
                Err(error) if kind_of(&error) == QueueErrorKind::Unreachable => {
                    tracing::debug!(queue = self.peer.shown, %error, "queue call failed, trying again");
                    *last_error = Some(error);
                }
                answered => return answered,
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(self.options.longest_pause);
        }
    }

    async fn try_once(&self, command: &Cmd) -> Result<Value, RedisError> {
        let (mut connection, generation) = self.connection().await?;
        let answer = command.query_async::<Value>(&mut connection).await;
        self.learn_from(&answer, generation).await;
        answer
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), RedisError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((connection.clone(), current.generation));
        }
        let config = self.options.connection_config();
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        current.generation += 1;
        current.timeouts_in_a_row = 0;
        current.connection = Some(connection.clone());
        Ok((connection, current.generation))
    }

    /// Drops the connection where the answer says that it is of no more use.
    async fn learn_from(&self, answer: &Result<Value, RedisError>, generation: u64) {
        let mut current = self.current.lock().await;
        if current.generation != generation {
            return;
        }
        match answer {
            Err(error) if error.is_timeout() => {
                current.timeouts_in_a_row += 1;
                if current.timeouts_in_a_row >= TIMEOUTS_TO_RECONNECT {
                    tracing::warn!(
                        queue = self.peer.shown,
                        "three answers in a row did not come, connecting anew"
                    );
                    current.connection = None;
                }
            }
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => current.connection = None,
            // A replica that was the master until a failover: the address may lead elsewhere now.
            Err(error) if error.code() == Some("READONLY") => current.connection = None,
            _ => current.timeouts_in_a_row = 0,
        }
    }
}

/// Between half of the pause and all of it, so that workers do not return in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}
