//! `shards.jsonl`, read and checked against the plan.

use super::limits::is_legal;
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
    /// The lines are not all of the run's items.
    #[error("{url} lists {items} items in {shards} shards, the plan counts {} in {}", expected.0, expected.1)]
    Counts {
        /// Where it lies.
        url: String,
        /// Items listed.
        items: u64,
        /// Shards listed.
        shards: u64,
        /// Items and shards of the plan.
        expected: (u64, u64),
    },
}

impl ShardsError {
    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::OtherDigest { .. } | Self::Line { .. } | Self::Counts { .. } => ExitCode::Input,
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
    parse_shards(&bytes, plan, &url)
}

/// Reads the bytes of `shards.jsonl`, whose digest was compared; `url` is for messages. The shards are
/// numbered from 0, each with items and a bundle of its own, and together they are what the plan counts.
pub fn parse_shards(bytes: &[u8], plan: &Plan, url: &str) -> Result<Vec<ShardRecord>, ShardsError> {
    let mut shards = Vec::new();
    let mut items = 0;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (at, line) in lines.enumerate() {
        let wrong = |source| ShardsError::Line { url: url.to_owned(), line: at + 1, source };
        let shard: ShardRecord = serde_json::from_slice(line).map_err(|error| wrong(Some(error)))?;
        let own_bundle = shard.content_name().is_ok_and(|name| name.shard == shard.id);
        if shard.id != ShardId(at as u64) || !own_bundle || !is_legal(&shard, plan) {
            return Err(wrong(None));
        }
        // A shard has 2^24 items at most: no file has lines enough for this to overflow.
        items += shard.items;
        shards.push(shard);
    }
    let (found, expected) = ((items, shards.len() as u64), (plan.counts.items, plan.counts.shards));
    if found == expected {
        return Ok(shards);
    }
    Err(ShardsError::Counts { url: url.to_owned(), items, shards: found.1, expected })
}
