//! What happened to a fleet, as it is written down: one immutable object an entry, under `runs/<run>/fleet/`.
//!
//! The intent to rent is written before the market is asked, its outcome after. Whoever reads all entries knows
//! what may exist and what it may cost, whatever moment the launcher was killed at.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::queue::redis::acl::PasswordHash;

use super::label::{BoxId, FleetTag};
use crate::dollars::Dollars;
use crate::provider::{InstanceId, InstanceStatus, MachineId, OfferId};

/// The version of an entry.
pub const ENTRY_VERSION: u32 = 1;

/// An entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`ENTRY_VERSION`].
    pub version: u32,
    /// When it was written, by the launcher's clock.
    pub at: Timestamp,
    /// Who wrote it: `<host>:<nonce>`.
    pub by: String,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A launcher took the fleet over. Any other one stops when it reads this.
    Opened(Opened),
    /// A box is about to be rented.
    Intent(Intent),
    /// The market made it.
    Created {
        /// The box.
        id: BoxId,
        /// What the market calls it.
        instance: InstanceId,
    },
    /// It was not made, for sure.
    Refused {
        /// The box.
        id: BoxId,
        /// Why.
        why: String,
        /// Whether its machine is not to be tried again.
        ban: bool,
    },
    /// No answer came, and it is not there: it may have been.
    GivenUp {
        /// The box.
        id: BoxId,
    },
    /// The market shows another status or price than before.
    Status {
        /// The box.
        id: BoxId,
        /// Since when, as far as looks tell.
        since: Timestamp,
        /// What it does.
        status: InstanceStatus,
        /// What an hour costs while it runs, where the market says so.
        price: Option<Dollars>,
    },
    /// Its worker was heard in the queue.
    Ready {
        /// The box.
        id: BoxId,
        /// The worker.
        worker: String,
    },
    /// More was offered for it.
    Bid {
        /// The box.
        id: BoxId,
        /// The bid.
        bid: Dollars,
    },
    /// It shall be destroyed.
    Condemned {
        /// The box.
        id: BoxId,
        /// Why.
        why: String,
        /// Whether its machine is not to be rented again.
        ban: bool,
    },
    /// The market confirms that it is gone.
    Gone {
        /// The box.
        id: BoxId,
        /// Since when, as far as looks and answers tell.
        since: Timestamp,
    },
    /// An instance with our label that no entry knows: destroyed.
    Stray {
        /// What the market calls it.
        instance: InstanceId,
        /// Its label.
        label: String,
    },
    /// Workers were told to finish what they hold and exit.
    Drained {
        /// Why.
        why: String,
    },
    /// The fleet has ended, and the market confirms that none of its boxes is left.
    Closed(Closed),
}

/// A launcher took the fleet over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Which provider.
    pub provider: String,
    /// Whose boxes: the market's address and the account there, or this machine's folder.
    pub account: String,
    /// What the nonces of its labels begin with, the same in every entry of this kind.
    pub tag: FleetTag,
    /// Whether machines are rented again that were bad before.
    pub forget_bans: bool,
    /// Boxes asked for.
    pub workers: u32,
    /// The most for the whole run.
    pub budget: Option<Dollars>,
    /// The hard end of boxes rented from here on.
    pub until: Timestamp,
}

/// A box that is about to be rented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The box.
    pub id: BoxId,
    /// The place in the fleet that it fills.
    pub slot: u32,
    /// The offer taken.
    pub offer: OfferId,
    /// The machine behind it.
    pub machine: MachineId,
    /// Its GPU.
    pub gpu: String,
    /// How many of them.
    pub gpus: u32,
    /// Where it stands.
    pub place: String,
    /// What an hour costs while it runs: the price on demand, or the bid.
    pub price: Dollars,
    /// What an hour of its disk costs, running or not.
    pub disk_price: Dollars,
    /// What its traffic will cost, as far as that can be known before.
    pub traffic: Dollars,
    /// The bid, for an interruptible box.
    pub bid: Option<Dollars>,
    /// Seconds it needs to fetch image, worker and model, as far as that can be known before.
    pub fetch_seconds: f64,
    /// Its hard end.
    pub until: Timestamp,
    /// Its user of the queue.
    pub queue_user: Option<QueueUser>,
}

/// A user of the queue for one box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueUser {
    /// Its name.
    pub name: String,
    /// The SHA-256 of its password: enough to make it again, not to log in.
    pub password_sha256: PasswordHash,
}

/// The end of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Why.
    pub why: String,
    /// What the market billed for its boxes, where it says so.
    pub billed: Option<Dollars>,
}
