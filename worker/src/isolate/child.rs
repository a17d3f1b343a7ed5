//! A child process that works on suspected items, and the watch on it: its silence, its memory, its end.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use shared::part::ReasonKind;
use shared::queue::ItemRange;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Split};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::memory;
use super::protocol::{ARGUMENT, Said, Task};

/// How often a child's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a child may take to load its model: tens of gigabytes from a slow disk.
const LOADING: Duration = Duration::from_secs(30 * 60);

/// How long a process may take to be gone once it is killed; one that hangs in a driver never is.
const DYING: Duration = Duration::from_secs(30);

/// What of the environment a child gets: where programs, libraries and devices are. Credentials are none
/// of its business.
const KEPT_VARIABLES: [&str; 11] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LD_LIBRARY_PATH",
    "RAYON_NUM_THREADS",
    "FLEET_LOG",
    "RUST_BACKTRACE",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "CUDA_CACHE_PATH",
];

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Death {
    /// By itself: a signal or an exit code.
    Crash(String),
    /// For the memory it took.
    Memory(String),
    /// It was silent for too long.
    Hang,
}

/// What became of a range.
#[derive(Debug)]
pub enum Verdict {
    /// The child is through with it and lives.
    Survived,
    /// The child died while it was busy with `step`.
    Died {
        /// The step.
        step: ItemRange,
        /// How.
        death: Death,
    },
}

impl Death {
    /// The reason to write into the part.
    pub fn kind(&self) -> ReasonKind {
        match self {
            Self::Crash(_) => ReasonKind::Crash,
            Self::Memory(_) => ReasonKind::HostMemory,
            Self::Hang => ReasonKind::Hang,
        }
    }

    /// How a child ended that was not killed from here; an error where that says nothing of its items:
    /// another hand killed it, and not because it took much.
    fn of(status: ExitStatus, taken: u64, limit: Option<u64>) -> Result<Self, String> {
        match (status.signal(), status.code()) {
            (Some(9), _) if limit.is_some_and(|limit| taken > limit / 2) => {
                Ok(Self::Memory(format!("was killed with {} MiB of memory", taken >> 20)))
            }
            (Some(signal @ (1 | 2 | 3 | 9 | 15)), _) => {
                Err(format!("a child process was ended by signal {signal} from elsewhere"))
            }
            (Some(signal), _) => Ok(Self::Crash(format!("ended its process with signal {signal}"))),
            (None, code) => Ok(Self::Crash(format!("ended its process with code {}", code.unwrap_or(-1)))),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(how) | Self::Memory(how) => f.write_str(how),
            Self::Hang => f.write_str("was not through in time"),
        }
    }
}

/// A child that has loaded the model. Killed when dropped.
pub struct Child {
    process: tokio::process::Child,
    orders: ChildStdin,
    answers: Split<BufReader<ChildStdout>>,
    memory: Option<u64>,
    /// Its memory when it was last looked at.
    taken: u64,
    looked_at: Instant,
    patience: Duration,
}

/// What a child was last heard or seen to do.
enum Seen {
    Said(Said),
    Died(Death),
}

impl Child {
    /// Starts one and waits until its model is loaded. An error is the machine's.
    pub async fn start(
        program: &Path,
        task: &Task,
        memory: Option<u64>,
        patience: Duration,
    ) -> Result<Self, String> {
        let memory = match (memory, memory::limit()) {
            (Some(asked), _) => Some(asked),
            (None, Some(free)) if free < memory::ENOUGH_TO_JUDGE => {
                return Err(format!("{} MiB of memory are free, too few to judge an item by", free >> 20));
            }
            (None, free) => free,
        };
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", program.display());
        let mut command = Command::new(program);
        command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).env_clear();
        command.envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // A Ctrl-C is for the worker, which ends its child itself.
        command.process_group(0);
        let mut process = command.spawn().map_err(failed)?;
        let (Some(orders), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed(std::io::Error::other("it has no pipes")));
        };
        let answers = BufReader::new(output).split(b'\n');
        let looked_at = Instant::now();
        let mut child = Self { process, orders, answers, memory, taken: 0, looked_at, patience: LOADING };
        child.tell(task).await.map_err(failed)?;
        match child.hear().await? {
            Seen::Said(Said::Ready) => Ok(Self { patience, ..child }),
            Seen::Said(said) => Err(format!("a child process said {said:?} before it was ready")),
            Seen::Died(death) => Err(format!("a child process {death} before it was ready")),
        }
    }

    /// Has it work on a range.
    pub async fn probe(&mut self, range: ItemRange) -> Result<Verdict, String> {
        let mut step = range;
        // A child that died meanwhile is heard to have died.
        let _ = self.tell(&range).await;
        loop {
            match self.hear().await? {
                Seen::Said(Said::Begins(next)) => step = next,
                Seen::Said(Said::Survived) => return Ok(Verdict::Survived),
                Seen::Said(Said::Failed(failure)) => return Err(format!("the device failed: {failure}")),
                Seen::Said(Said::Ready) => return Err("a child process was ready twice".to_owned()),
                Seen::Died(death) => return Ok(Verdict::Died { step, death }),
            }
        }
    }

    /// Ends it, and waits until it is gone.
    pub async fn end(mut self) -> Result<(), String> {
        self.kill().await
    }

    async fn tell(&mut self, order: &impl serde::Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).await
    }

    /// The next thing it says, or its end, which this brings about where it is silent for too long or takes
    /// too much memory.
    async fn hear(&mut self) -> Result<Seen, String> {
        let asked = Instant::now();
        loop {
            tokio::select! {
                // What it said while this process slept comes first.
                biased;
                line = self.answers.next_segment() => {
                    let line = line.map_err(|error| format!("a child process cannot be heard: {error}"))?;
                    let Some(line) = line else { return self.is_gone().await };
                    // Libraries may print: what is no word of ours is passed over.
                    if let Ok(said) = serde_json::from_slice(&line) {
                        return Ok(Seen::Said(said));
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Some(death) = self.takes_too_much() {
                self.kill().await?;
                return Ok(Seen::Died(death));
            }
            if asked.elapsed() > self.patience {
                self.kill().await?;
                return Ok(Seen::Died(Death::Hang));
            }
        }
    }

    /// Looks at its memory, if it is time.
    fn takes_too_much(&mut self) -> Option<Death> {
        if self.looked_at.elapsed() < LOOK_EVERY && self.taken > 0 {
            return None;
        }
        self.looked_at = Instant::now();
        self.taken = self.process.id().and_then(memory::taken_by).unwrap_or(self.taken);
        let limit = self.memory.filter(|limit| self.taken > *limit)?;
        let (taken, limit) = (self.taken >> 20, limit >> 20);
        Some(Death::Memory(format!("took {taken} MiB of memory where it may take {limit} MiB")))
    }

    async fn kill(&mut self) -> Result<(), String> {
        match tokio::time::timeout(DYING, self.process.kill()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("a child process cannot be killed: {error}")),
            Err(_) => Err("a child process does not die: its device hangs".to_owned()),
        }
    }

    /// Its output has ended, so it has, or will at once.
    async fn is_gone(&mut self) -> Result<Seen, String> {
        let status = tokio::time::timeout(DYING, self.process.wait()).await;
        let status = status.map_err(|_| "a child process closed its output and does not end".to_owned())?;
        let status = status.map_err(|error| format!("a child process cannot be waited for: {error}"))?;
        Ok(Seen::Died(Death::of(status, self.taken, self.memory)?))
    }
}
