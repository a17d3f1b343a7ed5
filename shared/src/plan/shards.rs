//! `shards.jsonl`, read and checked against the plan.

use super::{Plan, ShardRecord};
use crate::digest::sha256_hex;
use crate::exit::ExitCode;
use crate::ids::ShardId;
use crate::store::{Store, StoreError, layout};

/// `shards.jsonl` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not the one the plan was made with.
    #[error("{url} is not the list this run was planned with: its sha256 is another")]
    OtherDigest {
        /// Where it lies.
        url: String,
    },
    /// A line is not a shard.
    #[error("line {line} of {url} is not shard {line}")]
    Line {
        /// Where it lies.
        url: String,
        /// The line, from 1.
        line: usize,
        /// The cause, where it is not JSON.
        source: Option<serde_json::Error>,
    },
}

impl ShardsError {
    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::OtherDigest { .. } | Self::Line { .. } => ExitCode::Input,
        }
    }
}

/// All shards of a run, in order.
pub async fn read_shards(store: &Store, plan: &Plan) -> Result<Vec<ShardRecord>, ShardsError> {
    let key = layout::shards_key(&plan.run);
    let bytes = store.get(&key).await?;
    let url = store.url_of(&key);
    if sha256_hex(&bytes) != plan.shards_sha256 {
        return Err(ShardsError::OtherDigest { url });
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(at, line)| {
            let wrong = |source| ShardsError::Line { url: url.clone(), line: at + 1, source };
            let shard: ShardRecord = serde_json::from_slice(line).map_err(|error| wrong(Some(error)))?;
            let own_bundle = shard.content_name().is_ok_and(|name| name.shard == shard.id);
            if shard.id == ShardId(at as u64) && own_bundle { Ok(shard) } else { Err(wrong(None)) }
        })
        .collect()
}
