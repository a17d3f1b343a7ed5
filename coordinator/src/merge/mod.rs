//! All parts of a run into one npz.
//!
//! `parts/` is listed once and the end of each part read; that tells which part of each shard is
//! taken, how many rows there are and how wide the ids. Then each part is fetched once, a few ahead,
//! every byte of it checked, and its rows written to their places in a file under a temporary name,
//! or in the parts of an object. Only a whole file gets its final name.
//!
//! Memory: a few parts at a time and about 300 bytes a shard, whatever the number of items
//! ([`shared::laws::Law::MemoryIsBounded`]).
//!
//! | module | what lies there |
//! |---|---|
//! | `run` | plan and shards with their places |
//! | `choose` | which part of each shard is taken |
//! | `buffers` | room for parts, used again |
//! | `load` | a part fetched, checked and compared with the others of its shard |
//! | `sink`, `volume`, `tally` | rows into one file or several, and their sums |
//! | `destination`, `target` | temporary and final names |
//! | `file_writer` | a file that is synced while it is written |
//! | `object_writer` | an object that is sent in parts while it is written |
//! | `ending` | what becomes of both when the merge is stopped or fails |
//! | `failed` | `failed.jsonl` |
//! | `error` | why nothing was written |
//!
//! Deliberately absent: the queue. A merge needs the store alone.

mod buffers;
mod choose;
mod destination;
mod ending;
mod error;
mod failed;
mod file_writer;
mod load;
mod object_writer;
mod run;
mod sink;
mod tally;
mod target;
mod volume;

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use serde::Serialize;
use shared::exit::ExitCode;
use shared::npz::cosine;
use shared::part::{LEAST_COSINE, Metadata, ValidPart, decode_null_embedding};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use buffers::Buffers;
pub(crate) use choose::read_tail;
use choose::{Choices, Damaged};
pub use destination::Destination;
use ending::Ending;
pub use error::{Disagreement, MergeError, MissingShard};
use failed::FailedList;
pub use failed::{DroppedImage, FailedLine, ItemStatus};
use load::{Loaded, device, load};
pub use run::Run;
use sink::Sink;
use volume::Shape;

/// Bytes of parts that are fetched and checked ahead of the writer.
const AHEAD: u64 = 32 << 20;
/// Parts that are fetched ahead of the writer, however small.
const MOST_AHEAD: u64 = 16;

/// The type of the merged vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputType {
    /// `<f4`, the bytes of the parts.
    #[default]
    F32,
    /// `<f2`, rounded to nearest.
    F16,
}

/// What to merge and how.
#[derive(Debug, Clone)]
pub struct MergeRequest {
    /// Where the file goes.
    pub destination: Destination,
    /// The type of the vectors.
    pub output: OutputType,
    /// Deflate the members.
    pub compress: bool,
    /// Write what exists when shards are missing.
    pub partial: bool,
    /// The most rows of a file: makes `F-00000.npz`, `F-00001.npz` and so on.
    pub rows_per_file: Option<u64>,
}

impl MergeRequest {
    /// One stored file in single precision of a complete run.
    pub fn to(destination: Destination) -> Self {
        Self { destination, output: OutputType::F32, compress: false, partial: false, rows_per_file: None }
    }
}

/// How far a merge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeProgress {
    /// Shards whose rows are written.
    pub shards_done: u64,
    /// Shards that will be.
    pub shards: u64,
    /// Rows written.
    pub rows: u64,
    /// Bytes of parts read.
    pub bytes: u64,
}

/// What a merge wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeReport {
    /// The files, as a person knows them.
    pub files: Vec<String>,
    /// Rows of all files.
    pub rows: u64,
    /// Items without a row, with their reasons in `failed.jsonl`.
    pub failed: u64,
    /// Rows with only some of their images.
    pub partial: u64,
    /// Rows with none of the images their items named.
    pub text_only: u64,
    /// Shards of the plan without a valid part (`--partial`).
    pub missing: Vec<MissingShard>,
    /// Damaged parts that another part of the same shard stood in for, or that left it missing.
    pub damaged: Vec<String>,
    /// sha256 over the names of the parts taken, each followed by a newline.
    pub parts_sha256: String,
    /// Where all items that are not complete are listed with their reasons.
    pub failed_list: String,
    /// The first lines of that list.
    pub examples: Vec<FailedLine>,
    /// Files of an earlier merge that lie beside, under names that belong to the same merge.
    pub earlier: Vec<String>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
}

impl MergeReport {
    /// How the command ends: shards missing is incomplete; failed items are, with `strict`, too.
    pub fn exit_code(&self, strict: bool) -> ExitCode {
        if !self.missing.is_empty() || (strict && self.failed > 0) {
            ExitCode::Incomplete
        } else {
            ExitCode::Done
        }
    }
}

/// Merges the parts of a run. `progress` is called after each shard. Once `stop` is cancelled it ends and leaves
/// nothing behind.
pub async fn merge(
    run: Arc<Run>,
    request: &MergeRequest,
    stop: &CancellationToken,
    progress: &(dyn Fn(MergeProgress) + Send + Sync),
) -> Result<MergeReport, MergeError> {
    if request.rows_per_file == Some(0) {
        return Err(MergeError::NoRows);
    }
    let ending = Ending::new(stop.clone());
    let merged = ending.unless_stopped(merge_chosen(&run, request, progress, &ending)).await;
    ending.wait().await;
    merged
}

async fn merge_chosen(
    run: &Arc<Run>,
    request: &MergeRequest,
    progress: &(dyn Fn(MergeProgress) + Send + Sync),
    ending: &Ending,
) -> Result<MergeReport, MergeError> {
    let started = Instant::now();
    let mut candidates = choose::find_candidates(run).await?;
    // A part that turns out damaged is left out and the choice made again; each round leaves out at
    // least one part, so that this ends.
    loop {
        let choices = candidates.choose(run);
        if choices.taken.is_empty() || (!choices.missing.is_empty() && !request.partial) {
            let shards = run.shards().len() as u64;
            return Err(MergeError::Incomplete { missing: choices.missing, shards });
        }
        match write(run, request, &choices, ending, progress).await? {
            Round::Damaged(found) => candidates.damaged.extend(found),
            Round::Written(written) => {
                candidates.damaged.extend(written.damaged.clone());
                let published = publish(run, request, &choices, *written, ending).await?;
                return Ok(report(run, choices, &candidates.damaged, published, started));
            }
        }
    }
}

/// What a pass over the parts gave.
enum Round {
    Damaged(Damaged),
    Written(Box<Written>),
}

/// All rows, under temporary names.
struct Written {
    sink: Sink,
    failed: FailedList,
    damaged: Damaged,
}

async fn write(
    run: &Arc<Run>,
    request: &MergeRequest,
    choices: &Choices,
    ending: &Ending,
    progress: &(dyn Fn(MergeProgress) + Send + Sync),
) -> Result<Round, MergeError> {
    let mut writer = Writer::begin(run, request, choices, ending).await?;
    let mut state = MergeProgress { shards: choices.taken.len() as u64, ..MergeProgress::default() };
    let mut broken = Damaged::new();
    let mut missing = choices.missing.iter().peekable();
    let buffers = Buffers::default();
    // Each part is a task of its own: it goes on while this one waits for the writer.
    let mut parts = futures::stream::iter(&choices.taken)
        .map(|choice| {
            let task = tokio::spawn(load(Arc::clone(run), choice.clone(), buffers.clone()));
            let task = AbortOnDropHandle::new(task);
            async move { (choice, task.await) }
        })
        .buffered(parts_ahead(choices));
    while let Some((choice, loaded)) = parts.next().await {
        let loaded = loaded.map_err(|error| MergeError::Thread(error.to_string()))?;
        let (part, others) = match loaded? {
            Loaded::Part { part, damaged } => (part, damaged),
            Loaded::Damaged(error) => {
                broken.insert(error.name.clone(), error.to_string());
                continue;
            }
        };
        writer.damaged.extend(others.into_iter().map(|error| (error.name.clone(), error.to_string())));
        if !broken.is_empty() {
            continue;
        }
        let first_index = run.first_index(choice.position);
        while let Some(shard) = missing.next_if(|shard| shard.first_index < first_index) {
            writer.failed.add_missing(shard)?;
        }
        state.shards_done += 1;
        state.rows += part.metadata.count;
        state.bytes += choice.taken.size;
        let run = Arc::clone(run);
        let position = choice.position;
        writer = ending.blocking(move || writer.add(&run, position, &part)).await??;
        progress(state);
    }
    if !broken.is_empty() {
        return Ok(Round::Damaged(broken));
    }
    for shard in missing {
        writer.failed.add_missing(shard)?;
    }
    Ok(Round::Written(Box::new(Written {
        sink: writer.sink,
        failed: writer.failed,
        damaged: writer.damaged,
    })))
}

/// How many parts may be in memory ahead of the writer.
fn parts_ahead(choices: &Choices) -> usize {
    let largest = choices.taken.iter().map(|choice| choice.taken.size).max().unwrap_or(1).max(1);
    (AHEAD / largest).clamp(1, MOST_AHEAD) as usize
}

/// Takes the parts in order.
struct Writer {
    sink: Sink,
    failed: FailedList,
    damaged: Damaged,
    /// The first part's vector of an empty item, with that part's name and device.
    null: Option<(Vec<f32>, String, String)>,
}

impl Writer {
    async fn begin(
        run: &Run,
        request: &MergeRequest,
        choices: &Choices,
        ending: &Ending,
    ) -> Result<Self, MergeError> {
        let common = Metadata {
            parts_sha256: Some(choices.parts_sha256()),
            shards: Some(choices.taken.len() as u64),
            ..Metadata::of_plan(&run.plan)
        };
        let shape = Shape {
            dim: u64::from(run.plan.embedding.dim),
            id_width: choices.id_width(),
            output: request.output,
            compress: request.compress,
            ending: ending.clone(),
            buffers: Buffers::default(),
        };
        let (destination, rows, rows_per_file) =
            (request.destination.clone(), choices.rows(), request.rows_per_file);
        let begin = move || Sink::begin(destination, shape, rows, rows_per_file, common);
        let sink = ending.blocking(begin).await??;
        Ok(Self { sink, failed: FailedList::begin()?, damaged: Damaged::new(), null: None })
    }

    fn add(mut self, run: &Run, position: usize, part: &ValidPart) -> Result<Self, MergeError> {
        self.check_null(part)?;
        self.sink.append(run, position, part)?;
        self.failed.add_part(part, run.first_index(position))?;
        Ok(self)
    }

    /// All parts must mean the same by an empty item; the first one's vector is recorded.
    fn check_null(&mut self, part: &ValidPart) -> Result<(), MergeError> {
        // Decoded once by the validation, so that this cannot fail.
        let vector = decode_null_embedding(&part.metadata).unwrap_or_default();
        let Some((first, name, by)) = &self.null else {
            self.sink.set_null_embedding(&part.metadata.null_embedding);
            self.null = Some((vector, part.name.part(), device(part)));
            return Ok(());
        };
        let cosine = cosine(first, &vector);
        if cosine >= LEAST_COSINE {
            return Ok(());
        }
        let (parts, devices) = ([name.clone(), part.name.part()], [by.clone(), device(part)]);
        let what = "the vector of an empty item".to_owned();
        Err(Box::new(Disagreement { what, cosine, parts, devices }).into())
    }
}

/// The files in place.
struct Published {
    files: Vec<String>,
    bytes: u64,
    metadata: Metadata,
    examples: Vec<FailedLine>,
    earlier: Vec<String>,
}

async fn publish(
    run: &Run,
    request: &MergeRequest,
    choices: &Choices,
    mut written: Written,
    ending: &Ending,
) -> Result<Published, MergeError> {
    debug_assert!(choices.missing.is_empty() || request.partial);
    let sink = written.sink;
    let (sealed, metadata) = ending.blocking(move || sink.finish()).await??;
    let examples = written.failed.take_first();
    let mut published = Published { files: Vec::new(), bytes: 0, metadata, examples, earlier: Vec::new() };
    for (destination, sealed) in sealed {
        published.bytes += destination.publish(sealed, ending).await?;
        published.files.push(destination.describe());
    }
    written.failed.publish(&run.store, run).await?;
    published.earlier = earlier(request, published.files.len() as u64).await?;
    Ok(published)
}

/// What another merge left under the same name: a reader would take it for a part of this one, or the other way.
async fn earlier(request: &MergeRequest, written: u64) -> Result<Vec<String>, MergeError> {
    let several = request.rows_per_file.is_some();
    let first = if several { written } else { 0 };
    let mut found = Vec::new();
    if several && request.destination.exists().await? {
        found.push(request.destination.describe());
    }
    for number in first.. {
        let volume = request.destination.volume(number);
        if !volume.exists().await? {
            break;
        }
        found.push(volume.describe());
    }
    Ok(found)
}

fn report(
    run: &Run,
    choices: Choices,
    damaged: &Damaged,
    published: Published,
    started: Instant,
) -> MergeReport {
    let mut damaged: Vec<String> = damaged.values().cloned().collect();
    damaged.sort();
    MergeReport {
        files: published.files,
        rows: published.metadata.count,
        failed: published.metadata.failed,
        partial: published.metadata.partial,
        text_only: published.metadata.text_only,
        parts_sha256: choices.parts_sha256(),
        missing: choices.missing,
        damaged,
        failed_list: run.store.url_of(&shared::store::layout::failed_key(&run.plan.run)),
        examples: published.examples,
        earlier: published.earlier,
        bytes: published.bytes,
        seconds: started.elapsed().as_secs_f64(),
    }
}
