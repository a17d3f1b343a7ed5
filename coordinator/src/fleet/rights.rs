//! What a box is told and may do: its environment, with rights for this box alone.
//!
//! The store by signed URLs of this run, the queue by a user made for the box and deleted with it. The account's
//! key and the administrator's credentials never leave the launcher.

use std::collections::BTreeMap;

use jiff::Timestamp;
use shared::ids::RunId;
use shared::queue::QueueError;
use shared::queue::redis::RedisOptions;
use shared::queue::redis::acl::{AccessList, InvalidUser, QueuePassword, WorkerRights, WorkerUser, box_name};
use shared::settings::{QueueAddress, environment};

use super::event::QueueUser;
use super::label::Label;

/// The variables that `infra/vast/onstart` reads, beside those of the worker itself.
pub mod variable {
    /// The hard end of the box, seconds since 1970.
    pub const UNTIL: &str = "FLEET_UNTIL";
    /// How long the worker goes on without a queue or a store.
    pub const GIVE_UP_AFTER: &str = "FLEET_GIVE_UP_AFTER";
    /// The worker's arguments.
    pub const WORKER_ARGS: &str = "FLEET_WORKER_ARGS";
    /// Where the packed worker is.
    pub const WORKER_URL: &str = "FLEET_WORKER_URL";
    /// The SHA-256 of the unpacked worker.
    pub const WORKER_SHA256: &str = "FLEET_WORKER_SHA256";
    /// Where the box destroys itself.
    pub const VAST_URL: &str = "FLEET_VAST_URL";
}

/// How long a worker goes on without a queue or a store before its box ends itself.
const GIVE_UP_AFTER: &str = "15m";

/// A user of the queue could not be made or deleted.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] InvalidUser),
    /// The server.
    #[error(
        "{0}: a launcher makes a user of the queue for each box, so its own must be an administrator; or give boxes a \
             FLEET_QUEUE of yours by --worker-env"
    )]
    Queue(#[source] QueueError),
}

/// Makes users of the queue.
pub struct Users {
    list: AccessList,
    administrator: QueueAddress,
    run: RunId,
}

impl Users {
    /// For a run, with the administrator's address.
    pub fn open(administrator: &QueueAddress, run: &RunId) -> Result<Self, QueueError> {
        let list = AccessList::open(administrator, RedisOptions::default())?;
        Ok(Self { list, administrator: administrator.clone(), run: run.clone() })
    }

    /// A user for a box, not made yet.
    pub fn draft(&self, label: &Label) -> Result<WorkerUser, InvalidUser> {
        let name = box_name(&self.run, label.slot, &label.id.to_string());
        WorkerUser::new(&name, &self.run, QueuePassword::fresh(), &self.administrator)
    }

    /// Makes it on the server, which keeps it across a restart if it can.
    pub async fn make(&self, user: &WorkerUser) -> Result<(), RightsError> {
        self.list.apply(user).await.map_err(RightsError::Queue)?;
        self.list.save().await.map(drop).map_err(RightsError::Queue)
    }

    /// Makes those again, from what is written down of them, that the server does not have; how many.
    pub async fn restore_missing(
        &self,
        users: impl Iterator<Item = &QueueUser>,
    ) -> Result<usize, RightsError> {
        let present = self.names().await?;
        let mut restored = 0;
        for user in users.filter(|user| !present.contains(&user.name)) {
            let hash = user.password_sha256.clone();
            let rights = WorkerRights::new(&user.name, &self.run, hash, &self.administrator)?;
            self.list.apply(&rights).await.map_err(RightsError::Queue)?;
            restored += 1;
        }
        if restored > 0 {
            self.list.save().await.map_err(RightsError::Queue)?;
        }
        Ok(restored)
    }

    /// The users of boxes that the server has.
    async fn names(&self) -> Result<Vec<String>, RightsError> {
        let prefix = format!("worker-{}-", self.run);
        self.list.users(&self.run, &prefix).await.map_err(RightsError::Queue)
    }

    /// Deletes it; one that is not there is no failure.
    pub async fn delete(&self, name: &str) -> Result<(), RightsError> {
        self.list.remove(name).await.map(drop).map_err(RightsError::Queue)
    }

    /// Deletes the users of all boxes of the run.
    pub async fn delete_all(&self) -> Result<(), RightsError> {
        for name in self.names().await? {
            self.delete(&name).await?;
        }
        self.list.save().await.map(drop).map_err(RightsError::Queue)
    }
}

/// What every box of a launcher is told, and what each is told alone.
pub struct Rights {
    /// The same for all.
    pub common: BTreeMap<String, String>,
    /// Where boxes get users of their own.
    pub users: Option<Users>,
}

impl Rights {
    /// A user for a box, where boxes have their own.
    pub fn draft(&self, label: &Label) -> Result<Option<WorkerUser>, InvalidUser> {
        self.users.as_ref().map(|users| users.draft(label)).transpose()
    }

    /// The environment of a box.
    pub fn environment(
        &self,
        label: &Label,
        until: Timestamp,
        user: Option<&WorkerUser>,
    ) -> Result<BTreeMap<String, String>, QueueError> {
        let mut all = self.common.clone();
        all.insert(environment::RUN.to_owned(), label.run.to_string());
        all.insert(environment::INSTANCE.to_owned(), label.to_string());
        all.insert(variable::UNTIL.to_owned(), until.as_second().to_string());
        all.entry(variable::GIVE_UP_AFTER.to_owned()).or_insert_with(|| GIVE_UP_AFTER.to_owned());
        if let (Some(user), Some(users)) = (user, &self.users) {
            let address = user.address(&users.administrator)?;
            all.insert(environment::QUEUE.to_owned(), address.url().expose().to_owned());
            if let Some(authority) = address.authority() {
                let pem = String::from_utf8_lossy(authority.pem()).into_owned();
                all.insert(environment::QUEUE_CA.to_owned(), pem);
            }
        }
        Ok(all)
    }
}

/// What is written down of a user.
pub fn record(user: &WorkerUser) -> QueueUser {
    QueueUser { name: user.rights().name().to_owned(), password_sha256: user.rights().hash().clone() }
}
