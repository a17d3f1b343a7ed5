//! The worker with a rigged embedder, for tests: batches that take a while, so that faults find something to
//! hit, and items that kill what touches them. Everything else is the worker's own code, in its children too.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use worker::embedder::{
    BatchBudget, EmbedError, EmbeddedBatch, Embedder, ImageError, ItemError, PreparedImage, PreparedItem,
    StartedBatch,
};

/// Milliseconds that a batch takes at least.
const BATCH_TIME: &str = "RIGGED_BATCH_MS";

/// A file whose lines let an item vanish with its machine, one line each time. Children of a worker do not
/// get the variable.
const VANISH: &str = "RIGGED_VANISH";

/// The exit code of `--check`, which takes seconds for each box of a test otherwise.
const CHECK: &str = "RIGGED_CHECK";

/// Memory that an item takes before it is killed, as a kernel would do at some point.
const TAKEN: usize = 700 << 20;

/// A few items a batch.
const BUDGET: BatchBudget = BatchBudget(200);

/// A credential that no child of a worker may have.
const CREDENTIAL: &str = "AWS_SECRET_ACCESS_KEY";

fn main() -> ExitCode {
    let is_child = std::env::args().nth(1).as_deref() == Some("probe");
    if is_child && std::env::var_os(CREDENTIAL).is_some() {
        eprintln!("a child got {CREDENTIAL}");
        return ExitCode::from(9);
    }
    if let Some(code) = std::env::var(CHECK).ok().and_then(|code| code.parse::<u8>().ok())
        && std::env::args().any(|argument| argument == "--check")
    {
        if code != 0 {
            eprintln!("error: this device computes 1 of 52 operations wrongly (rigged)");
        }
        return ExitCode::from(code);
    }
    worker::cli::main_with(|inner| Arc::new(Rigged::new(inner))).into()
}

/// What happens to an item.
#[derive(Clone, Copy)]
enum Poison {
    Abort,
    Memory,
    Hang,
    Vanish,
}

struct Rigged {
    inner: Arc<dyn Embedder>,
    batch_time: Option<Duration>,
    /// When the device is through with all that was started.
    busy_until: Mutex<Instant>,
    deadly: Mutex<HashMap<Vec<u32>, Poison>>,
}

/// A batch on a device that works on its own.
struct Started {
    rows: Vec<Vec<f32>>,
    busy: Duration,
    ready_at: Instant,
}

impl StartedBatch for Started {
    fn is_finished(&self) -> bool {
        Instant::now() >= self.ready_at
    }

    fn finish(self: Box<Self>) -> Result<EmbeddedBatch, EmbedError> {
        std::thread::sleep(self.ready_at.saturating_duration_since(Instant::now()));
        Ok(EmbeddedBatch { rows: self.rows, busy: self.busy })
    }
}

impl Rigged {
    fn new(inner: Arc<dyn Embedder>) -> Self {
        let milliseconds = std::env::var(BATCH_TIME).ok().and_then(|text| text.parse().ok());
        Self {
            inner,
            batch_time: milliseconds.map(Duration::from_millis),
            busy_until: Mutex::new(Instant::now()),
            deadly: Mutex::default(),
        }
    }
}

impl Poison {
    fn of(text: &str) -> Option<Self> {
        let words = [
            ("POISON abort", Self::Abort),
            ("POISON memory", Self::Memory),
            ("POISON hang", Self::Hang),
            ("POISON vanish", Self::Vanish),
        ];
        words.into_iter().find(|(word, _)| text.contains(word)).map(|(_, poison)| poison)
    }

    fn act(self) {
        match self {
            Self::Abort => std::process::abort(),
            Self::Memory => exhaust(),
            Self::Hang => loop {
                std::thread::park_timeout(Duration::from_secs(1));
            },
            Self::Vanish => vanish(),
        }
    }
}

/// Takes memory page by page until the process is killed.
fn exhaust() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while taken.len() << 20 < TAKEN {
        taken.push(vec![1; 1 << 20]);
        std::thread::park_timeout(Duration::from_micros(500));
    }
    kill_self();
}

/// The machine vanishes, as often as there are lines in the file.
fn vanish() {
    let Some(path) = std::env::var_os(VANISH) else { return };
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let Some((_, rest)) = text.split_once('\n') else { return };
    if std::fs::write(&path, rest).is_ok() {
        kill_self();
    }
}

fn kill_self() {
    let id = std::process::id().to_string();
    let _ = std::process::Command::new("kill").args(["-9", &id]).status();
}

impl Embedder for Rigged {
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn memory(&self) -> u64 {
        self.inner.memory()
    }

    fn prepare_image(&self, bytes: &[u8]) -> Result<PreparedImage, ImageError> {
        self.inner.prepare_image(bytes)
    }

    fn prepare_item(
        &self,
        text: Option<&str>,
        images: Vec<PreparedImage>,
    ) -> Result<PreparedItem, ItemError> {
        if text.is_some_and(|text| text.contains("POISON decode")) {
            std::process::abort();
        }
        let item = self.inner.prepare_item(text, images)?;
        if let Some(poison) = text.and_then(Poison::of) {
            let mut deadly = self.deadly.lock().unwrap_or_else(PoisonError::into_inner);
            deadly.insert(item.token_ids.clone(), poison);
        }
        Ok(item)
    }

    fn embed(&self, batch: &[PreparedItem]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let deadly = self.deadly.lock().unwrap_or_else(PoisonError::into_inner);
        let poison = batch.iter().find_map(|item| deadly.get(&item.token_ids).copied());
        drop(deadly);
        if let Some(poison) = poison {
            poison.act();
        }
        self.inner.embed(batch)
    }

    fn start(&self, batch: &[PreparedItem]) -> Result<Box<dyn StartedBatch>, EmbedError> {
        let busy = self.batch_time.unwrap_or_default();
        let rows = self.embed(batch)?;
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let ready_at = Instant::now().max(*busy_until) + busy;
        *busy_until = ready_at;
        Ok(Box::new(Started { rows, busy, ready_at }))
    }

    fn default_budget(&self) -> BatchBudget {
        BUDGET
    }
}
