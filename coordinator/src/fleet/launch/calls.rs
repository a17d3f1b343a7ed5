//! Calls of the market that may take long, made beside everything else: destructions, bids, logs. The provider
//! paces them; what they were answered is taken in at the next look.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::excerpt::excerpt;

use super::Launcher;
use crate::dollars::Dollars;
use crate::fleet::decide::Topic;
use crate::fleet::event::Event;
use crate::fleet::journal::JournalError;
use crate::fleet::label::BoxId;
use crate::provider::InstanceId;

/// Lines of a log that are looked through.
const LOG_LINES: u32 = 200;

/// How long a log may take to come.
const LOG_LIMIT: Duration = Duration::from_secs(30);

/// Calls on their way beside which no log is asked for: logs can wait.
const MOST_WITH_LOGS: usize = 4;

/// What `infra/vast/onstart` writes before the reason why its worker cannot work.
const FAILED: &str = "embed-fleet box: failed ";

/// What a call was answered.
pub enum Reply {
    /// The end of an instance was asked for.
    Destroyed(InstanceId, Option<BoxId>, Result<(), String>),
    /// More was offered.
    Bid(BoxId, InstanceId, Dollars, Result<(), String>),
    /// A log came; what it says of a worker that failed.
    Log(BoxId, Option<String>),
}

impl Launcher {
    /// Asks for the end of an instance.
    pub(super) fn destroy(&mut self, instance: InstanceId, id: Option<BoxId>) {
        if !self.memory.destroying.insert(instance) {
            return;
        }
        let provider = Arc::clone(&self.provider);
        self.calls.spawn(async move {
            let answer = provider.destroy(instance).await.map_err(|error| error.to_string());
            Reply::Destroyed(instance, id, answer)
        });
    }

    /// Offers more for a box.
    pub(super) fn bid(&mut self, id: BoxId, instance: InstanceId, bid: Dollars) {
        self.memory.bidding.insert(id.clone());
        let provider = Arc::clone(&self.provider);
        self.calls.spawn(async move {
            let answer = provider.raise_bid(instance, bid).await.map_err(|error| error.to_string());
            Reply::Bid(id, instance, bid, answer)
        });
    }

    /// Looks for the reason why a worker is not heard.
    pub(super) fn read_log(&mut self, id: BoxId, instance: InstanceId) {
        if self.calls.len() >= MOST_WITH_LOGS {
            return;
        }
        self.memory.log_read_at.insert(id.clone(), Timestamp::now());
        let provider = Arc::clone(&self.provider);
        self.calls.spawn(async move {
            let reading = tokio::time::timeout(LOG_LIMIT, provider.logs(instance, LOG_LINES));
            let log = reading.await.ok().and_then(Result::ok).unwrap_or_default();
            let reason = log.lines().filter_map(|line| line.split_once(FAILED)).next_back();
            Reply::Log(id, reason.map(|(_, why)| excerpt(why.trim()).into_owned()))
        });
    }

    /// Takes in what calls were answered meanwhile.
    pub(super) async fn take_replies(&mut self) -> Result<(), JournalError> {
        while let Some(reply) = self.calls.try_join_next() {
            let Ok(reply) = reply else { continue };
            self.take_reply(reply).await?;
        }
        Ok(())
    }

    async fn take_reply(&mut self, reply: Reply) -> Result<(), JournalError> {
        let now = Timestamp::now();
        match reply {
            Reply::Destroyed(instance, id, answer) => {
                self.memory.destroying.remove(&instance);
                self.memory.destroyed_at.insert(instance, now);
                match (answer, id) {
                    (Ok(()), Some(id)) => {
                        self.memory.ended_at.insert(id, now);
                    }
                    (Ok(()), None) => {}
                    (Err(error), _) => self.say(
                        Topic::Failure,
                        &format!(
                            "instance {instance} is not destroyed yet ({error}); it is tried again until it is gone"
                        ),
                    ),
                }
            }
            Reply::Bid(id, instance, bid, answer) => {
                self.memory.bidding.remove(&id);
                match answer {
                    Ok(()) => self.note(Event::Bid { id, bid }).await?,
                    Err(error) => self.say(Topic::Failure, &format!("instance {instance}: {error}")),
                }
            }
            Reply::Log(id, Some(reason)) => {
                self.memory.failures.insert(id, reason);
            }
            Reply::Log(_, None) => {}
        }
        Ok(())
    }
}
