//! Which run a command means, and its plan.

use super::{Plan, PlanError};
use crate::exit::ExitCode;
use crate::ids::{InvalidId, RunId};
use crate::store::{Store, StoreError, StoreErrorKind, layout};

/// A run or its plan cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is empty.
    #[error("{store} holds no run: make one with `coordinator plan`")]
    NoRun {
        /// The store's URL.
        store: String,
    },
    /// Several runs and none named.
    #[error("{store} holds several runs; name one with --run:\n  {}", runs.join("\n  "))]
    SeveralRuns {
        /// The store's URL.
        store: String,
        /// Their ids.
        runs: Vec<String>,
    },
    /// The only folder among the runs is none.
    #[error(transparent)]
    Name(#[from] InvalidId),
    /// The run has no plan.
    #[error(
        "{url} does not exist: there is no run {run} in this store, or `coordinator plan` was interrupted; repeat it"
    )]
    NoPlan {
        /// Where it would lie.
        url: String,
        /// The run.
        run: RunId,
    },
    /// The plan cannot be used.
    #[error("{url} cannot be used")]
    Plan {
        /// Where it lies.
        url: String,
        /// The cause.
        source: PlanError,
    },
}

impl FindError {
    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::NoRun { .. } | Self::SeveralRuns { .. } | Self::Name(_) | Self::NoPlan { .. } => {
                ExitCode::Usage
            }
            Self::Plan { .. } => ExitCode::Input,
        }
    }
}

/// The run named, or the only one in the store.
pub async fn find_run(store: &Store, named: Option<RunId>) -> Result<RunId, FindError> {
    if let Some(run) = named {
        return Ok(run);
    }
    let mut runs = store.folders(layout::RUNS).await?;
    let store = store.url().to_owned();
    match runs.len() {
        0 => Err(FindError::NoRun { store }),
        1 => Ok(runs.remove(0).parse()?),
        _ => Err(FindError::SeveralRuns { store, runs }),
    }
}

/// The plan of a run.
pub async fn read_plan(store: &Store, run: &RunId) -> Result<Plan, FindError> {
    let key = layout::plan_key(run);
    let url = store.url_of(&key);
    let bytes = match store.get(&key).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind == StoreErrorKind::NotFound => {
            return Err(FindError::NoPlan { url, run: run.clone() });
        }
        Err(error) => return Err(error.into()),
    };
    Plan::parse(&bytes).map_err(|source| FindError::Plan { url, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_only_run_is_the_default() {
        let store = Store::memory();
        assert!(matches!(find_run(&store, None).await, Err(FindError::NoRun { .. })));
        store.replace("runs/a/shards.jsonl", "".into()).await.unwrap();
        let run = find_run(&store, None).await.unwrap();
        assert_eq!(run.as_str(), "a");
        assert!(matches!(read_plan(&store, &run).await, Err(FindError::NoPlan { .. })));
        store.replace("runs/a/plan.json", "{\"version\": 99}".into()).await.unwrap();
        let error = read_plan(&store, &run).await.unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Input);
        store.replace("runs/b/plan.json", "{}".into()).await.unwrap();
        let error = find_run(&store, None).await.unwrap_err();
        assert!(error.to_string().contains("a\n  b"), "{error}");
        assert_eq!(find_run(&store, Some("c".parse().unwrap())).await.unwrap().as_str(), "c");
    }
}
