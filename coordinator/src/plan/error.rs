//! Why a run could not be planned.

use shared::exit::ExitCode;
use shared::ids::RunId;
use shared::images::ImagesError;
use shared::items::InputError;
use shared::plan::{Plan, PlanError};
use shared::store::StoreError;

use crate::check::CheckError;

/// Planning failed. Bad input writes nothing.
#[derive(Debug, thiserror::Error)]
pub enum PlanningError {
    /// The items.
    #[error(transparent)]
    Items(#[from] InputError),
    /// The images.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plan that lies in the store.
    #[error("the store's plan cannot be used")]
    Plan(#[from] PlanError),
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] shared::ids::InvalidId),
    /// A bundle could not be packed.
    #[error("cannot pack a bundle")]
    Pack(#[source] std::io::Error),
    /// The run exists with another fingerprint.
    #[error(
        "run {run} is planned already, and differently: {}; choose another --run, or leave it out",
        differences.join(", ")
    )]
    OtherPlan {
        /// The run.
        run: RunId,
        /// What differs.
        differences: Vec<String>,
    },
    /// A list of shards lies there without a plan, and it is another one.
    #[error("run {run} was begun with other input; choose another --run, or leave it out")]
    OtherShards {
        /// The run.
        run: RunId,
    },
    /// A thread of this process ended early.
    #[error("a thread of the planning ended early: {0}")]
    Thread(String),
}

impl From<CheckError> for PlanningError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Items(error) => error.into(),
            CheckError::Images(error) => error.into(),
        }
    }
}

impl PlanningError {
    pub(super) fn thread(error: tokio::task::JoinError) -> Self {
        Self::Thread(error.to_string())
    }

    /// Names what differs between two plans of one run.
    pub(super) fn other_plan(old: &Plan, new: &Plan) -> Self {
        let mut differences = Vec::new();
        let mut compare = |what: &str, old: String, new: String| {
            if old != new {
                differences.push(format!("{what} was {old} and is {new}"));
            }
        };
        compare("the numerics version", old.numerics_version.to_string(), new.numerics_version.to_string());
        compare("the model's digest", old.model.digest.clone(), new.model.digest.clone());
        let (was, is) = (&old.embedding, &new.embedding);
        compare("the dtype", was.dtype.name().to_owned(), is.dtype.name().to_owned());
        compare("the instruction", format!("{:?}", was.instruction), format!("{:?}", is.instruction));
        compare("max-pixels", was.max_pixels.to_string(), is.max_pixels.to_string());
        compare("max-length", was.max_length.to_string(), is.max_length.to_string());
        compare("dim", was.dim.to_string(), is.dim.to_string());
        compare("the text template", format!("{:?}", was.text_template), format!("{:?}", is.text_template));
        compare("the number of items", old.counts.items.to_string(), new.counts.items.to_string());
        compare("the number of shards", old.counts.shards.to_string(), new.counts.shards.to_string());
        let largest = |plan: &Plan| plan.fleet.shard_size.to_string();
        compare("the most items of a shard", largest(old), largest(new));
        // Bundles are named by what is in them: which of these it is cannot be told from the names.
        if old.shards_sha256 != new.shards_sha256 {
            let what = "items, images, or where the shards are cut (--shard-size, --balance) are others";
            differences.push(what.to_owned());
        }
        Self::OtherPlan { run: old.run.clone(), differences }
    }

    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::Pack(_) | Self::Thread(_) => ExitCode::Unexpected,
            _ => ExitCode::Input,
        }
    }
}
