//! One fleet of a size on a server of its own, from adding its shards to working flat out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::ids::{ContentName, LeaseToken, RunId, Sha16, ShardId, WorkerId};
use shared::queue::redis::{RedisOptions, RedisQueue};
use shared::queue::{NewShard, Queue as _, QueueError, QueueSettings, Snapshot};
use shared::settings::{QueueAddress, QueueUrl};

use super::command;
use super::phase::{self, Pace, Phase};
use super::samples::Samples;
use super::server;
use super::worker::SimulatedWorker;
use crate::redis::RedisServer;

/// The run's name.
pub const RUN: &str = "scale";

/// Items of a shard.
pub const ITEMS: u64 = 512;

/// Snapshots taken while the fleet rests.
const SNAPSHOTS_AT_REST: usize = 50;

/// How large a fleet is and how it works.
#[derive(Debug, Clone)]
pub struct Case {
    /// Shards of the run.
    pub shards: u64,
    /// Workers.
    pub workers: usize,
    /// Connections that they share; a real worker has one of its own.
    pub connections: usize,
    /// Claims a minute of the whole fleet while it is paced.
    pub claims_a_minute: f64,
    /// How long it is paced.
    pub paced: Duration,
    /// How long it works flat out after that, unless all shards are done before.
    pub flat_out: Duration,
}

/// What came out of a case.
#[derive(Debug)]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// Connections that the server counted, those of the coordinator and of status left out.
    pub connections: u64,
    /// What it took to add all shards.
    pub added: Duration,
    /// The longest call of `add` (500 shards) on the server, in milliseconds; NaN where all took less than
    /// one.
    pub slowest_add: f64,
    /// Bytes that the shards took once they were added.
    pub bytes: u64,
    /// The same at the end, workers and events with them.
    pub bytes_at_end: u64,
    /// Keys once the shards were added.
    pub keys: u64,
    /// Keys at the end.
    pub keys_at_end: u64,
    /// All workers claim at once.
    pub start: Phase,
    /// Snapshots while all workers hold a shard and rest.
    pub at_rest: AtRest,
    /// The fleet at its pace.
    pub paced: Phase,
    /// The fleet without a pause.
    pub flat_out: Phase,
    /// The queue at the end.
    pub end: Snapshot,
}

/// What status costs a server that has nothing else to do.
#[derive(Debug)]
pub struct AtRest {
    /// From the question to the snapshot in the asker's memory.
    pub snapshots: Samples,
    /// Processor time of the server for each, in milliseconds: what load beside blurs least.
    pub server_milliseconds: f64,
    /// The same of this program, which reads the answer.
    pub asker_milliseconds: f64,
    /// `coordinator status`, from its start to its end.
    pub commands: Samples,
}

/// A queue of the run that all cases use.
pub fn open(server: &RedisServer) -> Result<Arc<RedisQueue>, QueueError> {
    let address = QueueAddress::from(QueueUrl::from(server.url()));
    let run: RunId = RUN.parse().unwrap();
    Ok(Arc::new(RedisQueue::connect(&address, &run, RedisOptions::default())?))
}

/// Shards as a plan names them.
pub fn new_shards(count: u64) -> Vec<NewShard> {
    let shard = |number: u64| {
        let id = ShardId(number);
        let bundle = ContentName { shard: id, sha: Sha16::of(&number.to_be_bytes()) };
        NewShard { id, bundle, items: ITEMS, part: None }
    };
    (0..count).map(shard).collect()
}

/// Runs a case on a server that holds nothing yet.
///
/// # Panics
/// When the queue loses sight of the run.
pub async fn run(server: &RedisServer, case: Case) -> Result<Outcome, QueueError> {
    let coordinator = open(server)?;
    coordinator.check_server().await?;
    coordinator.load_functions().await?;
    let settings = QueueSettings::default();
    let shards = new_shards(case.shards);
    let empty = server::used_memory(server);
    server::start_slow_log(server);
    let started = Instant::now();
    coordinator.add(&settings, &shards).await?;
    let added = started.elapsed();
    let slowest_add = server::slow_calls(server).adds.percentile(100.0);
    let bytes = server::used_memory(server) - empty;
    let keys = server::keys(server);

    let status = open(server)?;
    status.snapshot().await?;
    let workers = connect(server, &case, settings.lease).await?;
    let connections = server::connections(server) - 2;
    let mean = Duration::from_secs_f64(60.0 * case.workers as f64 / case.claims_a_minute);
    let (workers, start) = phase::run(server, workers, &status, Pace::Start).await?;
    let at_rest = ask_at_rest(server, &status).await?;
    let pace = Pace::Paced { mean, lasts: case.paced };
    let (workers, paced) = phase::run(server, workers, &status, pace).await?;
    let pace = Pace::FlatOut { lasts: case.flat_out };
    let (workers, flat_out) = phase::run(server, workers, &status, pace).await?;
    let end = coordinator.snapshot().await?.unwrap();
    let (bytes_at_end, keys_at_end) = (server::used_memory(server) - empty, server::keys(server));
    drop(workers);
    Ok(Outcome {
        case,
        connections,
        added,
        slowest_add,
        bytes,
        bytes_at_end,
        keys,
        keys_at_end,
        start,
        at_rest,
        paced,
        flat_out,
        end,
    })
}

async fn ask_at_rest(server: &RedisServer, status: &RedisQueue) -> Result<AtRest, QueueError> {
    let (server_before, own_before) = (server::processor_seconds(server), server::own_processor_seconds());
    let mut snapshots = Samples::default();
    for _ in 0..SNAPSHOTS_AT_REST {
        let asked = Instant::now();
        status.snapshot().await?;
        snapshots.note(asked.elapsed());
    }
    let own = server::own_processor_seconds() - own_before;
    let used = server::processor_seconds(server) - server_before;
    let each = |seconds: f64| 1e3 * seconds / SNAPSHOTS_AT_REST as f64;
    Ok(AtRest {
        snapshots,
        server_milliseconds: each(used),
        asker_milliseconds: each(own),
        commands: command::time(server),
    })
}

/// The workers, their connections open.
async fn connect(
    server: &RedisServer,
    case: &Case,
    lease: Duration,
) -> Result<Vec<SimulatedWorker>, QueueError> {
    let mut queues = Vec::with_capacity(case.connections);
    for _ in 0..case.connections {
        let queue = open(server)?;
        // Changes nothing: nobody holds this.
        queue.release(&WorkerId("nobody".to_owned()), ShardId(0), LeaseToken(0)).await?;
        queues.push(queue);
    }
    let queue_of = |number: usize| Arc::clone(&queues[number % queues.len()]);
    Ok((0..case.workers).map(|number| SimulatedWorker::new(number, queue_of(number), lease)).collect())
}

impl Outcome {
    /// What does not add up, a line each; empty where every shard that was claimed is held or was done once.
    pub fn faults(&self) -> Vec<String> {
        let phases = [&self.start, &self.paced, &self.flat_out];
        let mut done: Vec<u64> = phases.iter().flat_map(|phase| phase.work.done.iter().copied()).collect();
        let completed = done.len() as u64;
        done.sort_unstable();
        done.dedup();
        let claimed: usize = phases.iter().map(|phase| phase.work.claims.count()).sum();
        let lost: u64 = phases.iter().map(|phase| phase.work.lost).sum();
        let counts = &self.end.shards;
        let keys_explained = self.case.shards + 2 * self.case.workers as u64 + 12;
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        check(lost == 0, format!("{lost} completions were refused"));
        check(
            done.len() as u64 == completed,
            format!("{completed} completions for {} different shards", done.len()),
        );
        check(
            claimed as u64 == completed + counts.leased,
            format!("{claimed} claims, {completed} completed and {} held", counts.leased),
        );
        check(
            counts.done == completed,
            format!("the queue counts {} done, workers {completed}", counts.done),
        );
        check(
            counts.total() == self.case.shards,
            format!("{} shards of {}", counts.total(), self.case.shards),
        );
        let items = completed * ITEMS;
        check(
            self.end.items_done == items,
            format!("the queue counts {} items, workers {items}", self.end.items_done),
        );
        check(
            self.keys_at_end <= keys_explained,
            format!("{} keys, where {keys_explained} are accounted for", self.keys_at_end),
        );
        faults
    }
}
