//! A child process that works on suspected items, and the watch on it: its silence, its memory, its end.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use shared::part::ReasonKind;
use shared::queue::ItemRange;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::memory;
use super::protocol::{ARGUMENT, Said, Task};

/// How often a child's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What of the environment a child gets: where programs, libraries and devices are. Credentials are none
/// of its business.
const KEPT_VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LD_LIBRARY_PATH",
    "RAYON_NUM_THREADS",
    "FLEET_LOG",
    "RUST_BACKTRACE",
    "CUDA_VISIBLE_DEVICES",
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

    fn of(status: ExitStatus) -> Self {
        match (status.signal(), status.code()) {
            (Some(9), _) => Self::Memory("was killed, as a system does when memory runs out".to_owned()),
            (Some(signal), _) => Self::Crash(format!("ended its process with signal {signal}")),
            (None, code) => Self::Crash(format!("ended its process with code {}", code.unwrap_or(-1))),
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
    answers: Lines<BufReader<ChildStdout>>,
    memory: Option<u64>,
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
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", program.display());
        let mut command = Command::new(program);
        command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).env_clear();
        command.envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        let mut process = command.spawn().map_err(failed)?;
        let (Some(orders), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed(std::io::Error::other("it has no pipes")));
        };
        let answers = BufReader::new(output).lines();
        let memory = memory.or_else(memory::limit);
        let mut child = Self { process, orders, answers, memory, patience };
        child.tell(task).await.map_err(failed)?;
        match child.hear().await? {
            Seen::Said(Said::Ready) => Ok(child),
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
                Seen::Said(Said::Ready) => return Err("a child process was ready twice".to_owned()),
                Seen::Died(death) => return Ok(Verdict::Died { step, death }),
            }
        }
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
                line = self.answers.next_line() => {
                    let line = line.map_err(|error| format!("a child process cannot be heard: {error}"))?;
                    let Some(line) = line else { return self.end().await };
                    // Libraries may print: what is no word of ours is passed over.
                    if let Ok(said) = serde_json::from_str(&line) {
                        return Ok(Seen::Said(said));
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let taken = self.process.id().and_then(memory::taken_by).unwrap_or(0);
                    if let Some(limit) = self.memory.filter(|limit| taken > *limit) {
                        self.kill().await?;
                        let (taken, limit) = (taken >> 20, limit >> 20);
                        let how = format!("took {taken} MiB of memory where {limit} MiB were free");
                        return Ok(Seen::Died(Death::Memory(how)));
                    }
                    if asked.elapsed() > self.patience {
                        self.kill().await?;
                        return Ok(Seen::Died(Death::Hang));
                    }
                }
            }
        }
    }

    async fn kill(&mut self) -> Result<(), String> {
        self.process.kill().await.map_err(|error| format!("a child process cannot be killed: {error}"))
    }

    /// Its output has ended, so it has, or will at once.
    async fn end(&mut self) -> Result<Seen, String> {
        let status = self.process.wait().await;
        let status = status.map_err(|error| format!("a child process cannot be waited for: {error}"))?;
        Ok(Seen::Died(Death::of(status)))
    }
}
