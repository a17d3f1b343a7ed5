//! A worker's pipeline in this process, over the in-memory queue, with embedders that fail: a shard
//! fails alone, a machine's fault is never an item's, and leases go back.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator::check::Input;
use coordinator::merge::Run;
use coordinator::plan::{PlanRequest, plan};
use coordinator::record::{Depth, read_record};
use shared::ids::{ClaimNonce, ShardId, WorkerId};
use shared::items::FieldMapping;
use shared::model::ModelRecord;
use shared::part::{Metadata, ReasonKind, validate_part};
use shared::plan::{Dtype, FleetSettings};
use shared::queue::memory::MemoryQueue;
use shared::queue::{
    Claim, ClaimReply, Clock, FailKind, NewShard, Queue, QueueSettings, Snapshot, WorkerInfo,
};
use shared::settings::EmbeddingChoices;
use shared::store::{Store, layout};
use tokio_util::sync::CancellationToken;
use worker::embedder::{
    BatchBudget, EmbedError, EmbeddedBatch, Embedder, ImageError, ItemError, PreparedImage, PreparedItem,
    StartedBatch,
};
use worker::pipeline::busy::BusyMeter;
use worker::pipeline::{Worker, WorkerEnd, WorkerSettings};

/// Components of a vector.
const DIM: usize = 64;
/// Items of a shard.
const SHARD_SIZE: u64 = 4;

/// Bytes of memory that the device says it has.
const MEMORY: u64 = 24 << 30;

/// What an embedder does when it meets the item with the marked text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Panic,
    Device,
    /// No finite vector, again and again.
    NotFinite,
    /// Too little memory for a batch of more than one item.
    Memory,
    /// Too little memory for the item alone.
    TooLarge,
}

/// Every vector is the first axis; the token ids are the bytes of the text.
struct Faulty {
    fault: Fault,
    batches: AtomicUsize,
    /// Cancelled at the first batch.
    stop: Option<CancellationToken>,
}

/// The text that brings the fault about.
const MARKED: &str = "item 6";

impl Embedder for Faulty {
    fn dim(&self) -> usize {
        DIM
    }

    fn device(&self) -> String {
        "test device".to_owned()
    }

    fn memory(&self) -> u64 {
        MEMORY
    }

    fn prepare_image(&self, _bytes: &[u8]) -> Result<PreparedImage, ImageError> {
        Err(ImageError::Undecodable("no pictures here".to_owned()))
    }

    fn prepare_item(
        &self,
        text: Option<&str>,
        _images: Vec<PreparedImage>,
    ) -> Result<PreparedItem, ItemError> {
        let text = text.unwrap_or("NULL");
        Ok(PreparedItem { token_ids: text.bytes().map(u32::from).collect(), images: Vec::new() })
    }

    fn embed(&self, batch: &[PreparedItem]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        if let Some(stop) = &self.stop {
            stop.cancel();
        }
        let marked: Vec<u32> = MARKED.bytes().map(u32::from).collect();
        if batch.iter().any(|item| item.token_ids == marked) {
            match self.fault {
                Fault::Panic => panic!("the marked item"),
                Fault::NotFinite => {
                    let position = batch.iter().position(|item| item.token_ids == marked).unwrap();
                    return Err(EmbedError::NotFinite { position });
                }
                Fault::Device => return Err(EmbedError::Device("a broken device".to_owned())),
                Fault::Memory if batch.len() > 1 => {
                    return Err(EmbedError::OutOfMemory { items: batch.len(), tokens: 0 });
                }
                Fault::TooLarge => return Err(EmbedError::OutOfMemory { items: batch.len(), tokens: 0 }),
                Fault::None | Fault::Memory => {}
            }
        }
        let mut axis = vec![0.0; DIM];
        axis[0] = 1.0;
        Ok(vec![axis; batch.len()])
    }
}

/// A device that works on its own: a batch is through when it is waited for, not before.
struct Overlapping {
    inner: Faulty,
    events: Arc<Mutex<Vec<&'static str>>>,
}

impl Embedder for Overlapping {
    fn dim(&self) -> usize {
        DIM
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn prepare_image(&self, bytes: &[u8]) -> Result<PreparedImage, ImageError> {
        self.inner.prepare_image(bytes)
    }

    fn prepare_item(
        &self,
        text: Option<&str>,
        images: Vec<PreparedImage>,
    ) -> Result<PreparedItem, ItemError> {
        self.inner.prepare_item(text, images)
    }

    fn embed(&self, batch: &[PreparedItem]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.inner.embed(batch)
    }

    fn start(&self, batch: &[PreparedItem]) -> Result<Box<dyn StartedBatch>, EmbedError> {
        self.events.lock().unwrap().push("start");
        Ok(Box::new(Pending { rows: self.inner.embed(batch)?, events: Arc::clone(&self.events) }))
    }
}

struct Pending {
    rows: Vec<Vec<f32>>,
    events: Arc<Mutex<Vec<&'static str>>>,
}

impl StartedBatch for Pending {
    fn is_finished(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>) -> Result<EmbeddedBatch, EmbedError> {
        self.events.lock().unwrap().push("finish");
        Ok(EmbeddedBatch { rows: self.rows, busy: Duration::from_millis(1) })
    }
}

fn info(host: &str) -> WorkerInfo {
    WorkerInfo { host: host.to_owned(), ..WorkerInfo::default() }
}

/// Twelve items in three shards, planned into a store in memory, and their queue.
struct Scene {
    run: Run,
    queue: Arc<MemoryQueue>,
}

impl Scene {
    async fn new() -> Self {
        Self::with_items(|id| format!("{{\"id\": {id}, \"text\": \"item {id}\"}}")).await
    }

    async fn with_items(line: impl Fn(u64) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("items.jsonl");
        let lines: Vec<String> = (0..12).map(line).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let store = Store::memory();
        let request = PlanRequest {
            input: Input::new(vec![file], FieldMapping::default(), Vec::new()),
            run: None,
            model: ModelRecord::hash(DIM as u32),
            embedding: EmbeddingChoices::default().resolve(Dtype::F32, DIM as u32).unwrap(),
            fleet: FleetSettings { shard_size: SHARD_SIZE, lease_seconds: 60.0 },
            balance: coordinator::plan::Balance::Count,
        };
        let planned = plan(&store, request, |_| {}).await.unwrap();
        let queue = Arc::new(MemoryQueue::new(Clock::system()));
        let settings = QueueSettings {
            max_attempts: 2,
            first_backoff: Duration::from_millis(1),
            longest_backoff: Duration::from_millis(1),
            ..QueueSettings::default()
        };
        let shards: Vec<NewShard> = planned
            .shards
            .iter()
            .map(|shard| NewShard {
                id: shard.id,
                bundle: shard.content_name().unwrap(),
                items: shard.items,
                part: None,
            })
            .collect();
        queue.add(&settings, &shards).await.unwrap();
        Self { run: Run::new(store, planned.plan, planned.shards).unwrap(), queue }
    }

    async fn work(&self, fault: Fault, stop_at_first_batch: bool) -> WorkerEnd {
        let stop = CancellationToken::new();
        let embedder =
            Faulty { fault, batches: AtomicUsize::new(0), stop: stop_at_first_batch.then(|| stop.clone()) };
        self.work_with(vec![Arc::new(embedder)], stop).await
    }

    async fn work_with(&self, embedders: Vec<Arc<dyn Embedder>>, stop: CancellationToken) -> WorkerEnd {
        let mut null_vector = [0.0; DIM];
        null_vector[1] = 1.0;
        let worker = Worker {
            id: WorkerId::fresh("test"),
            info: WorkerInfo { memory: embedders[0].memory(), ..info("a") },
            queue: self.queue.clone(),
            store: self.run.store.clone(),
            plan: Arc::new(self.run.plan.clone()),
            busy: Arc::new(BusyMeter::new(embedders.len())),
            embedders,
            null_vector: null_vector.as_slice().into(),
            settings: WorkerSettings {
                // Two items of six or seven bytes each.
                budget: BatchBudget(14),
                claim_poll: (Duration::from_millis(1), Duration::from_millis(2)),
                ..WorkerSettings::default()
            },
            stop,
            isolation: None,
        };
        worker.run().await.unwrap()
    }

    async fn snapshot(&self) -> Snapshot {
        self.queue.snapshot().await.unwrap().unwrap()
    }

    /// Another worker, on this machine, claims this shard and runs out of memory on an item.
    async fn run_out_on(&self, host: &str, shard: ShardId, item: u32) {
        let info = WorkerInfo { memory: MEMORY, ..info(host) };
        let claim = Claim { worker: WorkerId::fresh(host), info, nonce: ClaimNonce::fresh(), max: 3 };
        let ClaimReply::Leases(leases) = self.queue.claim(&claim).await.unwrap() else { panic!("no leases") };
        for lease in leases {
            if lease.shard == shard {
                let kind = FailKind::OutOfMemory { item, memory: MEMORY };
                self.queue.fail(&claim.worker, shard, lease.token, kind, "no memory").await.unwrap();
            } else {
                self.queue.release(&claim.worker, lease.shard, lease.token).await.unwrap();
            }
        }
    }

    /// The metadata of a shard's part.
    async fn metadata(&self, shard: ShardId) -> Metadata {
        let record = read_record(&self.run, Depth::Deep).await.unwrap();
        let name = &record.parts[&shard].name;
        let bytes = self.run.store.get(&layout::part_key(&self.run.plan.run, name)).await.unwrap();
        let expectation = self.run.expectation(self.run.position(shard).unwrap());
        validate_part(&name.part(), bytes, expectation).unwrap().metadata
    }

    async fn parts(&self) -> usize {
        read_record(&self.run, Depth::Deep).await.unwrap().parts.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_faults_every_shard_gets_its_part() {
    let scene = Scene::new().await;
    assert_eq!(scene.work(Fault::None, false).await, WorkerEnd::Finished);
    assert_eq!(scene.parts().await, 3);
    assert_eq!(scene.snapshot().await.items_done, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_shard_alone() {
    let scene = Scene::new().await;
    assert_eq!(scene.work(Fault::Panic, false).await, WorkerEnd::Stuck);
    let snapshot = scene.snapshot().await;
    assert_eq!((snapshot.shards.done, snapshot.shards.dead), (2, 1));
    assert_eq!(snapshot.failures[0].shard, ShardId(1));
    assert!(snapshot.failures[0].message.contains("the marked item"), "{:?}", snapshot.failures);
    assert_eq!(scene.parts().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_device_is_the_machines_fault_and_bans_it() {
    let scene = Scene::new().await;
    assert_eq!(scene.work(Fault::Device, false).await, WorkerEnd::Banned);
    let snapshot = scene.snapshot().await;
    assert_eq!(snapshot.shards.dead, 0, "no attempt is counted against the shard");
    assert!(snapshot.workers[0].banned);
    // Another machine does it.
    assert_eq!(scene.work(Fault::None, false).await, WorkerEnd::Finished);
    assert_eq!(scene.parts().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_memory_halves_the_batch_and_says_so() {
    let scene = Scene::new().await;
    assert_eq!(scene.work(Fault::Memory, false).await, WorkerEnd::Finished);
    for shard in [ShardId(0), ShardId(1), ShardId(2)] {
        assert_eq!(scene.metadata(shard).await.batch_reduced, shard == ShardId(1), "{shard}");
    }
}

/// Item 5 fails before it reaches the device, so that the marked item, the third of its shard, is the
/// second that the device sees.
async fn with_a_failed_item() -> Scene {
    Scene::with_items(|id| match id {
        5 => r#"{"id": 5, "text": "", "images": ["missing.png"]}"#.to_owned(),
        _ => format!(r#"{{"id": {id}, "text": "item {id}"}}"#),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_without_memory_for_it_bans_nobody() {
    let scene = with_a_failed_item().await;
    assert_eq!(scene.work(Fault::TooLarge, false).await, WorkerEnd::Stuck);
    let snapshot = scene.snapshot().await;
    assert_eq!((snapshot.shards.done, snapshot.shards.dead), (2, 1), "one machine alone proves nothing");
    assert_eq!(snapshot.failures[0].attempts, 2);
    let message = &snapshot.failures[0].message;
    assert!(message.contains("of 24.0 GiB") && message.contains("item 2 of the shard"), "{message}");
    assert_eq!((snapshot.workers[0].host_failures, snapshot.workers[0].banned), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_too_large_for_two_machines_is_listed_and_the_run_ends() {
    let scene = with_a_failed_item().await;
    // The worker's own failure must name the same item for the two to prove anything.
    scene.run_out_on("b", ShardId(1), 2).await;
    assert_eq!(scene.work(Fault::TooLarge, false).await, WorkerEnd::Finished);
    let snapshot = scene.snapshot().await;
    assert_eq!((snapshot.items_done, snapshot.items_failed), (10, 2));
    let metadata = scene.metadata(ShardId(1)).await;
    let failures: Vec<(u64, &str, ReasonKind)> = metadata
        .failures
        .iter()
        .flatten()
        .map(|failure| (failure.index, failure.id.as_str(), failure.kind))
        .collect();
    assert_eq!(failures, [(5, "5", ReasonKind::NothingToEmbed), (6, "6", ReasonKind::OutOfMemory)]);
    assert_eq!((metadata.count, metadata.batch_reduced), (2, true), "the others have their rows");
    // A larger machine, and a person who asks for it: the better part counts.
    assert!(scene.queue.requeue_done(ShardId(1)).await.unwrap());
    assert_eq!(scene.work(Fault::None, false).await, WorkerEnd::Finished);
    assert_eq!(scene.metadata(ShardId(1)).await.failed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_leases_back() {
    let scene = Scene::new().await;
    assert_eq!(scene.work(Fault::None, true).await, WorkerEnd::Stopped);
    let snapshot = scene.snapshot().await;
    assert_eq!(snapshot.shards.leased, 0);
    assert_eq!(snapshot.shards.pending + snapshot.shards.done, 3);
    assert!(snapshot.shards.pending > 0);
    assert!(snapshot.failures.is_empty(), "no attempt was counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bundle_fails_its_shard_by_name() {
    let scene = Scene::new().await;
    let name = scene.run.shards()[2].content_name().unwrap();
    let key = layout::bundle_key(&scene.run.plan.run, &name);
    scene.run.store.replace(&key, bytes::Bytes::from_static(b"other bytes")).await.unwrap();
    assert_eq!(scene.work(Fault::None, false).await, WorkerEnd::Stuck);
    let snapshot = scene.snapshot().await;
    assert_eq!(snapshot.failures[0].shard, ShardId(2));
    assert!(snapshot.failures[0].message.contains(&name.bundle()), "{:?}", snapshot.failures);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_is_computed_again_and_replaced() {
    let scene = Scene::new().await;
    assert_eq!(scene.work(Fault::None, false).await, WorkerEnd::Finished);
    let record = read_record(&scene.run, Depth::Deep).await.unwrap();
    let part = &record.parts[&ShardId(1)];
    let key = layout::part_key(&scene.run.plan.run, &part.name);
    let whole = scene.run.store.get(&key).await.unwrap();
    scene.run.store.replace(&key, whole.slice(..whole.len() - 1)).await.unwrap();
    let damaged = read_record(&scene.run, Depth::Deep).await.unwrap();
    assert_eq!((damaged.parts.len(), damaged.refused.len()), (2, 1));
    // Resumed as `coordinator resume` does it: the store says that the shard is not done.
    coordinator::resume::resume(scene.queue.as_ref(), &scene.run, &damaged, false).await.unwrap();
    assert_eq!(scene.snapshot().await.shards.pending, 1);
    assert_eq!(scene.work(Fault::None, false).await, WorkerEnd::Finished);
    assert_eq!(scene.run.store.get(&key).await.unwrap(), whole, "the same bytes again");
    assert_eq!(scene.parts().await, 3);
}

fn overlapping(fault: Fault) -> (Arc<dyn Embedder>, Arc<Mutex<Vec<&'static str>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let inner = Faulty { fault, batches: AtomicUsize::new(0), stop: None };
    (Arc::new(Overlapping { inner, events: Arc::clone(&events) }), events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_is_never_finite_is_the_shards_fault_and_bans_nobody() {
    let scene = Scene::new().await;
    assert_eq!(scene.work(Fault::NotFinite, false).await, WorkerEnd::Stuck);
    assert_eq!(scene.parts().await, 2);
    let snapshot = scene.snapshot().await;
    assert_eq!(snapshot.workers[0].host_failures, 0);
    let message = &snapshot.failures[0].message;
    assert!(message.contains("item 2 of the shard has no finite vector"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_without_any_row_are_published_too() {
    // All items of the first and of the last shard name an image that is missing, and have no text.
    let item = |id: u64| match id {
        4..8 => format!("{{\"id\": {id}, \"text\": \"item {id}\"}}"),
        _ => format!("{{\"id\": {id}, \"text\": \"\", \"images\": [\"none.png\"]}}"),
    };
    for devices in [1, 2] {
        let scene = Scene::with_items(item).await;
        let embedders = (0..devices).map(|_| overlapping(Fault::None).0).collect();
        assert_eq!(scene.work_with(embedders, CancellationToken::new()).await, WorkerEnd::Finished);
        assert_eq!(scene.parts().await, 3);
        let snapshot = scene.snapshot().await;
        assert_eq!((snapshot.items_done, snapshot.items_failed), (4, 8));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_starts_while_the_one_before_runs() {
    let scene = Scene::new().await;
    let (embedder, events) = overlapping(Fault::None);
    assert_eq!(scene.work_with(vec![embedder], CancellationToken::new()).await, WorkerEnd::Finished);
    assert_eq!(scene.parts().await, 3);
    let events = events.lock().unwrap();
    assert_eq!(events[..3], ["start", "start", "finish"], "two batches of the first shard overlap");
    assert_eq!(events.iter().filter(|event| **event == "start").count(), 6);
    let mut running = 0;
    for event in events.iter() {
        running += if *event == "start" { 1 } else { -1 };
        assert!((0..=2).contains(&running), "no more than one batch waits behind another");
    }
    assert_eq!(running, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_memory_behind_a_running_batch_halves_the_batch() {
    let scene = Scene::new().await;
    let (embedder, _) = overlapping(Fault::Memory);
    assert_eq!(scene.work_with(vec![embedder], CancellationToken::new()).await, WorkerEnd::Finished);
    assert_eq!(scene.parts().await, 3);
    assert_eq!(scene.snapshot().await.items_done, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_work_on_one_claim_loop() {
    let scene = Scene::new().await;
    let (first, first_events) = overlapping(Fault::None);
    let (second, second_events) = overlapping(Fault::None);
    assert_eq!(scene.work_with(vec![first, second], CancellationToken::new()).await, WorkerEnd::Finished);
    assert_eq!(scene.parts().await, 3);
    let batches = first_events.lock().unwrap().len() + second_events.lock().unwrap().len();
    assert_eq!(batches, 12, "each of the six batches started once and finished once");
}
