//! What a run is: `plan.json` (written last and once), `shards.jsonl`, and the fingerprint.

mod find;
mod limits;
mod shards;

pub use find::{FindError, find_run, read_plan};
pub use limits::{LARGEST_BUNDLE, LONGEST_LEASE_SECONDS, MOST_ITEMS, MOST_ITEMS_OF_A_SHARD, MOST_MIN_PIXELS};
pub use shards::{ShardsError, parse_shards, read_shards};

use serde::{Deserialize, Serialize};

use crate::ids::{ContentName, RunId, ShardId};
use crate::model::ModelRecord;

/// The version of the numbers a worker computes. It grows with every change that may move a vector
/// by more than the last bits; parts of different versions never meet in one run.
pub const NUMERICS_VERSION: u32 = 1;

/// The version of `plan.json`.
pub const PLAN_VERSION: u32 = 1;

/// The precision a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 16 bits with the range of `F32`.
    Bf16,
    /// 32 bits.
    F32,
}

impl Dtype {
    /// `"bf16"` or `"f32"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }
}

impl std::str::FromStr for Dtype {
    type Err = crate::ids::InvalidId;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "bf16" => Ok(Self::Bf16),
            "f32" => Ok(Self::F32),
            _ => Err(crate::ids::InvalidId { what: "dtype", value: value.to_owned(), rule: "bf16 or f32" }),
        }
    }
}

/// Everything that decides what a vector is, apart from the model and the items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingSettings {
    /// The precision computed in.
    pub dtype: Dtype,
    /// The instruction as given (the default one where none was).
    pub instruction: String,
    /// The smallest image, in pixels after resizing.
    pub min_pixels: u32,
    /// The largest image, in pixels after resizing.
    pub max_pixels: u32,
    /// Tokens an item may have, the pooled one included.
    pub max_length: u32,
    /// Components of a vector: the model's own number or fewer (MRL).
    pub dim: u32,
    /// The `--text` template; `None` where the text is the field named `text`.
    pub text_template: Option<String>,
}

/// How items were cut into shards and how long a lease lasts: not part of the fingerprint by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetSettings {
    /// Items a shard.
    pub shard_size: u64,
    /// Seconds a lease lasts without a beat.
    pub lease_seconds: f64,
}

/// Totals over the whole input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanCounts {
    /// Items.
    pub items: u64,
    /// Shards.
    pub shards: u64,
    /// Items that name at least one image.
    pub items_with_images: u64,
    /// Images named.
    pub images_named: u64,
    /// Images found.
    pub images_found: u64,
    /// Bytes of all bundles.
    pub bundle_bytes: u64,
}

/// `plan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// When the plan was made, RFC 3339 in UTC. Every part carries it instead of a clock of its own.
    pub created_at: String,
    /// See [`fingerprint`].
    pub fingerprint: String,
    /// [`NUMERICS_VERSION`] at planning time.
    pub numerics_version: u32,
    /// The model.
    pub model: ModelRecord,
    /// What decides a vector.
    pub embedding: EmbeddingSettings,
    /// How the work is cut.
    pub fleet: FleetSettings,
    /// Totals.
    pub counts: PlanCounts,
    /// SHA-256 of `shards.jsonl`.
    pub shards_sha256: String,
}

/// A `plan.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is not a plan.
    #[error("this is not a plan")]
    Parse(#[source] serde_json::Error),
    /// It is of another version.
    #[error(
        "this plan has version {found}, this program knows version {PLAN_VERSION}: use the release that made it"
    )]
    Version {
        /// The version found.
        found: u64,
    },
    /// A field says what no plan can.
    #[error("the plan's {field} {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: String,
    },
}

impl Plan {
    /// Reads `plan.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        // The version first: the fields of another one are not ours to judge.
        let Version { version } = serde_json::from_slice(bytes).map_err(PlanError::Parse)?;
        if version != u64::from(PLAN_VERSION) {
            return Err(PlanError::Version { found: version });
        }
        let plan: Self = serde_json::from_slice(bytes).map_err(PlanError::Parse)?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), PlanError> {
        match limits::wrong_field(self) {
            None => Ok(()),
            Some((field, rule)) => Err(PlanError::Field { field, rule }),
        }
    }

    /// `plan.json`, for a person to read too. A plan that could not be read again is an error.
    pub fn to_json(&self) -> Result<Vec<u8>, PlanError> {
        self.check()?;
        let mut json = serde_json::to_vec_pretty(self).map_err(PlanError::Parse)?;
        json.push(b'\n');
        Ok(json)
    }
}

/// A line of `shards.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// The shard.
    pub id: ShardId,
    /// The file name of its bundle: `<shard>-<sha16>.tar`.
    pub bundle: String,
    /// Items in it.
    pub items: u64,
    /// Bytes of the bundle.
    pub bytes: u64,
    /// SHA-256 over each id in UTF-8 followed by `\n`.
    pub ids_sha256: String,
}

impl ShardRecord {
    /// The bundle's name, taken apart.
    pub fn content_name(&self) -> Result<ContentName, crate::ids::InvalidId> {
        ContentName::parse_bundle(&self.bundle)
    }
}

/// The fingerprint: sha256 of the canonical JSON (keys in order, no white space) of everything that
/// decides the vectors of a run. `bundles` are the content names of the shards in order.
pub fn fingerprint<'a>(
    numerics_version: u32,
    model_digest: &str,
    embedding: &EmbeddingSettings,
    bundles: impl Iterator<Item = &'a str>,
) -> String {
    // Keys in alphabetical order by construction: whether serde_json's map keeps insertion order
    // depends on features that any crate of the build may turn on.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut hasher = crate::digest::Hasher::new();
    let template = embedding.text_template.as_deref().map_or_else(|| "null".to_owned(), quoted);
    hasher.update(
        format!(
            r#"{{"dim":{},"dtype":{},"instruction":{},"max_length":{},"max_pixels":{},"min_pixels":{},"model_digest":{},"numerics_version":{},"shards":["#,
            embedding.dim,
            quoted(embedding.dtype.name()),
            quoted(&embedding.instruction),
            embedding.max_length,
            embedding.max_pixels,
            embedding.min_pixels,
            quoted(model_digest),
            numerics_version,
        )
        .as_bytes(),
    );
    for (position, bundle) in bundles.enumerate() {
        let comma = if position == 0 { "" } else { "," };
        hasher.update(format!("{comma}{}", quoted(bundle)).as_bytes());
    }
    hasher.update(format!(r#"],"text_template":{template}}}"#).as_bytes());
    hasher.finish_hex()
}
