//! One step of a decision, carried out.

use jiff::Timestamp;
use shared::queue::Queue as _;

use super::{Launcher, Step, tell};
use crate::failure::Failure;
use crate::fleet::decide::{Action, Topic};
use crate::fleet::event::Event;
use crate::fleet::journal::JournalError;
use crate::fleet::label::BoxId;
use crate::provider::{InstanceId, InstanceStatus};
use crate::record::{Depth, read_record};
use crate::resume::resume;

impl Launcher {
    /// Carries a step out.
    pub(super) async fn act(&mut self, action: Action) -> Result<Step, JournalError> {
        match action {
            Action::Adopt { id, instance } => self.note(Event::Created { id, instance }).await?,
            Action::GiveUp { id } => {
                self.note(Event::GivenUp { id: id.clone() }).await?;
                self.delete_user(&id).await;
            }
            Action::Note { id, since, status, price } => {
                self.note(Event::Status { id, since, status, price }).await?;
            }
            Action::Ready { id, worker } => self.note(Event::Ready { id, worker }).await?,
            Action::ReadLog { id, instance } => self.read_log(id, instance),
            Action::Rebid { id, instance, bid } => self.bid(id, instance, bid),
            Action::Condemn { id, why, ban } => self.note(Event::Condemned { id, why, ban }).await?,
            Action::Destroy { id, instance } => self.destroy(instance, Some(id)),
            Action::Confirm { id, instance } => self.confirm(id, instance).await?,
            Action::DestroyStray { instance, label } => {
                self.destroy(instance, None);
                if !self.fleet().strays.contains(&instance) {
                    self.note(Event::Stray { instance, label }).await?;
                }
            }
            Action::CheckUsers => self.check_users().await,
            Action::Rebuild => self.rebuild().await,
            Action::Drain { why } => {
                self.drain().await;
                self.note(Event::Drained { why }).await?;
            }
            Action::DrainAgain => self.drain().await,
            Action::End(ending) => {
                tell::line(&format!("the fleet ends: {ending}"));
                self.memory.ending = Some(ending);
            }
            Action::Refuse { why } => {
                tell::line(&format!("no further box is rented: {why}"));
                self.memory.refused = Some(why);
            }
            Action::Rent { slot } => return self.rent(slot).await,
            Action::Close => return self.close().await.map(Step::Over),
            Action::Say(topic, text) => self.say(topic, &text),
        }
        Ok(Step::Taken)
    }

    /// Says what happened, and writes it down; it stands even where that fails.
    pub(super) async fn note(&mut self, event: Event) -> Result<(), JournalError> {
        if let Some(sentence) = tell::sentence(&event, self.journal.fleet()) {
            tell::line(&sentence);
        }
        self.journal.happened(event).await
    }

    /// A box that never was.
    pub(super) async fn refused(&mut self, id: BoxId, why: String) -> Result<(), JournalError> {
        self.delete_user(&id).await;
        self.note(Event::Refused { id, why, ban: false }).await
    }

    /// A box that is not listed is asked for alone before it is believed gone.
    async fn confirm(&mut self, id: BoxId, instance: InstanceId) -> Result<(), JournalError> {
        match self.provider.instance(instance).await {
            Ok(None) => self.gone(id).await,
            Ok(Some(_)) => {
                // The list lags; one that shall end is not spared for that.
                if self.fleet().boxes.get(&id).is_some_and(|of| of.condemned.is_some()) {
                    self.destroy(instance, Some(id));
                }
                Ok(())
            }
            Err(error) => {
                self.say(Topic::Failure, &format!("instance {instance} is not listed, and {error}"));
                Ok(())
            }
        }
    }

    async fn gone(&mut self, id: BoxId) -> Result<(), JournalError> {
        self.delete_user(&id).await;
        let unwatched = self.memory.unwatched_since;
        let status = self.fleet().boxes.get(&id).map(crate::fleet::state::Rental::status);
        if let (Some(since), Some(false)) = (unwatched, status.map(InstanceStatus::is_paid_in_full)) {
            // Nobody saw what it did: it is taken to have run, as that costs most.
            let status = InstanceStatus::Running;
            let _ = self.note(Event::Status { id: id.clone(), since, status, price: None }).await;
        }
        let since = self.memory.gone_since(&id, Timestamp::now());
        self.note(Event::Gone { id, since }).await
    }

    /// Deletes the queue's user of a box; one that is left over is deleted with the fleet.
    async fn delete_user(&self, id: &BoxId) {
        let user = self.fleet().boxes.get(id).and_then(|of| of.intent.queue_user.clone());
        if let (Some(users), Some(user)) = (&self.rights.users, user) {
            let _ = users.delete(&user.name).await;
        }
    }

    /// Makes users again that the queue has lost.
    async fn check_users(&mut self) {
        self.memory.users_checked_at = Some(Timestamp::now());
        let Some(users) = &self.rights.users else { return };
        let live = self.journal.fleet().live().filter_map(|of| of.intent.queue_user.as_ref());
        match users.restore_missing(live).await {
            Ok(0) => {}
            Ok(count) => {
                tell::line(&format!("the queue had lost {count} users of boxes; they are made again"));
            }
            Err(error) => self.say(Topic::Queue, &error.to_string()),
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
                self.check_users().await;
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
