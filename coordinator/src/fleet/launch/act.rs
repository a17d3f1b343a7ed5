//! One step of a decision, carried out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::excerpt::excerpt;
use shared::queue::Queue as _;

use super::{Launcher, Outcome, tell};
use crate::failure::Failure;
use crate::fleet::decide::{Action, Topic};
use crate::fleet::event::Event;
use crate::fleet::journal::JournalError;
use crate::fleet::label::BoxId;
use crate::fleet::money::seconds_between;
use crate::provider::InstanceId;
use crate::record::{Depth, read_record};
use crate::resume::resume;

/// Lines of a log that are looked through.
const LOG_LINES: u32 = 200;

/// How long a log may take to come.
const LOG_LIMIT: Duration = Duration::from_secs(30);

/// What `infra/vast/onstart` writes before the reason why its worker cannot work.
const FAILED: &str = "embed-fleet box: failed ";

impl Launcher {
    /// Carries a step out; the outcome where it was the last.
    pub(super) async fn act(&mut self, action: Action) -> Result<Option<Outcome>, JournalError> {
        match action {
            Action::Adopt { id, instance } => self.note(Event::Created { id, instance }).await?,
            Action::GiveUp { id } => {
                let why = "no answer came, and no instance has its label".to_owned();
                self.refused(id, why, false).await?;
            }
            Action::Note { id, since, status, price } => {
                self.note(Event::Status { id, since, status, price }).await?;
            }
            Action::Ready { id, worker } => self.note(Event::Ready { id, worker }).await?,
            Action::ReadLog { id, instance } => self.read_log(id, instance),
            Action::Rebid { id, instance, bid } => match self.provider.raise_bid(instance, bid).await {
                Ok(()) => self.note(Event::Bid { id, bid }).await?,
                Err(error) => self.say(Topic::Failure, &format!("instance {instance}: {error}")),
            },
            Action::Condemn { id, why, ban } => self.note(Event::Condemned { id, why, ban }).await?,
            Action::Destroy { id, instance } => self.destroy(id, instance).await,
            Action::Confirm { id, instance } => {
                // A list may lag; the instance alone is asked for before it is believed.
                if let Ok(None) = self.provider.instance(instance).await {
                    self.gone(id).await?;
                }
            }
            Action::DestroyStray { instance, label } => self.destroy_stray(instance, label).await?,
            Action::RestoreUsers => self.restore_users().await,
            Action::Rebuild => self.rebuild().await,
            Action::Drain { why } => {
                // Written first: boxes are ended in time even if the queue cannot be told.
                self.note(Event::Drained { why }).await?;
                self.drain().await;
            }
            Action::DrainAgain => self.drain().await,
            Action::End(ending) => {
                tell::line(&format!("the fleet ends: {ending}"));
                self.memory.ending = Some(ending);
            }
            Action::Rent { slot } => self.rent(slot).await?,
            Action::Close => return self.close().await.map(Some),
            Action::Say(topic, text) => self.say(topic, &text),
        }
        Ok(None)
    }

    /// Writes an event down, and says it.
    pub(super) async fn note(&mut self, event: Event) -> Result<(), JournalError> {
        let sentence = tell::sentence(&event, self.journal.fleet());
        self.journal.append(event).await?;
        if let Some(sentence) = sentence {
            tell::line(&sentence);
        }
        Ok(())
    }

    /// A box that never was.
    pub(super) async fn refused(&mut self, id: BoxId, why: String, ban: bool) -> Result<(), JournalError> {
        self.note(Event::Refused { id: id.clone(), why, ban }).await?;
        self.delete_user(&id).await;
        Ok(())
    }

    async fn gone(&mut self, id: BoxId) -> Result<(), JournalError> {
        let since = self.memory.gone_since(&id, Timestamp::now());
        self.note(Event::Gone { id: id.clone(), since }).await?;
        self.delete_user(&id).await;
        Ok(())
    }

    /// Deletes the queue's user of a box; one that is left over is deleted with the fleet.
    async fn delete_user(&self, id: &BoxId) {
        let user = self.fleet().boxes.get(id).and_then(|of| of.intent.queue_user.clone());
        if let (Some(users), Some(user)) = (&self.rights.users, user) {
            let _ = users.delete(&user.name).await;
        }
    }

    async fn destroy(&mut self, id: BoxId, instance: InstanceId) {
        self.memory.destroyed_at.insert(id.clone(), Timestamp::now());
        match self.provider.destroy(instance).await {
            Ok(()) => {
                self.memory.ended_at.insert(id, Timestamp::now());
            }
            Err(error) => {
                let text = "it is tried again until it is gone";
                self.say(
                    Topic::Failure,
                    &format!("instance {instance} is not destroyed yet ({error}); {text}"),
                );
            }
        }
    }

    async fn destroy_stray(&mut self, instance: InstanceId, label: String) -> Result<(), JournalError> {
        if self.memory.strays.insert(instance) {
            self.note(Event::Stray { instance, label }).await?;
        }
        if let Err(error) = self.provider.destroy(instance).await {
            self.say(
                Topic::Failure,
                &format!("the stray instance {instance} is not destroyed yet ({error})"),
            );
        }
        Ok(())
    }

    /// Looks for the reason why a worker is not heard, beside everything else: a log takes long to come.
    fn read_log(&mut self, id: BoxId, instance: InstanceId) {
        self.memory.log_read_at.insert(id.clone(), Timestamp::now());
        let provider = Arc::clone(&self.provider);
        self.logs.spawn(async move {
            let reading = tokio::time::timeout(LOG_LIMIT, provider.logs(instance, LOG_LINES));
            let log = reading.await.ok().and_then(Result::ok).unwrap_or_default();
            let reason = log.lines().filter_map(|line| line.split_once(FAILED)).next_back();
            (id, reason.map(|(_, why)| excerpt(why.trim()).into_owned()))
        });
    }

    /// Takes in what logs say that came meanwhile.
    pub(super) fn take_logs(&mut self) {
        while let Some(read) = self.logs.try_join_next() {
            if let Ok((id, Some(reason))) = read {
                self.memory.failures.insert(id, reason);
            }
        }
    }

    async fn restore_users(&mut self) {
        const MINUTE: f64 = 60.0;
        let now = Timestamp::now();
        if self.memory.users_restored_at.is_some_and(|at| seconds_between(at, now) < MINUTE) {
            return;
        }
        self.memory.users_restored_at = Some(now);
        let Some(users) = &self.rights.users else { return };
        let mut failed = None;
        for user in self.journal.fleet().live().filter_map(|of| of.intent.queue_user.as_ref()) {
            failed = failed.or(users.restore(user).await.err());
        }
        if let Some(error) = failed {
            self.say(Topic::Queue, &error.to_string());
        }
    }

    async fn drain(&mut self) {
        let Some(queue) = &self.queue else { return };
        if let Err(error) = queue.drain().await {
            self.say(
                Topic::Queue,
                &format!("workers cannot be told to exit ({error}); their boxes end at the deadline"),
            );
        }
    }

    /// The queue has lost the run: everything it needs lies in the store.
    async fn rebuild(&mut self) {
        match self.try_rebuild().await {
            Ok(()) => {
                tell::line("the queue had lost the run; it is rebuilt from the store");
                // A server that forgot the run may have forgotten its users too.
                self.memory.users_restored_at = None;
                self.restore_users().await;
            }
            Err(failure) => {
                let why = format!("{:#}", failure.error);
                self.say(
                    Topic::Queue,
                    &format!("the queue has lost the run and cannot be rebuilt yet: {why}"),
                );
            }
        }
    }

    async fn try_rebuild(&self) -> Result<(), Failure> {
        let Some(queue) = &self.queue else { return Ok(()) };
        queue.check_server().await?;
        queue.load_functions().await?;
        let record = read_record(&self.run, Depth::Tail).await?;
        resume(queue, &self.run, &record, false).await.map(drop)
    }
}
