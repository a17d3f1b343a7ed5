//! What no queue takes in, and the bounds that every queue keeps.

use crate::ids::ShardId;

use super::{CompletedPart, NewShard, QueueError, QueueErrorKind};

/// The most expired leases, and the most delayed shards, that one claim looks after, so that a claim
/// stays cheap whatever has piled up. The Lua library has the same number.
pub const REAPED_PER_CLAIM: usize = 100;

/// The most shards that one claim is given. The Lua library has the same number.
pub const LEASES_PER_CLAIM: u32 = 100;

/// The most failures in a snapshot. The Lua library has the same number.
pub const FAILURES_SHOWN: usize = 100;

/// Numbers travel through doubles on the way to Redis, which are exact up to here.
const LARGEST_EXACT: u64 = 1 << 53;

/// Refuses shards whose names do not belong to them or whose numbers are too large to be kept exactly.
pub fn check_shards(shards: &[NewShard]) -> Result<(), QueueError> {
    for shard in shards {
        if shard.id.0 >= LARGEST_EXACT || shard.items >= LARGEST_EXACT {
            return Err(refused(format!("shard {}: its id or its number of items is over 2^53", shard.id)));
        }
        if shard.bundle.shard != shard.id {
            let bundle = shard.bundle.bundle();
            return Err(refused(format!("shard {}: the bundle {bundle} is another shard's", shard.id)));
        }
        if let Some(part) = &shard.part {
            check_part(shard.id, part)?;
        }
    }
    Ok(())
}

/// Refuses a part that is another shard's.
pub fn check_part(shard: ShardId, part: &CompletedPart) -> Result<(), QueueError> {
    if part.name.shard == shard && part.embedded < LARGEST_EXACT && part.failed < LARGEST_EXACT {
        Ok(())
    } else {
        Err(refused(format!("shard {shard}: the part {} is not one of its own", part.name.part())))
    }
}

/// The error of an operation that needs a run the queue does not know.
pub fn unknown_run(operation: &str, run: &str) -> QueueError {
    refused(format!("cannot {operation} {run}: the queue does not know it; `coordinator resume` adds it"))
}

fn refused(message: String) -> QueueError {
    QueueError::new(QueueErrorKind::Refused, message)
}
