//! Why there is no merged file.

use std::path::{Path, PathBuf};

use shared::exit::ExitCode;
use shared::ids::ShardId;
use shared::part::PartError;
use shared::store::{StoreError, StoreErrorKind};

/// A shard without a valid part.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MissingShard {
    /// The shard.
    pub shard: ShardId,
    /// The index of its first item.
    pub first_index: u64,
    /// Its items.
    pub items: u64,
    /// The parts of it that were found damaged, and how.
    pub damaged: Vec<String>,
}

/// Two parts with different vectors of the same thing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "two parts disagree on {what} (cosine {cosine:.6}): {} by {}, and {} by {}; one of the devices computes wrongly: \
     run `worker --check` there, remove its parts, and resume",
    parts[0], devices[0], parts[1], devices[1]
)]
pub struct Disagreement {
    /// The item and its shard, or the empty item.
    pub what: String,
    /// The cosine between the two vectors.
    pub cosine: f64,
    /// The names of the parts.
    pub parts: [String; 2],
    /// The kinds of device that computed them.
    pub devices: [String; 2],
}

/// Why a merge wrote nothing.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Shards without a valid part, and `--partial` was not given.
    #[error("{}", incomplete(missing, *shards))]
    Incomplete {
        /// The shards.
        missing: Vec<MissingShard>,
        /// Shards of the plan.
        shards: u64,
    },
    /// Files among the parts that are not parts of this run.
    #[error("the run's parts hold {} files that do not belong to it; nothing was written:\n{}", parts.len(), list(parts))]
    Foreign {
        /// Each of them, and why it is foreign.
        parts: Vec<String>,
    },
    /// A part whose bytes are as written and say what cannot be.
    #[error(transparent)]
    Part(#[from] PartError),
    /// Two devices computed different vectors of the same thing.
    #[error(transparent)]
    Disagree(#[from] Box<Disagreement>),
    /// The list of shards is not one of this plan.
    #[error("the list of shards does not belong to the plan: {0}")]
    Plan(String),
    /// A file on this machine could not be written.
    #[error("cannot write {}; free some space or choose another --out", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An object of more bytes than can be sent in bounded memory.
    #[error(
        "{name} would have {:.0} GB, and an object is sent up to {:.0} GB; cut it with --rows-per-file {rows}",
        *size as f64 / 1e9, *most as f64 / 1e9
    )]
    TooLarge {
        /// The object, as a person knows it.
        name: String,
        /// Its bytes.
        size: u64,
        /// The most there may be.
        most: u64,
        /// Rows that fit.
        rows: u64,
    },
    /// Its caller stopped it.
    #[error("the merge was stopped; the same command begins it anew")]
    Stopped,
    /// `--rows-per-file 0`.
    #[error("--rows-per-file must be at least 1")]
    NoRows,
    /// A thread of this process ended early.
    #[error("a thread of the merge ended early: {0}")]
    Thread(String),
}

impl MergeError {
    pub(super) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// How the command ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) if error.kind == StoreErrorKind::LocalFile => ExitCode::Unexpected,
            Self::Store(_) => ExitCode::Unreachable,
            Self::Incomplete { .. } => ExitCode::Incomplete,
            Self::Foreign { .. } | Self::Part(_) | Self::Disagree(_) => ExitCode::Verification,
            Self::Plan(_) => ExitCode::Input,
            Self::NoRows | Self::TooLarge { .. } => ExitCode::Usage,
            Self::Stopped => ExitCode::Interrupted,
            Self::Write { .. } | Self::Thread(_) => ExitCode::Unexpected,
        }
    }
}

/// Lines a person still reads.
const SHOWN: usize = 20;

fn list(lines: &[String]) -> String {
    let mut shown: Vec<String> = lines.iter().take(SHOWN).map(|line| format!("  {line}")).collect();
    if lines.len() > SHOWN {
        shown.push(format!("  and {} more", lines.len() - SHOWN));
    }
    shown.join("\n")
}

fn incomplete(missing: &[MissingShard], shards: u64) -> String {
    let lines: Vec<String> = missing.iter().map(MissingShard::to_string).collect();
    format!(
        "{} of {shards} shards have no valid part; nothing was written. Resume the run, or merge with --partial:\n{}",
        missing.len(),
        list(&lines)
    )
}

impl std::fmt::Display for MissingShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "shard {} (items {} to {})",
            self.shard,
            self.first_index,
            self.first_index + self.items.max(1) - 1
        )?;
        self.damaged.iter().try_for_each(|damaged| write!(f, "; {damaged}"))
    }
}
