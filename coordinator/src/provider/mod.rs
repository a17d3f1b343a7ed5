//! Where boxes come from: offers are searched, instances created, looked at and destroyed.
//!
//! Two implementations: [`vast`] (the market of Vast.ai) and [`local`] (child processes of this machine, one for
//! each of its GPUs). A provider only carries out; what to do is decided in [`crate::fleet`].
//!
//! Three rules hold for each. A list that could not be read whole is an error, never a shorter list. A creation
//! whose outcome is not known says so ([`ProviderError::outcome_unknown`]), and is never repeated here. What
//! a provider destroys is gone when [`Provider::instance`] says so, not when the call was answered.

mod error;
pub mod local;
mod types;
pub mod vast;

pub use error::{ProviderError, ProviderErrorKind};
pub use types::{Instance, InstanceId, InstanceStatus, MachineId, Offer, OfferId, Order, Region, Wanted};

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::dollars::Dollars;

/// A source of boxes.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Whose boxes these are: the market and the account there, or this machine. A fleet is looked after with one
    /// account alone.
    async fn account(&self) -> Result<String, ProviderError>;

    /// Offers that can be taken now and hold what is wanted, in no promised order.
    async fn offers(&self, wanted: &Wanted) -> Result<Vec<Offer>, ProviderError>;

    /// Takes an offer. Never repeated by the provider itself once it may have been heard.
    async fn create(&self, offer: &Offer, order: &Order) -> Result<InstanceId, ProviderError>;

    /// All instances of the account, whoever made them.
    async fn instances(&self) -> Result<Vec<Instance>, ProviderError>;

    /// One instance; `None` once it is gone.
    async fn instance(&self, id: InstanceId) -> Result<Option<Instance>, ProviderError>;

    /// Asks for the end of an instance. It is not over before [`Provider::instance`] says so.
    async fn destroy(&self, id: InstanceId) -> Result<(), ProviderError>;

    /// Offers more for an interruptible instance.
    async fn raise_bid(&self, id: InstanceId, bid: Dollars) -> Result<(), ProviderError>;

    /// The last lines of an instance's log.
    async fn logs(&self, id: InstanceId, lines: u32) -> Result<String, ProviderError>;

    /// What the account may still spend; `None` where nobody bills.
    async fn balance(&self) -> Result<Option<Dollars>, ProviderError>;

    /// What was billed for each instance since a moment; `None` where nobody bills.
    async fn charges(&self, since: Timestamp)
    -> Result<Option<BTreeMap<InstanceId, Dollars>>, ProviderError>;

    /// The requests that [`Provider::offers`] would send, for a person to read, secrets masked.
    fn show_search(&self, wanted: &Wanted) -> String;

    /// The same for [`Provider::create`].
    fn show_create(&self, offer: &Offer, order: &Order) -> String;
}
