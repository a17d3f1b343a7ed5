//! Brings a shard's bundle here and checks that it is what its name says.

use std::any::Any;

use bytes::Bytes;
use shared::bundle::Bundle;
use shared::ids::{RunId, Sha16};
use shared::queue::Lease;
use shared::store::{Store, StoreError, StoreErrorKind, layout};

/// Why a shard gave no part here.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The shard's fault, or one that cannot be told from it: an attempt is counted.
    #[error("{0}")]
    Shard(String),
    /// The machine's fault: no attempt is counted.
    #[error("{0}")]
    Host(String),
    /// The device has too little memory for one item alone: the queue counts on which machines.
    #[error("the device{} ran out of memory on item {item} of the shard, alone in its batch", of_memory(*memory))]
    OutOfMemory {
        /// The item's position in the shard.
        item: u32,
        /// Bytes of memory that the device may use; 0 where that is unknown.
        memory: u64,
    },
    /// Nobody's fault (told to stop, the store is away): the lease goes back.
    #[error("{0}")]
    GiveBack(String),
    /// The lease is another's: nothing to say.
    #[error("the lease was lost")]
    Lost,
}

impl ShardError {
    /// The worker was told to stop before the shard was done.
    pub fn stopped() -> Self {
        Self::GiveBack("the worker stops".to_owned())
    }

    /// A panic while working on the shard.
    pub fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Self::Shard(format!("the worker panicked on this shard: {text}"))
    }

    /// A store that failed: an object that is missing or wrong is the shard's fault, a disk the machine's.
    pub fn store(error: &StoreError) -> Self {
        let message = with_causes(error);
        match error.kind {
            StoreErrorKind::NotFound | StoreErrorKind::Conflict => Self::Shard(message),
            StoreErrorKind::LocalFile => Self::Host(message),
            StoreErrorKind::Denied | StoreErrorKind::BadUrl | StoreErrorKind::Unreachable => {
                Self::GiveBack(message)
            }
        }
    }
}

/// The memory of a device for a person, where it is known.
fn of_memory(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        _ => format!(" of {:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// The message of an error and of all its causes in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The bundle of a lease, read and checked against its name.
pub async fn fetch(store: &Store, run: &RunId, lease: &Lease) -> Result<Bundle, ShardError> {
    let bytes = fetch_bytes(store, run, lease).await?;
    let key = layout::bundle_key(run, &lease.bundle);
    // Named by its key: how this machine reaches the store says nothing to those who read of the failure elsewhere.
    Bundle::read(bytes).map_err(|error| ShardError::Shard(format!("{key}: {}", with_causes(&error))))
}

/// The bytes of a lease's bundle, checked against its name.
pub async fn fetch_bytes(store: &Store, run: &RunId, lease: &Lease) -> Result<Bytes, ShardError> {
    let key = layout::bundle_key(run, &lease.bundle);
    let bytes = store.get(&key).await.map_err(|error| ShardError::store(&error))?;
    if Sha16::of(&bytes) != lease.bundle.sha {
        return Err(ShardError::Shard(format!("{key} is damaged: its sha256 is not the one in its name")));
    }
    Ok(bytes)
}
