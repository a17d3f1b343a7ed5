//! Finds the items of a range that kill the process that works on them, in child processes.
//!
//! Two workers died on the same items of a shard; nobody knows yet whether for an item that aborts, hangs
//! or takes all memory, or because two rented boxes vanished. A child process with the same model works on
//! the range and says what it begins. Where it dies, the step it was in is cut and tried again in a fresh
//! child, down to single items. An item is guilty only if it kills a child each of two times it is tried
//! alone, the second time in a child that did nothing but an empty item before. A machine that kills empty
//! items, or most of what it is given, or by a hand other than ours and not for memory, convicts nobody.
//!
//! | file | job |
//! |---|---|
//! | `bisect` | which range to try next, and who is guilty: pure |
//! | `child` | a child process: started, watched, ended |
//! | `memory` | how much memory this machine has left, and a process takes |
//! | `probe` | the child's side |
//! | `protocol` | what the two say to each other |
//!
//! A child gets the model, the settings and the bundle, and nothing else: no credentials, no queue.

mod bisect;
mod child;
mod memory;
pub mod probe;
mod protocol;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::ids::ShardId;
use shared::model::LocalModel;
use shared::part::ReasonKind;
use shared::plan::EmbeddingSettings;
use shared::queue::ItemRange;

use crate::embedder::{BatchBudget, Embedder};
use bisect::Bisection;
use child::{Child, Verdict};
use protocol::Task;

/// Children that may die in one search: finding one item among a million takes 20.
const MOST_DEATHS: u32 = 100;

/// An item that is not touched any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its position in the shard.
    pub item: u32,
    /// How it kills.
    pub kind: ReasonKind,
    /// For a person.
    pub reason: String,
}

/// Loads the model on all devices again.
pub type LoadAgain = Arc<dyn Fn() -> Result<Vec<Arc<dyn Embedder>>, String> + Send + Sync>;

/// What it takes to search.
#[derive(Clone)]
pub struct Isolation {
    /// The program that is started with `probe` as its only argument.
    pub program: PathBuf,
    /// The model on this machine.
    pub model: LocalModel,
    /// The plan's settings.
    pub settings: EmbeddingSettings,
    /// `--device`, of which a child takes the first.
    pub device: String,
    /// `--gpu-memory`.
    pub gpu_memory: Option<u64>,
    /// What a batch may hold.
    pub budget: BatchBudget,
    /// Bytes of memory that a child may take; `None` for most of what is free when it starts, if that is
    /// enough to judge an item by.
    pub memory: Option<u64>,
    /// How long a child may work without a word.
    pub step_limit: Duration,
    /// Loads the model again for this process, which gives it free for the search.
    pub load: LoadAgain,
}

impl Isolation {
    /// The items of `suspected` that kill. `bundle` is the shard's, checked. An error says why this machine
    /// cannot tell: no child can be started, or they die of something else than items.
    pub async fn search(
        &self,
        shard: ShardId,
        suspected: ItemRange,
        bundle: &[u8],
    ) -> Result<Vec<LeftOut>, String> {
        tracing::warn!(
            %shard, first = suspected.first, end = suspected.end,
            "workers died on these items: they are tried in child processes"
        );
        let mut file =
            tempfile::NamedTempFile::new().map_err(|error| format!("no temporary file: {error}"))?;
        file.write_all(bundle).map_err(|error| format!("{}: {error}", file.path().display()))?;
        let task = self.task(file.path().to_path_buf());
        let mut bisection = Bisection::new(suspected);
        let mut child = None;
        let found = self.try_all(shard, &task, &mut bisection, &mut child).await;
        // Its memory must be free before the model is loaded here again.
        if let Some(child) = child {
            child.end().await?;
        }
        found?;
        let left_out = bisection.into_guilty();
        tracing::warn!(%shard, guilty = left_out.len(), "the search has ended");
        Ok(left_out)
    }

    async fn try_all(
        &self,
        shard: ShardId,
        task: &Task,
        bisection: &mut Bisection,
        child: &mut Option<Child>,
    ) -> Result<(), String> {
        while let Some(range) = bisection.next() {
            let running = match child {
                Some(running) => running,
                None => child.insert(Child::start(&self.program, task, self.memory, self.step_limit).await?),
            };
            match running.probe(range).await? {
                Verdict::Survived => bisection.survived(),
                Verdict::Died { step, death } => {
                    *child = None;
                    tracing::warn!(%shard, first = step.first, end = step.end, %death, "a child died");
                    bisection.died(step, death);
                }
            }
            if bisection.deaths() > MOST_DEATHS || bisection.blames_too_many() {
                return Err(format!("{} child processes died: this machine kills them", bisection.deaths()));
            }
        }
        Ok(())
    }

    fn task(&self, bundle: PathBuf) -> Task {
        Task {
            model: self.model.clone().into(),
            settings: self.settings.clone(),
            device: self.device.clone(),
            gpu_memory: self.gpu_memory,
            budget: self.budget.0,
            bundle,
        }
    }
}
