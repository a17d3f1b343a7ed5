//! The metadata of parts and merged files: the last member of every npz.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::ids::ShardId;
use crate::npz;
use crate::plan::Plan;

/// The version of the metadata.
pub const PART_VERSION: u32 = 1;

/// Why an item has no row, or an image was left out of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// Failed item: no usable image and no text, though images were named.
    NothingToEmbed,
    /// Failed item: machines of the largest memory of the run ran out of memory on it alone.
    OutOfMemory,
    /// Failed item: ends the process that works on it, each time, alone.
    Crash,
    /// Failed item: takes more memory of the host than there is, each time, alone.
    HostMemory,
    /// Failed item: is never through, each time, alone.
    Hang,
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
    /// A batch had to be halved for memory, or an item left out: another run of the shard may differ in
    /// the last bits, and have a row for that item.
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
    /// A file of several (`--rows-per-file`): which rows of the whole it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
}

/// Which rows of a merge in several files a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The file's number, from 0: the one in its name.
    pub number: u64,
    /// How many files there are.
    pub of: u64,
    /// Rows in the files before it.
    pub first_row: u64,
}

impl Metadata {
    /// The metadata of a part or merged file of this plan, with nothing in it yet.
    pub fn of_plan(plan: &Plan) -> Self {
        Self {
            version: PART_VERSION,
            run: plan.run.to_string(),
            fingerprint: plan.fingerprint.clone(),
            model: plan.model.name.clone(),
            revision: plan.model.revision.clone(),
            dtype: plan.embedding.dtype.name().to_owned(),
            dim: plan.embedding.dim,
            instruction: plan.embedding.instruction.clone(),
            max_pixels: plan.embedding.max_pixels,
            max_length: plan.embedding.max_length,
            count: 0,
            with_image: 0,
            text_only: 0,
            partial: 0,
            failed: 0,
            created_at: plan.created_at.clone(),
            devices: Vec::new(),
            batch_tokens: Vec::new(),
            null_embedding: String::new(),
            batch_reduced: false,
            shard: None,
            failures: None,
            dropped_images: None,
            parts_sha256: None,
            shards: None,
            volume: None,
        }
    }

    /// Whether everything that the plan decides is as the plan says; the first difference otherwise,
    /// as field, found and expected.
    pub fn differs_from_plan(&self, plan: &Plan) -> Option<(&'static str, String, String)> {
        let expected = Self::of_plan(plan);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let fields = [
            ("fingerprint", self.fingerprint.clone(), expected.fingerprint),
            ("run", self.run.clone(), expected.run),
            ("version", self.version.to_string(), expected.version.to_string()),
            ("dim", self.dim.to_string(), expected.dim.to_string()),
            ("dtype", self.dtype.clone(), expected.dtype),
            ("instruction", self.instruction.clone(), expected.instruction),
            ("max_pixels", self.max_pixels.to_string(), expected.max_pixels.to_string()),
            ("max_length", self.max_length.to_string(), expected.max_length.to_string()),
            ("model", self.model.clone(), expected.model),
            ("revision", text(&self.revision), text(&expected.revision)),
            ("created_at", self.created_at.clone(), expected.created_at),
        ];
        fields.into_iter().find(|(_, found, expected)| found != expected)
    }
}

/// A vector as the metadata holds it: base64 of little-endian f32.
pub fn encode_vector(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

/// The vector of `NULL` from metadata: `dim` finite components of norm 1.
pub fn decode_null_embedding(metadata: &Metadata) -> Result<Vec<f32>, String> {
    let bytes = STANDARD
        .decode(&metadata.null_embedding)
        .map_err(|error| format!("null_embedding is not base64: {error}"))?;
    if bytes.len() as u64 != u64::from(metadata.dim) * 4 {
        return Err(format!(
            "null_embedding has {} bytes, not the {} of {} components",
            bytes.len(),
            u64::from(metadata.dim) * 4,
            metadata.dim
        ));
    }
    let norm = npz::norm(&bytes);
    if (norm - 1.0).abs() <= super::NORM_TOLERANCE {
        Ok(npz::decode_vector(&bytes))
    } else {
        Err(format!("null_embedding has the norm {norm}, not 1"))
    }
}
