//! A part: the rows of one shard, and the metadata of parts and merged files.
//!
//! A part is a pure function of what was computed: it holds no clock, host or worker name
//! ([`crate::laws::Law::SameBytesAgain`]), and its name carries the digest of its bytes
//! ([`crate::laws::Law::ObjectsAreImmutable`]). [`PartBuilder`] refuses to make a part that does not
//! account for every item ([`crate::laws::Law::EveryItemIsAccountedFor`]), and [`validate_part`]
//! refuses to take one.
//!
//! | module | what lies there |
//! |---|---|
//! | `metadata` | the last member of every npz |
//! | `build` | rows and failures to the bytes of a part |
//! | `validate` | every byte of a part against plan and shard |
//! | `tail` | name, size and metadata alone, for `resume` and `status` |
//! | `error` | why a part is refused |

mod build;
mod error;
mod metadata;
mod tail;
mod validate;

pub use build::{Origin, PartBuilder, WrittenPart};
pub use error::{PartError, PartErrorKind};
pub use metadata::{
    Metadata, PART_VERSION, Reason, ReasonKind, Volume, decode_null_embedding, encode_vector,
};
pub use tail::{PartSummary, validate_tail};
pub use validate::{PartExpectation, ValidPart, validate_part};

/// How far the norm of a row in single precision may be from 1.
pub const NORM_TOLERANCE: f64 = 1e-6;
/// How far the norm of a row in half precision may be from 1.
pub const NORM_TOLERANCE_F16: f64 = 2e-3;
/// Two vectors of the same item from different devices have at least this cosine.
pub const LEAST_COSINE: f64 = 0.999;
