//! The metadata of parts and merged files: the last member of every npz.

use serde::{Deserialize, Serialize};

use crate::ids::ShardId;

/// The version of the metadata.
pub const PART_VERSION: u32 = 1;

/// Why an item has no row, or an image was left out of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// Failed item: no usable image and no text, though images were named.
    NothingToEmbed,
    /// Image: no entry matches its path, or several do.
    Missing,
    /// Image: not a picture we can decode.
    Undecodable,
    /// Image: ends before its data does.
    Truncated,
    /// Image: over the pixel limit for decoding.
    TooLarge,
    /// Image: one side is more than 200 times the other.
    Ratio,
    /// Image: does not fit the maximum length.
    DoesNotFit,
}

/// One failed item or one dropped image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The item's position in the whole input.
    pub index: u64,
    /// The item's id.
    pub id: String,
    /// What kind of reason.
    pub kind: ReasonKind,
    /// For a person: the path as the item names it, and what is wrong.
    pub reason: String,
}

/// The metadata member. Fields that only a part or only a merged file has are optional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// [`PART_VERSION`].
    pub version: u32,
    /// The run.
    pub run: String,
    /// The run's fingerprint.
    pub fingerprint: String,
    /// The model as the plan names it.
    pub model: String,
    /// The pinned revision of a hub model.
    pub revision: Option<String>,
    /// Precision computed in.
    pub dtype: String,
    /// Components of a vector.
    pub dim: u32,
    /// The instruction.
    pub instruction: String,
    /// The largest image in pixels.
    pub max_pixels: u32,
    /// The most tokens of an item.
    pub max_length: u32,
    /// Rows.
    pub count: u64,
    /// Rows with at least one image.
    pub with_image: u64,
    /// Rows whose item named images of which none was usable.
    pub text_only: u64,
    /// Rows whose item named images of which only some were usable.
    pub partial: u64,
    /// Items without a row.
    pub failed: u64,
    /// The plan's time, RFC 3339.
    pub created_at: String,
    /// The kinds of device that computed the rows.
    pub devices: Vec<String>,
    /// The token budgets of the batches, ascending, each once.
    pub batch_tokens: Vec<u64>,
    /// The vector of an item with nothing in it (`NULL`): base64 of little-endian f32.
    pub null_embedding: String,
    /// A batch had to be halved for memory: another run of the shard may differ in the last bits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch_reduced: bool,
    /// Part: the shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardId>,
    /// Part: items without a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Vec<Reason>>,
    /// Part: images left out of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_images: Option<Vec<Reason>>,
    /// Merged: sha256 over the chosen part names, each followed by `\n`, in shard order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts_sha256: Option<String>,
    /// Merged: how many shards it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u64>,
}
